"""The files of a study: what main.py writes below logs/, and beside it a record and the output of each command.

logs/SemanticKITTI/study_<arm>_seed<N>/    as main.py writes it
logs/study/<job>.json                      the record of a command
                .txt                       what it printed
                .lock                      held as long as it runs
"""

from __future__ import annotations

import fcntl
import json
import math
import os
import platform
import re
import subprocess
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal, get_args

from tools.studying.jobs import Job, line
from utils.errors import UserError
from utils.files import read_text, write_text
from utils.paths import REPOSITORY
from utils.results.run_folder import LAST, find_checkpoint
from utils.robustness.run import SUMMARY

RECORDS = Path("logs") / "study"
RUNS = Path("logs") / "SemanticKITTI"
_PACKAGES = ("torch", "pytorch-lightning", "numpy", "scipy", "transformers")

Recorded = Literal["running", "done", "failed", "stopped"]
State = Recorded | Literal["waiting", "other"]
"""other: its folder belongs to another command."""
_RECORDED = get_args(Recorded)


@dataclass
class Record:
    """A record of what is known about a command that was started.

    Attributes:
        name: of the job.
        command: as it is typed, without the flags that resume it.
        state: "running" also after a kill of everything.
        seconds: time that it took, over all its starts.
        whole: whether it ran in one piece, so that `seconds` tells how long such a command takes.
        started: of the last start, ISO 8601.
        result: file with the figures, relative to the folder of the study; "" if it writes none.
        machine, packages: where it ran.
    """

    name: str
    command: str
    state: Recorded = "running"
    seconds: float = 0.0
    whole: bool = True
    started: str = ""
    result: str = ""
    machine: str = ""
    packages: dict[str, str] = field(default_factory=dict)


class Place:
    """The folder in which a study runs: the root of the repository, unless a test has its own.

    Args:
        root: where the commands run.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.records = root / RECORDS

    def file(self, job: Job, ending: str) -> Path:
        """Returns logs/study/<job>.<ending>."""
        return self.records / f"{job.name}.{ending}"

    def record(self, job: Job) -> Record | None:
        """Reads the record of a job; None if it was never started.

        Raises:
            UserError: the file is no record.
        """
        path = self.file(job, "json")
        try:
            raw = json.loads(read_text(path))
            record = Record(**raw)
            plain = {name: type(value) for name, value in asdict(Record("", "")).items()}
            if any(type(getattr(record, name)) is not kind for name, kind in plain.items() if name != "seconds"):
                raise TypeError("values of another type")
            record.seconds = float(record.seconds)
            if record.state not in _RECORDED or not 0 <= record.seconds < math.inf:
                raise ValueError("a state or a duration that there is not")
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, OverflowError, RecursionError) as error:
            raise UserError(f"{path}: not a record of tools/study.py; remove it, and the command runs again") from error
        return record

    def write(self, job: Job, record: Record) -> None:
        """Writes the record of a job, whole."""
        write_text(self.file(job, "json"), json.dumps(asdict(record), indent=1) + "\n")

    def last_checkpoint(self, run: str) -> Path | None:
        """Returns the newest last checkpoint of a run, relative to the root; None if there is none that is whole."""
        try:
            found = find_checkpoint(LAST, self.root / RUNS / run)
        except UserError:
            return None
        return found.relative_to(self.root)

    def command(self, job: Job) -> tuple[str, ...]:
        """Returns what is typed behind `python` to run a job from its beginning."""
        if not job.taking:
            return job.words
        source = job.needs[-1].run
        checkpoint = self.last_checkpoint(source) or RUNS / source / "version_0" / "last.ckpt"
        settings = job.words.index("--set")
        return (*job.words[:settings], *job.taking, "--checkpoint", str(checkpoint), *job.words[settings:])

    def resuming(self, job: Job) -> tuple[str, ...]:
        """Returns the command that goes on with a job from where it is, if it has begun."""
        if job.what != "training" or self.last_checkpoint(job.run) is None:
            return self.command(job)
        settings = job.words.index("--set")
        return (*job.words[:settings], "--checkpoint", "last", *job.words[settings:])

    def state(self, job: Job) -> State:
        """Tells how far a job is, from its files."""
        return "running" if is_locked(self.file(job, "lock")) else self.progress(job)

    def progress(self, job: Job) -> State:
        """Tells how far a job is that nobody else works on."""
        record = self.record(job)
        if record is None:
            return "waiting"
        of_others = record.command != line(self.command(job)) or self._is_older(record, job)
        if of_others:
            return "other" if job.what == "training" and self.last_checkpoint(job.run) else "waiting"
        if record.state == "done":
            return "done" if self._has_output(job, record) else "waiting"
        return "stopped" if record.state == "running" else record.state

    def _is_older(self, record: Record, job: Job) -> bool:
        """Returns whether a training that the job takes weights from was made again since."""
        trainings = (self.record(needed) for needed in job.needs if needed.what == "training")
        return any(before is not None and before.started > record.started for before in trainings)

    def _has_output(self, job: Job, record: Record) -> bool:
        if job.what == "data":
            return (self.root / job.folder).is_dir()
        if job.what == "training":
            return self.last_checkpoint(job.run) is not None
        return bool(record.result) and (self.root / record.result).is_file()

    def result(self, job: Job, since: float) -> str:
        """Returns the file with the figures of a test that began at `since` (seconds of the epoch); "" if none does."""
        if job.what not in ("test", "robustness"):
            return ""
        folder = self.root / RUNS / job.run
        # A robustness test goes on in the folder of an earlier one with the same settings, and writes its table again.
        names = f"test_*/{_SCORES}" if job.what == "test" else f"**/robust_test_*/{SUMMARY}"
        found = [path for path in folder.glob(names) if path.stat().st_mtime >= since - 1]
        if job.what == "test":
            found = [path for path in found if read_scores(path).get("num_vote") == job.views]
        newest = max(found, key=lambda path: path.stat().st_mtime, default=None)
        return "" if newest is None else str(newest.relative_to(self.root))


_SCORES = "scores.json"


def read_scores(path: Path) -> dict[str, Any]:
    """Reads the scores of a test.

    Raises:
        UserError: the file is damaged.
    """
    try:
        scores = json.loads(read_text(path))
        if isinstance(scores, dict):
            return scores
    except (OSError, ValueError, RecursionError):
        pass
    raise UserError(f"{path}: not the scores of a test; remove it, and its test is run again")


class RunLock:
    """A lock that a command inherits: it is held until the study and the command have both ended.

    So nothing else starts a command a second time while it runs, even if the study that started it was killed.

    Args:
        path: the lock file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.descriptor = -1

    def acquire(self) -> bool:
        """Takes the lock; returns False if another study, or its command, has it."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self.descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
        try:
            fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.release()
            return False
        return True

    def release(self) -> None:
        """Gives the lock up in this process. The file stays: who waits for it has it open."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


def is_locked(path: Path) -> bool:
    """Returns whether a study, or its command, holds a lock."""
    if not path.exists():
        return False
    lock = RunLock(path)
    free = lock.acquire()
    lock.release()
    return not free


def here() -> tuple[str, dict[str, str]]:
    """Describes this machine in a line, and the versions of this code and of the packages that compute, by name."""
    model, info = platform.processor() or platform.machine(), Path("/proc/cpuinfo")
    if info.is_file() and (found := re.search(r"model name\s*:\s*(.+)", info.read_text())):
        model = found[1]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{cores} cores, {model}, {platform.system()}", {
        "code": _commit(),
        "python": platform.python_version(),
        **{name: version(name) for name in _PACKAGES if _is_there(name)},
    }


def _commit() -> str:
    """Returns the commit of this repository, or "unknown"."""
    try:
        words = ("git", "-C", str(REPOSITORY), "rev-parse", "--short", "HEAD")
        found = subprocess.run(words, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return found.stdout.strip() if found.returncode == 0 else "unknown"


def _is_there(package: str) -> bool:
    try:
        version(package)
    except PackageNotFoundError:
        return False
    return True


def now() -> str:
    """Returns date and time, ISO 8601 with the zone."""
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")


def last_line(path: Path) -> str:
    """Returns the last line of a command's output that is not empty."""
    try:
        lines: Sequence[str] = [text for text in read_text(path, errors="replace").splitlines() if text.strip()]
    except OSError:
        lines = []
    return lines[-1].strip() if lines else "it printed nothing"
