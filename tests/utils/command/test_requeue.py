"""What is said of a job that goes back into SLURM's queue; `tests/test_interrupted.py` has the whole run."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from utils.command import requeue, stopping

ANSWERS = {
    "taken": ("exit 0", True, "\njob 7_3 is in the queue again\n"),
    "another process was first": (
        "echo 'slurm: Job is pending execution' >&2; exit 1",
        True,
        "\njob 7_3 is in the que",
    ),
    "refused": (
        "echo 'Requested operation is presently disabled' >&2; exit 1",
        True,
        "\nerror: scontrol requeue 7_3: Requested operation is presently disabled; start the job again yourself\n",
    ),
    "not the process that speaks": ("exit 1", False, ""),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_every_process_asks_and_one_speaks(tmp_path: Path, monkeypatch, capfd, name) -> None:
    answer, speaks, said = ANSWERS[name]
    (tmp_path / "scontrol").write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/asked\n{answer}\n')
    (tmp_path / "scontrol").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "7")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    acts = {}
    monkeypatch.setattr(stopping, "before_the_end", acts.__setitem__)
    requeue.requeue_when_asked(speaks)
    acts.pop(signal.SIGUSR1)()
    assert not acts and (tmp_path / "asked").read_text() == "requeue 7_3\n"
    found = capfd.readouterr().err
    assert found.startswith(said) and bool(found) == bool(said)
