"""The scheduler of a study, on programs in place of ours: order, failures, kills, and several of them at once."""

from __future__ import annotations

import signal
import threading
import time

import pytest

from tests.support.processes import is_alive, start, until
from tests.tools.studying.conftest import started
from tools.studying import files
from tools.studying.files import Place, RunLock
from tools.studying.jobs import line, scoring, training, with_needs
from tools.studying.plan import Arm, Row
from tools.studying.scheduler import Scheduler

ONE = Arm("one", "one", "MinkowskiNet", "MinkowskiNet-demo")
OTHER = Arm("other", "other", "2DPASS", "2DPASS-demo", start=ONE, taking=("--fine_tune",))


def run(place: Place, *jobs, at_once=2):
    said: list[str] = []
    return Scheduler(place, at_once, said.append).run(jobs), said


def state_of(place: Place, *jobs):
    return [place.state(job) for job in jobs]


def test_a_test_runs_behind_what_it_needs_and_everything_once(place):
    jobs = [scoring(Row(OTHER), 1), scoring(Row(ONE), 1), scoring(Row(ONE, views=4), 1)]
    failed, said = run(place, *jobs)
    assert failed == {}
    order = started(place)
    assert order[0].startswith("make_demo_data") and order[1] == "study_one_seed1 main -"
    checkpoint = "logs/SemanticKITTI/study_one_seed1/version_0/last.ckpt"
    assert sorted(order[2:]) == sorted(
        [
            f"study_other_seed1 main {checkpoint}",
            "study_other_seed1 test last",
            *["study_one_seed1 test last"] * 2,
        ]
    )
    assert len([line for line in said if "done in" in line]) == len(order) == 6
    assert set(state_of(place, *with_needs(jobs))) == {"done"}
    record = place.record(jobs[2])
    assert record is not None and record.result.endswith("test_4/scores.json") and record.packages["torch"]
    assert record.command == line(jobs[2].words)
    run(place, *jobs)
    assert started(place) == order


def test_a_failure_is_told_and_the_others_go_on(place):
    (place.root / "fail_study_one_seed1").touch()
    jobs = [scoring(Row(OTHER), 1), scoring(Row(ONE), 2)]
    failed, _ = run(place, *jobs, at_once=1)
    assert list(failed) == ["one_seed1", "other_seed1", "other_seed1_views1"]
    assert "error: as it was told" in failed["one_seed1"] and "one_seed1.txt" in failed["one_seed1"]
    assert "it needs one_seed1" in failed["other_seed1"]
    assert state_of(place, training(ONE, 1), jobs[0], jobs[1]) == ["failed", "waiting", "done"]
    (place.root / "fail_study_one_seed1").unlink()
    assert run(place, *jobs)[0] == {}


_RUN = """
import sys
from utils.command.start import begin
begin()
from pathlib import Path
from tests.tools.studying.test_scheduler import ONE, Place, Row, Scheduler, scoring
from utils.command.process import run_command
place = Place(Path(sys.argv[1]))
sys.exit(run_command(lambda: Scheduler(place, 2, print).run([scoring(Row(ONE), seed) for seed in (1, 2)])))
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_study_that_was_ended_goes_on_from_the_last_checkpoints(place, number):
    waits = [place.root / f"wait_study_one_seed{seed}_1" for seed in (1, 2)]
    for wait in waits:
        wait.touch()
    jobs = [training(ONE, seed) for seed in (1, 2)]
    checkpoints = [place.root / "logs/SemanticKITTI" / job.run / "version_0" / "history.jsonl" for job in jobs]
    study = start(_RUN, place.root)
    assert until(lambda: all(path.exists() and len(path.read_text().splitlines()) == 2 for path in checkpoints))
    assert state_of(place, *jobs) == ["running", "running"]
    study.send_signal(number)
    study.communicate(timeout=20)
    if number == signal.SIGTERM:
        assert study.returncode == 143
        assert state_of(place, *jobs) == ["stopped", "stopped"]
    else:  # the commands of these tests do not watch their parent: as long as they run, the runs are theirs
        assert state_of(place, *jobs) == ["running", "running"]
        before = started(place)
        waiting = threading.Thread(target=run, args=(place, *jobs))
        waiting.start()
        waiting.join(0.5)
        assert waiting.is_alive() and started(place) == before
    for wait in waits:
        wait.unlink()
    if number == signal.SIGKILL:
        waiting.join(20)
        assert not waiting.is_alive()
    else:
        run(place, *jobs)
    assert state_of(place, *jobs) == ["done", "done"]
    assert started(place)[-1].endswith(" main last")
    assert all(len(path.read_text().splitlines()) == 3 for path in checkpoints)
    assert all((record := place.record(job)) is not None and not record.whole for job in jobs)


def test_two_schedulers_share_the_work(place):
    jobs = [scoring(Row(ONE), seed) for seed in range(1, 5)]
    runners = [threading.Thread(target=run, args=(place, *jobs), kwargs={"at_once": 1}) for _ in range(2)]
    for runner in runners:
        runner.start()
    for runner in runners:
        runner.join(30)
    order = started(place)
    assert len(order) == len(set(order)) == 1 + 2 * len(jobs)
    assert set(state_of(place, *jobs)) == {"done"}


def test_a_run_of_another_command_stays_as_it_is(place):
    run(place, training(ONE, 1))
    changed = Arm("one", "one", "MinkowskiNet", "MinkowskiNet-demo", ("train_params.learning_rate=1",))
    failed, _ = run(place, scoring(Row(changed), 1))
    assert "of another command" in failed["one_seed1"] and "it needs one_seed1" in failed["one_seed1_views1"]
    assert len(started(place)) == 2


def test_a_run_that_was_made_by_hand_is_taken_over_without_its_duration(place):
    job = training(ONE, 1)
    run(place, job)
    place.file(job, "json").unlink()
    run(place, job)
    record = place.record(job)
    assert state_of(place, job) == ["done"] and record is not None and not record.whole
    assert started(place)[-1] == "study_one_seed1 main last"


def test_a_removed_run_is_made_again(place):
    job = scoring(Row(ONE), 1)
    run(place, job)
    (place.root / "logs/SemanticKITTI/study_one_seed1/version_0/last.ckpt").unlink()
    assert state_of(place, training(ONE, 1)) == ["waiting"]
    time.sleep(1.1)  # records have seconds
    run(place, training(ONE, 1))
    assert state_of(place, job) == ["waiting"]  # its scores are of the weights that are gone
    run(place, job)
    assert started(place)[-2:] == ["study_one_seed1 main -", "study_one_seed1 test last"]


def test_the_lock_is_held_until_the_command_ends(tmp_path):
    lock = RunLock(tmp_path / "lock")
    assert lock.acquire() and files.is_locked(tmp_path / "lock")
    child = start("import sys; sys.stdin.read()", stdin=-1, pass_fds=(lock.descriptor,))
    lock.release()
    assert files.is_locked(tmp_path / "lock") and is_alive(child.pid)
    child.communicate("")
    assert not files.is_locked(tmp_path / "lock")
