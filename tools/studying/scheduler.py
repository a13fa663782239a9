"""Runs the commands of a study, several at a time, each on one core; what is done already is left out."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tools.studying.files import Place, Record, RunLock, here, last_line, now
from tools.studying.jobs import Job, line, with_needs
from utils.command import stopping, watching

_POLL = 0.1  # seconds from one look at the processes to the next
_PATIENCE = 3.5  # seconds that commands have to end; `utils.command.watching` waits longer


@dataclass
class _Active:
    """A command that runs."""

    job: Job
    record: Record
    lock: RunLock
    process: subprocess.Popen[bytes]
    since: float
    before: float


class Scheduler:
    """A runner of jobs that goes on after failures, and shares the work with other runners of the same study.

    Args:
        place: where the study runs.
        at_once: number of commands at a time.
        say: prints a line.
        left: estimates the seconds that jobs take, one after another.
    """

    def __init__(
        self,
        place: Place,
        at_once: int,
        say: Callable[[str], object],
        left: Callable[[Sequence[Job]], float] = lambda jobs: 0.0,
    ) -> None:
        self._place, self._at_once, self._say, self._left = place, at_once, say, left
        self._waiting: list[Job] = []
        self._active: list[_Active] = []
        self._done: set[str] = set()
        self.failed: dict[str, str] = {}

    def run(self, jobs: Sequence[Job]) -> dict[str, str]:
        """Runs jobs, and first those that they need; returns the reason for each that failed, by name."""
        self._waiting = with_needs(jobs)
        try:
            while self._waiting or self._active:
                self._active = [one for one in self._active if not self._has_ended(one)]
                for job in list(self._waiting):
                    if len(self._active) < self._at_once and self._settle(job):
                        self._waiting.remove(job)
                if self._waiting or self._active:
                    time.sleep(_POLL)
        finally:
            self._stop()
        return self.failed

    def _settle(self, job: Job) -> bool:
        """Starts a job if it can be; returns False if it has to wait, for others or for another runner."""
        if broken := [needed.name for needed in job.needs if needed.name in self.failed]:
            self._fail(job, f"it needs {broken[0]}, which failed")
            return True
        if any(needed.name not in self._done for needed in job.needs):
            return False
        lock = RunLock(self._place.file(job, "lock"))
        if not lock.acquire():
            return False
        state = self._place.progress(job)
        if state == "done":
            self._done.add(job.name)
        elif state == "other":
            folder = self._place.root / "logs" / "SemanticKITTI" / job.run
            self._fail(job, f"{folder} is of another command (see {self._place.file(job, 'json')}); move both away")
        else:
            self._start(job, lock)
            return True
        lock.release()
        return True

    def _start(self, job: Job, lock: RunLock) -> None:
        """Starts a command, or goes on with it where it was stopped."""
        command, record = line(self._place.command(job)), self._place.record(job)
        if record is None or record.command != command or record.state == "done":
            record = Record(job.name, command)
        else:
            record.whole = False
        words = self._place.resuming(job)
        resumed = words != self._place.command(job)
        record.whole = record.whole and not resumed  # also what was begun by hand
        record.state, record.started, record.result = "running", now(), ""
        record.machine, record.packages = here()
        self._place.write(job, record)
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        with self._place.file(job, "txt").open("ab") as output, stopping.launching():
            output.write(f"$ {line(words)}\n".encode())
            output.flush()
            environment[watching.LAUNCHER] = os.environ[watching.LAUNCHER]  # it ends with this process
            process = subprocess.Popen(
                [sys.executable, *words],
                cwd=self._place.root,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=(lock.descriptor,),
            )
        self._active.append(_Active(job, record, lock, process, time.time(), record.seconds))
        self._say(f"{job.name}: {'goes on' if resumed else 'begins'}")

    def _has_ended(self, one: _Active) -> bool:
        """Looks whether a command has ended, and records how."""
        code = one.process.poll()
        if code is None:
            return False
        record, job = one.record, one.job
        record.seconds = one.before + time.time() - one.since
        record.result = self._place.result(job, one.since) if code == 0 else ""
        if code == 0 and job.what in ("test", "robustness") and not record.result:
            reason = "it ended well, but its scores are nowhere"
        else:
            reason = "" if code == 0 else f"exit code {code}: {last_line(self._place.file(job, 'txt'))}"
        record.state = "failed" if reason else "done"
        self._place.write(job, record)
        one.lock.release()
        if reason:
            self._fail(job, f"{reason} ({self._place.file(job, 'txt')})")
        else:
            self._done.add(job.name)
            rest = [waiting for waiting in self._waiting if waiting.name not in self._done]
            minutes = (
                self._left([*rest, *(other.job for other in self._active if other is not one)]) / self._at_once / 60
            )
            self._say(f"{job.name}: done in {record.seconds / 60:.1f} min; {len(rest)} to come, some {minutes:.0f} min")
        return True

    def _fail(self, job: Job, reason: str) -> None:
        self.failed[job.name] = reason
        self._say(f"{job.name}: failed, {reason}")

    def _stop(self) -> None:
        """Ends the commands that still run, after a signal or a failure of this program."""
        for one in self._active:
            one.process.terminate()
        until = time.monotonic() + _PATIENCE
        for one in self._active:
            try:
                one.process.wait(max(0.0, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                one.process.kill()
                one.process.wait()
            one.record.state = "stopped"
            one.record.seconds = one.before + time.time() - one.since
            self._place.write(one.job, one.record)
            one.lock.release()
        self._active = []
