"""A training that a signal asks to end saves, goes back into SLURM's queue, and goes on as if nothing had happened."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.conftest import ROOT, small_command
from tests.test_main import own_tree
from tests.test_resuming import assert_the_same_run

SAVED = "interrupted, saved after 2 of 3 steps of an epoch; --checkpoint last continues from "
ENDS = (
    ("all", "SIGUSR1", "start", 138, "interrupted; "),
    ("0", "SIGUSR1", "write", 138, "interrupted, before a validation; "),
    ("1", "SIGUSR1", "1.0", 138, SAVED),
    ("all", "SIGUSR1", "validation", 138, "interrupted; "),
    ("all", "SIGTERM", "1.2 twice", 143, "interrupted"),
    ("0", "SIGTERM", "never", 0, "best val/mIoU"),
)
"""One run, from end to end: which of two processes gets which signal, where, the exit code, and a line."""


@pytest.fixture
def queue(tmp_path: Path) -> Path:
    """A scontrol that writes what it is asked into a file."""
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "scontrol"
    program.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\n')
    program.chmod(0o755)
    return tmp_path / "asked"


def more_scans(folder: Path) -> tuple[str, ...]:
    """Settings for six training scans: three steps of two processes."""
    data, settings = own_tree(folder)
    for number in range(2, 6):
        for file in (data / "00").glob("*/000000.*"):
            (file.parent / f"00000{number}{file.suffix}").write_bytes(file.read_bytes())
    return (*settings, "train_params.max_num_epochs=2", "dataset_params.training_size=6")


def test_a_run_that_is_asked_to_end_saves_and_goes_on(programs, tmp_path, monkeypatch, queue) -> None:
    """Two processes, with a loader process each; the same command goes on to the last bit, wherever it was ended."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    settings = (*more_scans(tmp_path), "dataset_params.train_data_loader.num_workers=1")
    command = small_command("--baseline_only", "--resume", settings=settings)
    place = command.index("--cpu")
    command[place + 1 : place + 1] = ["2"]
    program = ROOT / "tests" / "interrupted.py"
    for *end, code, line in ENDS:
        done = programs.run_as_torchrun(program, *end, "--log_dir", "asked", *command)
        said = "".join(f"{each.stdout}{each.stderr}" for each in done)
        assert [each.returncode for each in done] == [code, code], said
        assert line in said and "Traceback" not in said, said
    assert queue.read_text() == "requeue 7\n" * 8  # at SIGUSR1, by each process before it ends
    programs.run_as_torchrun(program, "0", "SIGTERM", "never", "--log_dir", "whole", *command)
    (begun,) = Path("logs/SemanticKITTI/asked").glob("version_*")
    assert_the_same_run(begun, Path("logs/SemanticKITTI/whole/version_0"))
