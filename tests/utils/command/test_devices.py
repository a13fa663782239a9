"""How commands end when memory runs out or a loader process is lost, and what launchers have started."""

from __future__ import annotations

import os
import re

import pytest
import torch

from utils.command.devices import choose_devices
from utils.command.flags import Parser, add_shared_flags
from utils.command.process import run_program
from utils.errors import UserError


def allocate_too_much() -> None:
    torch.empty(1 << 60, dtype=torch.uint8)


def no_python_memory() -> None:
    raise MemoryError


def no_gpu_memory() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of ...")


def no_gpu_memory_outside_of_torch() -> None:
    raise RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")


def no_descriptors() -> None:
    raise RuntimeError("Too many open files. Communication with the workers is no longer possible. Please increase the")


def lost_loader(how: str):
    def command() -> None:
        raise RuntimeError(f"DataLoader worker (pid{how}")

    return command


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (no_gpu_memory_outside_of_torch, "the memory of the GPU is used up;"),
        (lost_loader(" 7) is killed by signal: Killed. "), "a loader process was killed, as the system does when the"),
        (
            lost_loader(" 7) is killed by signal: Bus error. It is possible that"),
            "shared memory (/dev/shm) is used up;",
        ),
        (lost_loader(" 7) is killed by signal: Segmentation fault. "), "a loader process was ended by the signal Seg"),
        (lost_loader("(s) 7, 8) exited unexpectedly"), "a loader process ended unexpectedly; start again, with num_"),
        (no_descriptors, "too many open files; raise the limit of the shell (ulimit -n)"),
        (allocate_too_much, "the memory of this machine is used up"),
        (no_python_memory, "the memory of this machine is used up;"),
        (no_gpu_memory, "the memory of the GPU is used up (20.00 GiB more were wanted); lower dataset_params."),
    ],
)
def test_memory_that_runs_out_ends_in_one_line(command, said, capsys) -> None:
    assert run_program(command) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.strip().startswith(f"error: {said}") and err.strip().count("\n") == 0


def test_other_runtime_errors_keep_their_traceback() -> None:
    def fault() -> None:
        raise RuntimeError("size mismatch")

    with pytest.raises(RuntimeError, match="size mismatch"):
        run_program(fault)


@pytest.mark.parametrize(
    ("variables", "cpu", "nodes", "said"),
    [
        ({"LOCAL_RANK": "0", "WORLD_SIZE": "2"}, 1, 1, "2 processes were started, but the flags ask for 1"),
        ({"SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2"}, 1, 1, "2 processes were started"),
        ({"SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "1"}, 2, 1, "SLURM was given --ntasks-per-node=1"),
        ({"SLURM_NTASKS": "2", "SLURM_NNODES": "2"}, 2, 1, "SLURM was given --nodes=2"),
        ({"SLURM_NTASKS": "x"}, 1, 1, "SLURM_NTASKS is 'x'"),
        ({}, 1, 2, "--num_nodes wants a launcher"),
        ({"MASTER_ADDR": "a\x1b..b"}, 2, 1, r"MASTER_ADDR is 'a\x1b..b', no host"),
        ({"SLURM_NTASKS": "4", "SLURM_NTASKS_PER_NODE": "2", "SLURM_NNODES": "2"}, 2, 2, None),
        ({"SLURM_NTASKS": "4", "SLURM_JOB_NAME": "interactive"}, 2, 1, None),
    ],
)
def test_flags_fit_what_a_launcher_has_started(variables, cpu, nodes, said, monkeypatch) -> None:
    for name in [name for name in os.environ if name.startswith(("SLURM_", "MASTER_", "LOCAL_RANK", "WORLD_SIZE"))]:
        monkeypatch.delenv(name)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    if said is None:
        assert choose_devices([], cpu, nodes).count == cpu * nodes
    else:
        with pytest.raises(UserError, match=re.escape(said)):
            choose_devices([], cpu, nodes)


@pytest.mark.parametrize("arguments", [["--checkpoint", ""], ["--checkpoint="], ["--set", "a=1", ""]])
def test_an_empty_value_is_not_a_flag_left_out(arguments, capsys) -> None:
    """`--checkpoint "$LAST"` of a script that has no LAST would begin a training anew."""
    parser = Parser()
    add_shared_flags(parser)
    assert parser.parse_args(["--set", "dataset_params.training_size="]).set == ["dataset_params.training_size="]
    with pytest.raises(SystemExit) as end:
        parser.parse_args(arguments)
    message = capsys.readouterr().err.splitlines()[-1]
    assert end.value.code == 2 and f"an empty text behind {arguments[-2:][0].rstrip('=')};" in message


@pytest.mark.parametrize("text", ["-1", "4294967296", "9" * 5000, "\u00b2", "1.0", "0x1"])
def test_numbers_of_flags_are_bounded(text, capsys) -> None:
    parser = Parser()
    add_shared_flags(parser)
    with pytest.raises(SystemExit) as end:
        parser.parse_args(["--seed", text])
    assert end.value.code == 2 and "is not a whole number from 0 to 4294967295" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        parser.parse_args(["--\x1b[31m"])
    assert "--\\x1b[31m" in capsys.readouterr().err
