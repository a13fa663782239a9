"""Loader processes that cannot hand over a batch, or are lost."""

from __future__ import annotations

import ctypes
import errno
import gc
import multiprocessing
import multiprocessing.context
import os
import signal
import sys
import time
from dataclasses import dataclass
from multiprocessing.reduction import ForkingPickler
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from dataloader import workers
from dataloader.datamodule import LazyLoader
from utils.command.failures import explain
from utils.command.process import run_command


@dataclass
class Unshared:
    """Something that cannot be put into shared memory; see `_refuse`."""

    tensor: torch.Tensor


def _refuse(item: Unshared) -> Any:
    raise RuntimeError("unable to allocate shared memory(shm) for file </torch_1>: No space left on device (28)")


ForkingPickler.register(Unshared, _refuse)


class Items(torch.utils.data.Dataset[Any]):
    """Items of which some make trouble on their way."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> Any:
        if self.kind == "unshared":
            return Unshared(torch.full((3,), index))
        if self.kind == "signal of a parent's end":
            number = ctypes.c_int(0)
            ctypes.CDLL(None).prctl(2, ctypes.byref(number))  # PR_GET_PDEATHSIG
            return number.value
        if index == 2:
            if self.kind == "unpicklable":
                return lambda: None
            os.kill(os.getpid(), signal.Signals[self.kind])
        return index


def loaded(kind: str) -> list[Any]:
    # Forked: a process started afresh would not know what was registered above.
    loader = DataLoader(
        Items(kind), batch_size=None, num_workers=2, worker_init_fn=workers.start_worker, multiprocessing_context="fork"
    )
    return list(loader)


def test_without_shared_memory_batches_come_all_the_same(monkeypatch, capsys) -> None:
    monkeypatch.setattr(workers, "_noted", False)
    items = loaded("unshared")
    assert [item.tensor.tolist() for item in items] == [[index] * 3 for index in range(4)]
    assert not any(item.tensor.is_shared() for item in items)
    assert capsys.readouterr().err.count("note: shared memory (/dev/shm)") == 1


def test_what_cannot_be_sent_at_all_is_an_error_and_no_wait() -> None:
    with pytest.raises(Exception, match="in DataLoader worker process"):
        loaded("unpicklable")


@pytest.mark.parametrize(("kind", "said"), [("SIGKILL", "memory of this machine"), ("SIGBUS", "/dev/shm")])
def test_a_lost_worker_is_one_line(kind, said, capfd) -> None:
    with pytest.raises(RuntimeError) as caught:
        loaded(kind)
    assert said in str(explain(caught.value))
    assert capfd.readouterr().err == ""  # nothing of torch's beside it


@pytest.mark.parametrize("made", [0, 3, 5])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EMFILE, None])
def test_loader_processes_that_cannot_start_are_one_line(number, made, monkeypatch, capfd) -> None:
    """A semaphore takes room in /dev/shm; some are made before one is refused."""
    make, left = multiprocessing.context.BaseContext.Lock, iter(range(made))

    def refuse(self) -> Any:
        if next(left, None) is None:
            raise KeyboardInterrupt if number is None else OSError(number, os.strerror(number))
        return make(self)

    monkeypatch.setattr(multiprocessing.context.BaseContext, "Lock", refuse)
    loader = LazyLoader(Items("sound"), batch_size=None, num_workers=2, worker_init_fn=workers.start_worker)  # type: ignore[arg-type]
    assert run_command(lambda: [None for _ in loader].clear()) == (130 if number is None else 2)
    gc.collect()
    (line,) = capfd.readouterr().err.splitlines()
    assert line == "interrupted" if number is None else "num_workers" in line
    assert ("/dev/shm" in line) == (number in (errno.ENOSPC, errno.EROFS))


@pytest.mark.skipif(sys.platform != "linux", reason="a call of Linux")
def test_a_worker_ends_with_its_parent_however_that_ends() -> None:
    assert loaded("signal of a parent's end") == [signal.SIGKILL] * 4


@pytest.mark.skipif(sys.platform != "linux", reason="a call of Linux")
def test_a_worker_obeys_its_parent_alone() -> None:
    """A scheduler's SIGTERM to all processes of a job leaves the batches that a training needs to save after a step."""
    assert loaded("SIGTERM") == [0, 1, 2, 3]
    worker = multiprocessing.get_context("fork").Process(target=lambda: (workers.start_worker(0), time.sleep(60)))
    worker.start()
    time.sleep(0.2)
    worker.terminate()
    worker.join(20)
    assert worker.exitcode in (0, -signal.SIGTERM)
