"""Commands side by side: one at a time where that is wanted, and folders of their own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.processes import held_by_another, start
from utils.errors import UserError
from utils.locks import Lock, locked, new_folder
from utils.results.run_folder import only_training_in, training_folder

COUNT = """
import sys, time
from pathlib import Path
from utils.locks import locked
number = Path(sys.argv[1])
for _ in range(40):
    with locked(number.with_name(".lock")):
        value = int(number.read_text())
        time.sleep(0.0005)
        number.write_text(str(value + 1))
"""


def test_one_process_at_a_time_passes(tmp_path: Path) -> None:
    """The file of the lock is removed again and again, which must let nobody in."""
    (tmp_path / "number").write_text("0")
    processes = [start(COUNT, tmp_path / "number") for _ in range(4)]
    assert [process.communicate(timeout=60)[1] for process in processes] == [""] * 4
    assert (tmp_path / "number").read_text() == "160"
    assert os.listdir(tmp_path) == ["number"]


def test_a_lock_that_is_held(tmp_path: Path) -> None:
    path, waited = tmp_path / ".lock", []
    with held_by_another(path) as holder:
        assert not Lock(path).acquire(wait=False)

        def let_go() -> None:
            waited.append(True)
            holder.kill()  # however it ends, the lock is free

        with locked(path, waiting=let_go):
            assert waited
    assert not path.exists()


def test_where_no_lock_can_be_made_everybody_passes(tmp_path: Path) -> None:
    assert Lock(tmp_path / "none" / ".lock").acquire(wait=False)
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", "."):
        lock = Lock(tmp_path / name)
        assert lock.acquire(wait=False)
        lock.release()


def test_new_folders_are_nobody_elses(tmp_path: Path) -> None:
    made = [new_folder(tmp_path / "logs" / "test_1").name for _ in range(3)]
    assert made == ["test_1", "test_1-2", "test_1-3"]
    (tmp_path / "file").write_text("")
    assert new_folder(tmp_path / "file").name == "file-2"
    assert [training_folder(tmp_path, None).name for _ in range(2)] == ["version_0", "version_1"]


def test_one_training_runs_in_a_folder(tmp_path: Path) -> None:
    with held_by_another(tmp_path / ".lock"), pytest.raises(UserError, match="another training is running in it"):
        only_training_in(tmp_path).__enter__()
    with only_training_in(tmp_path):
        pass
    assert not os.listdir(tmp_path)
