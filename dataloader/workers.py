"""Loader processes: how they start, and how their batches reach the main process when shared memory is short."""

from __future__ import annotations

import ctypes
import errno
import multiprocessing.queues
import os
import pickle
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from traceback import walk_tb
from typing import Any

from torch._utils import ExceptionWrapper
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from utils.command.terminal import say_error
from utils.errors import UserError
from utils.memory import keep_freed_memory

# Error numbers of a semaphore that cannot be made; a process that cannot be started has others.
_NO_SEMAPHORE = (errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENOSYS)
_PR_SET_PDEATHSIG = 1  # option of prctl: a signal that the process gets when its parent ends


@contextmanager
def starting_workers() -> Iterator[None]:
    """Guards the creation of a loader's iterator, which starts the loader processes.

    The queues of the processes have semaphores, which lie in shared memory. If a semaphore cannot be made, a process
    cannot be started, or a signal arrives meanwhile, torch leaves a half-made iterator, which prints a traceback when
    it is deleted. This guard stops the processes and prevents the traceback.

    Raises:
        UserError: shared memory is full or cannot be used.
    """
    try:
        yield
    except BaseException as error:
        for frame, _ in walk_tb(error.__traceback__):
            if isinstance(made := frame.f_locals.get("self"), _MultiProcessingDataLoaderIter):
                made._shutdown = True  # so that deleting it does nothing
                for worker in getattr(made, "_workers", ()):
                    worker.kill()
        if not isinstance(error, OSError) or error.filename is not None or error.errno not in _NO_SEMAPHORE:
            raise
        raise UserError(
            f"shared memory (/dev/shm) cannot be used by loader processes ({error.strerror}); give it more room "
            "(docker run --shm-size=8g), or set num_workers of train_data_loader and val_data_loader to 0"
        ) from error


def start_worker(number: int) -> None:
    """Prepares a loader process; it is the `worker_init_fn` of a loader.

    A loader process hands its batches to a thread, which puts the tensors into shared memory (/dev/shm). If there is no
    space or no file descriptor left, that thread prints a traceback and drops the batch, and the main process would
    wait for it for ever. Here the batch is sent by value instead, through a pipe; if that fails too, the error is sent.
    """

    def send_otherwise(queue: Any, error: Exception, item: tuple[Any, Any]) -> None:
        index, content = item
        try:
            other: Any = ExceptionWrapper() if isinstance(content, _ByValue | ExceptionWrapper) else _ByValue(content)
        except Exception:
            other = ExceptionWrapper(where=f"in DataLoader worker process {number}")
        queue.put((index, other))

    if sys.platform == "linux":  # elsewhere it checks for its parent only every five seconds
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        _obey_only_the_parent()
    keep_freed_memory()  # for the next item
    for fault in (signal.SIGBUS, signal.SIGSEGV, signal.SIGFPE):
        signal.signal(fault, signal.SIG_DFL)  # torch would print a line; the main process reports it
    multiprocessing.queues.Queue._on_queue_feeder_error = send_otherwise  # type: ignore[attr-defined]


def _obey_only_the_parent() -> None:
    """Makes SIGTERM end this process only if its parent sends it.

    Schedulers send SIGTERM to all processes of a job, and the main process may still need batches, to save after a
    step. Without loader processes it could not.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})

    def wait() -> None:
        while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
            pass
        os._exit(0)

    threading.Thread(target=wait, daemon=True).start()


class _ByValue:
    """A wrapper that arrives in another process as its content, with tensors in that process's own memory."""

    def __init__(self, content: Any) -> None:
        self._pickled = pickle.dumps(content, protocol=pickle.HIGHEST_PROTOCOL)

    def __reduce__(self) -> tuple[Any, ...]:
        return _arrive, (self._pickled,)


_noted = False


def _arrive(pickled: bytes) -> Any:
    global _noted
    if not _noted:
        _noted = True
        say_error(
            "note: shared memory (/dev/shm) or file descriptors are short, so batches of the loader processes are "
            "copied through a pipe, which takes longer; give more (docker run --shm-size=8g; ulimit -n), or lower "
            "num_workers",
            below_a_bar=True,
        )
    return pickle.loads(pickled)
