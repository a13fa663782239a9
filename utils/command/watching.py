"""The watching of a process from its start to its end: signals, and the processes that it shares a run with.

Python runs a signal handler between two steps of the main thread, and that thread may wait inside a library for
minutes: for a process that is gone, or for a disk. So a second thread watches. A command that has not ended `GRACE`
seconds after it was told to is killed, and so are the processes that it has started. `utils.command.stopping` is how
the rest of the program speaks with it.
"""

from __future__ import annotations

import multiprocessing
import os
import select
import signal
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from types import FrameType
from typing import NoReturn, Protocol

from utils.text import printable

GRACE = 5.0
"""The time for cleaning up, in seconds."""

TIME_TO_SAVE = 100.0
"""The time for the end of a step and for a checkpoint after a request to save, in seconds."""

ECHO = 2.0
"""The time in which another request is the same one, in seconds: `timeout`, torchrun and schedulers send a signal to a
process and to its group."""

REQUESTS = (signal.SIGTERM, signal.SIGUSR1)
"""The signals that a training answers by saving first."""

LAUNCHER = "TWODPASS_LAUNCHER"
"""The environment variable with the id of the process that started this one; the two end together."""

_POLL = 0.5  # seconds between two checks of other processes
_LAST = 1.0  # seconds for the interpreter, once all is said; torch may wait there for processes that are gone
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)


class Stopped(KeyboardInterrupt):
    """An exception that ends the command. Code that cleans up after Ctrl-C, in libraries too, does so after it."""


class Process(Protocol):
    """A started process, such as a `subprocess.Popen`."""

    def poll(self) -> int | None:
        """Returns the exit code, or None while the process runs."""
        ...

    def send_signal(self, sig: int, /) -> None:
        """Sends a signal to the process."""
        ...


@dataclass(frozen=True)
class Ending:
    """The end of a command.

    Attributes:
        code: exit code.
        line: reason for the end, for the user; "" if it has been printed.
        alone: the process is gone that would have ended the line of a progress bar.
    """

    code: int
    line: str
    alone: bool = False


class Phase(Enum):
    """A part of a command's life, which decides what a signal does."""

    STARTING = "nothing is open yet"
    RUNNING = "the main thread can be interrupted, and cleans up"
    ENDING = "it cleans up"
    DONE = "only the interpreter is left"


class Guard:
    """The signal handlers and the watching thread of this process, from its start to its end."""

    def __init__(self) -> None:
        self.phase = Phase.STARTING
        self.hint = ""
        self.children: Sequence[Process] = ()
        self.ending: Ending | None = None
        self.done = threading.Event()
        self.failing = False
        self.saves_first = False  # requests are answered at the end of a step
        self.request = 0  # the signal that asked, if one has
        self.last_act: tuple[int, Callable[[], None]] | None = None  # code of an ending -> what is done before it
        self.acted = threading.Event()
        self._asked = 0.0  # when, by the monotonic clock
        self._left = False  # the main thread has left a signal to the watching thread
        self._main = threading.get_ident()
        launcher = os.environ.pop(LAUNCHER, "")
        self._launched = launcher.isdecimal()  # that process may have ended since
        self._launcher = int(launcher) if self._launched else _parent_of_torchrun()
        self._bell, self._cord = os.pipe()
        os.set_blocking(self._cord, False)
        # Ignored signals stay ignored: nohup ignores SIGHUP, and a shell ignores SIGINT for its background jobs.
        ignored = {number for number in (signal.SIGINT, signal.SIGHUP) if signal.getsignal(number) == signal.SIG_IGN}
        self._numbers = {int(number) for number in _SIGNALS if number not in ignored}
        for number in self._numbers:
            signal.signal(number, self._on_signal)
        signal.set_wakeup_fd(self._cord, warn_on_full_buffer=False)
        threading.Thread(target=self._watch, daemon=True, name="stopping").start()

    def end(self, ending: Ending) -> None:
        """Starts the end of this process, which has `GRACE` seconds from now on. The first reason counts."""
        if self.ending is None:
            self.ending = ending
            self.wake()

    def wake(self) -> None:
        """Wakes the watching thread, so that it sees what has changed."""
        with suppress(OSError):
            os.write(self._cord, b"\0")

    def leave(self) -> NoReturn:
        """Ends this process at once, and those that it has started."""
        ending = self.ending or Ending(1, "")
        if ending.line:
            with suppress(OSError):  # not print: the main thread may hold the lock of the stream
                os.write(2, f"\n{printable(ending.line)}\n".encode(errors="backslashreplace"))
        self.tell_children(signal.SIGKILL)
        for worker in multiprocessing.active_children():
            worker.kill()
        os._exit(ending.code)

    def tell_children(self, number: int) -> None:
        """Sends a signal to the processes that this one has started."""
        for child in self.children:
            with suppress(OSError):
                child.send_signal(number)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.saves_first and self.ending is None and number in REQUESTS:
            self._left = True  # the watching thread counts them
            return
        self.end(self._of_signal(number))
        if self.phase is Phase.RUNNING:
            self.phase = Phase.ENDING
            raise Stopped
        if self.phase is not Phase.ENDING:
            self.leave()

    def _watch(self) -> None:
        while self.ending is None:
            wait = _POLL if self.children or self._launcher is not None or self.request else None
            rung, _, _ = select.select([self._bell], [], [], wait)
            for number in os.read(self._bell, 64) if rung else b"":
                if number in self._numbers:
                    self._take(number)
            if self.ending is None and (lost := self._lost_process()) is not None:
                self._end_from_outside(lost)
            if self.ending is None and self.request and time.monotonic() > self._asked + TIME_TO_SAVE:
                self._end_from_outside(self._of_signal(self.request))
        self.tell_children(signal.SIGTERM)
        if self.last_act is not None and self.ending.code == self.last_act[0]:
            self.last_act[1]()
        self.acted.set()
        # A process that was started for a run ends before the process that waits for it.
        if self.done.wait(GRACE / 2 if self._launched else GRACE):
            time.sleep(_LAST)
        self.leave()

    def _take(self, number: int) -> None:
        """Takes a signal as a request, if it is the first and the command saves first; else as the end."""
        now, is_request = time.monotonic(), self.saves_first and number in REQUESTS
        if is_request and not self.request:
            self.request, self._asked = number, now
        elif is_request and now < self._asked + ECHO:
            pass
        elif self._left and self.ending is None:
            self._end_from_outside(self._of_signal(number))
        else:
            self.end(self._of_signal(number))

    def _end_from_outside(self, ending: Ending) -> None:
        self.end(ending)
        signal.pthread_kill(self._main, signal.SIGTERM)  # makes the main thread run the handler

    def _of_signal(self, number: int) -> Ending:
        return Ending(128 + number, "" if self._launched else f"interrupted{self.hint}")  # the first process prints it

    def _lost_process(self) -> Ending | None:
        if self.failing or self.phase is Phase.DONE:  # this process ends them itself
            return None
        for number, child in enumerate(self.children, start=1):
            if code := child.poll():
                return self._of_child(f"process {number} of this run", code)
        if self._launcher is not None and os.getppid() != self._launcher:
            speaker = os.environ.get("LOCAL_RANK", "0") == ("1" if self._launched else "0")
            return Ending(2, "error: the process that started this one was ended" if speaker else "", alone=True)
        return None

    def _of_child(self, name: str, code: int) -> Ending:
        number = -code if code < 0 else code - 128
        if number in map(int, _SIGNALS):
            return Ending(128 + number, f"interrupted, as {name} was{self.hint}")
        if code < 0:
            return Ending(2, f"error: {name} was ended by {_signal_name(number)}{self.hint}")
        return Ending(1 if code == 1 else 2, "error: another process of this run ended; its message says why")


def _parent_of_torchrun() -> int | None:
    return os.getppid() if "TORCHELASTIC_RUN_ID" in os.environ else None


def _signal_name(number: int) -> str:
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = f"signal {number}"
    return f"{name} (the system does so where memory runs out)" if number == signal.SIGKILL else name
