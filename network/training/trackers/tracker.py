"""A logger of Lightning that neither ends a training when its tracker fails, nor makes it wait for a network."""

from __future__ import annotations

import re
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from pytorch_lightning.loggers import Logger

from network.training.trackers.run import Ending, Run
from utils.command import stopping, watching
from utils.command.terminal import say_error
from utils.errors import UserError, one_line
from utils.results.run_settings import Plain
from utils.text import shortened

OPENING = 60.0  # seconds that the beginning of a training waits for a tracker
SILENCE = 300.0  # seconds in which one answer must come
CLOSING: Mapping[Ending, float] = {"finished": 60.0, "failed": 10.0, "killed": 0.5 * watching.GRACE}  # seconds

Job = Callable[[Run], object]


class Tracker(Logger):
    """A logger that hands all it is given to the run of a tracker, which is opened in the first process only.

    What the run raises is said in one line, and the training goes on without this tracker. A tracker with a network, or
    with a database that others write to, works in a thread of its own: the training waits for it only at the beginning
    and at the end, and no longer than said above.

    Args:
        name: as --logger has it.
        begin: opens the run; may fail.
        in_thread: whether the run may make others wait.
        kept: where the data is if the tracker is lost, a phrase; "": nowhere.
    """

    def __init__(self, name: str, begin: Callable[[], Run], in_thread: bool = False, kept: str = "") -> None:
        super().__init__()
        self._name, self._begin, self._in_thread, self._kept = name, begin, in_thread, kept
        self._run: Run | None = None
        self._open = self._lost = False
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._since: float | None = None  # when the present job began
        self._opened, self._ended = threading.Event(), threading.Event()

    @property
    def name(self) -> str:
        """The name of the tracker."""
        return self._name

    @property
    def version(self) -> None:
        """Nothing: the run's folder has the version."""

    def open(self) -> str:
        """Begins the run; returns where it can be looked at, "" if nowhere else or if the tracker is lost."""
        self._open = True
        if self._in_thread:
            threading.Thread(target=self._work, daemon=True, name=f"tracker {self._name}").start()
            if not self._opened.wait(OPENING):
                self._lose(f"no answer for {OPENING:g} s")
        else:
            self._guard(self._start)
        return "" if self._run is None or self._lost else self._run.where

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Passes numbers on; Lightning calls this."""
        self._do(lambda run: run.numbers(dict(metrics), step or 0))

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Ignores them: `log_settings` has the settings; Lightning would log the arguments of the task."""

    def log_settings(self, values: Mapping[str, Plain], step: int) -> None:
        """Passes the settings on."""
        self._do(lambda run: run.settings(values, step))

    def log_text(self, name: str, text: str, step: int) -> None:
        """Passes a text on."""
        self._do(lambda run: run.text(name, text, step))

    def log_picture(self, name: str, path: Path, step: int) -> None:
        """Passes a PNG file on."""
        self._do(lambda run: run.picture(name, path, step))

    def save(self) -> None:
        """Saves nothing: runs do so themselves; Lightning calls this again and again."""

    def finalize(self, status: str) -> None:
        """Ends the run as Lightning's status says, or as killed after a signal; a second call does nothing."""
        if not self._open:
            return
        ending = _ending(status)
        self._do(lambda run: run.close(ending))
        self._open = False
        if self._in_thread:
            self._jobs.put(None)
            if not self._lost and not self._ended.wait(CLOSING[ending]):
                self._lose(f"no answer for {CLOSING[ending]:g} s at the end")

    def _do(self, job: Job) -> None:
        if not self._open or self._lost:
            return
        if not self._in_thread:
            self._guard(job)
        elif (since := self._since) is not None and time.monotonic() - since > SILENCE:
            self._lose(f"no answer for {SILENCE:g} s")
        else:
            self._jobs.put(job)

    def _work(self) -> None:
        """Works off one job after the other, in the thread."""
        self._guard(self._start)
        self._opened.set()
        while (job := self._jobs.get()) is not None and not self._lost:
            self._since = time.monotonic()
            self._guard(job)
            self._since = None
        if self._lost and self._run is not None:  # given up; it may have answered since
            self._guard(lambda run: run.close("failed"), quiet=True)
        self._ended.set()

    def _start(self, _: Any = None) -> None:
        self._run = self._begin()

    def _guard(self, job: Callable[[Any], object], quiet: bool = False) -> None:
        try:
            job(self._run)
        except (Exception, SystemExit) as error:
            self._run = None
            if not quiet:
                self._lose(one_line(error) if isinstance(error, UserError) else first_line(error))

    def _lose(self, reason: str) -> None:
        """Says once that the training goes on without this tracker."""
        if not self._lost:
            self._lost = True
            kept = f" ({self._kept})" if self._kept else ""
            say_error(f"note: --logger {self._name}: {reason}; goes on without it{kept}", below_a_bar=True)


def _ending(status: str) -> Ending:
    """Translates Lightning's status; it is told in the handling of the exception that ends a training."""
    if status == "success":
        return "finished"
    killed = isinstance(sys.exc_info()[1], KeyboardInterrupt) or stopping.ending() is not None
    return "killed" if killed else "failed"


def first_line(error: BaseException) -> str:
    """Returns what kind of error it is, and the first line of its text, without passwords."""
    lines = str(error).strip().splitlines() or [""]
    return shortened(without_login(f"{type(error).__name__} {lines[0]}".strip()), 200)


def without_login(text: str) -> str:
    """Returns a text with addresses in it without their names and passwords."""
    return re.sub(r"//[^/@\s]*@", "//", text)
