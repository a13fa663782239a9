"""How commands end when memory runs out."""

from __future__ import annotations

import pytest
import torch

from utils import cli


def allocate_too_much() -> None:
    torch.empty(1 << 60, dtype=torch.uint8)


def no_python_memory() -> None:
    raise MemoryError


def no_gpu_memory() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of ...")


def no_gpu_memory_outside_of_torch() -> None:
    raise RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")


def no_memory_for_a_loader() -> None:
    raise RuntimeError("DataLoader worker (pid 17) is killed by signal: Killed. ")


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (no_gpu_memory_outside_of_torch, "the memory of the GPU is used up;"),
        (no_memory_for_a_loader, "the memory of this machine is used up;"),
        (allocate_too_much, "the memory of this machine is used up"),
        (no_python_memory, "the memory of this machine is used up;"),
        (no_gpu_memory, "the memory of the GPU is used up (20.00 GiB more were wanted); lower dataset_params."),
    ],
)
def test_memory_that_runs_out_ends_in_one_line(command, said, capsys) -> None:
    assert cli.run(command) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.strip().startswith(f"error: {said}") and err.strip().count("\n") == 0


def test_other_runtime_errors_keep_their_traceback() -> None:
    def fault() -> None:
        raise RuntimeError("size mismatch")

    with pytest.raises(RuntimeError, match="size mismatch"):
        cli.run(fault)
