"""A tracker that fails or hangs does not touch the training; it is told how the training ended."""

from __future__ import annotations

import threading
from itertools import pairwise

import pytest

from network.training.loggers import shown_scans
from network.training.trackers import tracker as module
from network.training.trackers.csv_run import CSVRun
from network.training.trackers.run import Ending, Training
from network.training.trackers.run_ids import keep_run, known_run
from network.training.trackers.tracker import Tracker
from tests.support.training import train


class Recorded:
    """A run that keeps what it is given, and then may fail or wait for ever."""

    where = "somewhere"

    def __init__(self, failing: str = "", hanging: str = "") -> None:
        self.failing, self.hanging = failing, hanging
        self.given: list[str] = []
        self.ended: Ending | None = None

    def _take(self, what: str) -> None:
        self.given.append(what)
        if what == self.failing:
            raise ConnectionError(f"{what} \x1b at http://me:secret@host/ failed\nwith more lines")
        if what == self.hanging:
            threading.Event().wait(20)

    def settings(self, values, step) -> None:
        self._take("settings")

    def numbers(self, values, step) -> None:
        self._take("numbers")

    def text(self, name, text, step) -> None:
        self._take("text")

    def picture(self, name, path, step) -> None:
        self._take("picture")

    def close(self, ending) -> None:
        self._take("close")
        self.ended = ending


@pytest.fixture(params=[False, True], ids=["at once", "in a thread"])
def opened(request):
    """Opens a tracker of a run."""

    def make(run: Recorded) -> Tracker:
        tracker = Tracker("wandb", lambda: run, request.param, "kept in a folder")
        assert tracker.open() == "somewhere"
        return tracker

    return make


@pytest.mark.parametrize("failing", ["numbers", "close"])
def test_a_training_goes_on_when_its_tracker_fails(failing, opened, tmp_path, capsys) -> None:
    run, other = Recorded(failing), Recorded()
    train(tmp_path / "version_0", loggers=[opened(run), opened(other)])
    assert run.given[-1] == failing and run.given.count(failing) == 1
    assert other.given[-1] == "close" and other.given.count("numbers") > 4 and other.ended == "finished"
    said = [line for line in capsys.readouterr().err.splitlines() if "--logger" in line]
    assert said == [
        f"note: --logger wandb: ConnectionError {failing} \\x1b at http://host/ failed; goes on without it "
        "(kept in a folder)"
    ]


@pytest.mark.parametrize("hanging", ["numbers", "close"])
def test_a_training_does_not_wait_for_its_tracker(hanging, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(module, "SILENCE", 0.0)
    monkeypatch.setattr(module, "CLOSING", {"finished": 0.05})
    tracker = Tracker("mlflow", lambda: Recorded(hanging=hanging), in_thread=True)
    tracker.open()
    train(tmp_path / "version_0", loggers=[tracker])
    assert capsys.readouterr().err.count("--logger mlflow: no answer for") == 1


def test_a_tracker_that_does_not_begin_is_left_out(monkeypatch, capsys) -> None:
    answered, run = threading.Event(), Recorded()
    monkeypatch.setattr(module, "OPENING", 0.01)

    def begin() -> Recorded:
        answered.wait(20)
        return run

    tracker = Tracker("mlflow", begin, in_thread=True)
    assert tracker.open() == ""
    answered.set()
    tracker.log_metrics({"a": 1.0}, 1)
    tracker.finalize("success")
    assert tracker._ended.wait(20) and run.given == ["close"] and run.ended == "failed"
    assert capsys.readouterr().err.count("--logger mlflow: no answer for 0.01 s; goes on without it") == 1


@pytest.mark.parametrize(("error", "ending"), [(KeyboardInterrupt(), "killed"), (ValueError(), "failed")])
def test_the_run_is_told_how_the_training_ended(error, ending, opened) -> None:
    run = Recorded()
    tracker = opened(run)
    with pytest.raises(type(error)):
        try:
            raise error
        except BaseException:
            tracker.finalize("failed")
            tracker.finalize("success")
            raise
    assert run.ended == ending and run.given == ["close"]


def test_another_process_gives_nothing() -> None:
    tracker = Tracker("csv", lambda: pytest.fail("opened"))
    tracker.log_metrics({"a": 1.0}, 1)
    tracker.finalize("success")


@pytest.mark.parametrize("world_size", [1, 2, 3, 8])
def test_scans_for_pictures_are_spread_and_belong_to_the_first_process(world_size) -> None:
    for count in (1, 2, 3, 7, 100, 4071):
        chosen = shown_scans(count, world_size)
        assert chosen == sorted(set(chosen)) and 1 <= len(chosen) <= 3
        assert all(0 <= index < count and index % world_size == 0 for index in chosen)
        if count >= 100:
            assert len(chosen) == 3 and min(b - a for a, b in pairwise(chosen)) > count // 4


def test_rows_of_a_table_are_kept_up_to_the_resumed_step(tmp_path) -> None:
    folder = tmp_path / "version_0"
    folder.mkdir()
    (folder / "metrics.csv").write_text('step,a,"b,c"\n0,0.5,\n1,0.25,"x, y"\n2,0.125,\n3,0.1')  # killed in a row
    run = CSVRun(Training(folder, "data", "name", steps=2))
    run.numbers({"a": 7.0, "new": 8.0}, 2)
    run.numbers({"a": 9.0}, 3)
    lines = (folder / "metrics.csv").read_text().splitlines()
    assert lines == ['a,"b,c",new,step', "0.5,,,0", '0.25,"x, y",,1', "7.0,,8.0,2", "9.0,,,3"]


def test_a_new_training_begins_a_new_table(tmp_path) -> None:
    CSVRun(Training(tmp_path, "data", "name")).numbers({"a": 1.0}, 0)
    CSVRun(Training(tmp_path, "data", "name")).numbers({"b": 2.0}, 0)
    assert (tmp_path / "metrics.csv").read_text().split() == ["b,step", "2.0,0"]


@pytest.mark.parametrize("content", [b"", b"../x", b"a b", b"-x", b"\xff", b"x" * 200, b"a\nb"])
def test_a_damaged_name_of_a_run_is_none(content, tmp_path) -> None:
    (tmp_path / "mlflow_run.txt").write_bytes(content)
    assert known_run(tmp_path, "mlflow") is None and known_run(tmp_path, "wandb") is None
    keep_run(tmp_path, "mlflow", "3f2a")
    assert known_run(tmp_path, "mlflow") == "3f2a"
