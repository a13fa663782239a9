"""How a command ends before its time: Ctrl-C, a signal from outside, or the end of another process of its run.

Python runs a signal handler between two steps of the main thread, and that thread may wait inside of a library for
minutes: for a process that is gone, or for a disk. So a second thread looks on. What has not ended `GRACE` seconds
after it was told to is ended hard, and so are the processes that it has started.
"""

from __future__ import annotations

import multiprocessing
import os
import select
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import Enum
from types import FrameType
from typing import NoReturn, Protocol

from utils.text import printable

GRACE = 5.0
"""Seconds to clean up in."""

LAUNCHER = "TWODPASS_LAUNCHER"
"""Environment variable: the process that started this one, and without which it has nothing to do."""

_POLL = 0.5  # seconds between two looks at other processes
_LAST = 1.0  # seconds for the interpreter, once all is said; torch may wait there for processes that are gone
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stopped(KeyboardInterrupt):
    """The command is to end now. What cleans up after Ctrl-C, in libraries too, does so after this."""


class Process(Protocol):
    """A started process, as `subprocess.Popen`."""

    def poll(self) -> int | None: ...
    def send_signal(self, sig: int, /) -> None: ...


@dataclass(frozen=True)
class Ending:
    """The end of a command.

    Attributes:
        code: its exit code.
        line: why it ends; "" where that has been said.
        alone: the process that would have ended the line of a progress bar is gone.
    """

    code: int
    line: str
    alone: bool = False


class _Phase(Enum):
    STARTING = "nothing is open yet"
    RUNNING = "the main thread can be interrupted, and cleans up"
    ENDING = "it cleans up"
    DONE = "only the interpreter is left"


class _Guard:
    """The signal handlers and the watching thread of this process, for the whole of its life."""

    def __init__(self) -> None:
        self.phase = _Phase.STARTING
        self.hint = ""
        self.children: Sequence[Process] = ()
        self.ending: Ending | None = None
        self.done = threading.Event()
        self.failing = False
        self._main = threading.get_ident()
        launcher = os.environ.pop(LAUNCHER, "")
        self._launched = launcher.isdecimal()  # it may have ended since
        self._launcher = int(launcher) if self._launched else _parent_of_torchrun()
        self._bell, self._cord = os.pipe()
        os.set_blocking(self._cord, False)
        # What is ignored stays so: nohup does that to SIGHUP, and a shell to SIGINT of its background jobs.
        ignored = {number for number in (signal.SIGINT, signal.SIGHUP) if signal.getsignal(number) == signal.SIG_IGN}
        self._numbers = {int(number) for number in _SIGNALS if number not in ignored}
        for number in self._numbers:
            signal.signal(number, self._on_signal)
        signal.set_wakeup_fd(self._cord, warn_on_full_buffer=False)
        threading.Thread(target=self._watch, daemon=True, name="stopping").start()

    def end(self, ending: Ending) -> None:
        """There are `GRACE` seconds from now on. The first reason counts."""
        if self.ending is None:
            self.ending = ending
            self.wake()

    def wake(self) -> None:
        """Have the thread look at what has changed."""
        with suppress(OSError):
            os.write(self._cord, b"\0")

    def leave(self) -> NoReturn:
        """Ends this process here, and those that it has started."""
        ending = self.ending or Ending(1, "")
        if ending.line:
            with suppress(OSError):  # not print: the main thread may hold the lock of the stream
                os.write(2, f"\n{printable(ending.line)}\n".encode(errors="backslashreplace"))
        self.tell_children(signal.SIGKILL)
        for worker in multiprocessing.active_children():
            worker.kill()
        os._exit(ending.code)

    def tell_children(self, number: int) -> None:
        for child in self.children:
            with suppress(OSError):
                child.send_signal(number)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.end(self._of_signal(number))
        if self.phase is _Phase.RUNNING:
            self.phase = _Phase.ENDING
            raise Stopped
        if self.phase is not _Phase.ENDING:
            self.leave()

    def _watch(self) -> None:
        while self.ending is None:
            wait = _POLL if self.children or self._launcher is not None else None
            rung, _, _ = select.select([self._bell], [], [], wait)
            for number in os.read(self._bell, 64) if rung else b"":
                if number in self._numbers:
                    self.end(self._of_signal(number))
            if self.ending is None and (lost := self._lost_process()) is not None:
                self.end(lost)
                signal.pthread_kill(self._main, signal.SIGTERM)  # has the main thread run the handler
        self.tell_children(signal.SIGTERM)
        # One that was started for a run ends before the process that waits for it.
        if self.done.wait(GRACE / 2 if self._launched else GRACE):
            time.sleep(_LAST)
        self.leave()

    def _of_signal(self, number: int) -> Ending:
        return Ending(128 + number, "" if self._launched else f"interrupted{self.hint}")  # the first process says it

    def _lost_process(self) -> Ending | None:
        if self.failing or self.phase is _Phase.DONE:  # it ends them itself
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


_guard: _Guard | None = None


def begin() -> None:
    """Takes over the signals that end a process, for the rest of its life; for programs, in their first lines.

    SIGINT, SIGTERM and SIGHUP then end it with a line and the exit code 128 + number: at once as long as nothing runs,
    by `Stopped` inside of `running`. A process that another one started (`launching`, torchrun) ends with that one.
    """
    global _guard
    if _guard is None and threading.current_thread() is threading.main_thread():
        _guard = _Guard()
        os.register_at_fork(after_in_child=_forget)


def _forget() -> None:
    """A forked worker ends with its parent, which tells it or is watched by it; Ctrl-C reaches both at once."""
    global _guard
    if _guard is not None:
        _guard = None
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        for number in (signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)


def end_with_parent() -> None:
    """Have a worker process end when its parent does: it would wait for work for ever, with all its memory."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()


@contextmanager
def running(hint: str = "") -> Iterator[None]:
    """What is done inside can be interrupted by `Stopped`.

    Args:
        hint: how to go on later, for the line that is printed.
    """
    guard = _guard
    if guard is not None:
        guard.hint = f"; {hint}" if hint else ""
        guard.phase = _Phase.RUNNING
    try:
        yield
    finally:
        if guard is not None:
            guard.phase = _Phase.ENDING


def ending(within: float = 0.0) -> Ending | None:
    """Why this process is to end, if that is known, or gets known in so many seconds."""
    until = time.monotonic() + within
    while _guard is not None and _guard.ending is None and time.monotonic() < until:
        time.sleep(0.05)
    return None if _guard is None else _guard.ending


def end_others() -> None:
    """The command fails, and not for want of them: processes that it has started end while this one cleans up."""
    if _guard is not None:
        _guard.failing = True
        _guard.tell_children(signal.SIGTERM)


def finish(code: int) -> None:
    """The command is through, and what there is to say is said; waits for the processes that it has started.

    After a failure they are told to end, and this process ends a second later, whatever is left of it.
    """
    guard = _guard
    if guard is None:
        return
    guard.phase = _Phase.DONE
    if code:
        guard.ending = Ending(code, "")  # it is said, also if the thread ends this process
        guard.wake()
        guard.tell_children(signal.SIGTERM)
    until = time.monotonic() + GRACE
    while any(child.poll() is None for child in guard.children) and time.monotonic() < until:
        time.sleep(0.02)
    guard.tell_children(signal.SIGKILL)
    if code:
        guard.done.set()


@contextmanager
def launching() -> Iterator[None]:
    """Processes of ours that are started inside end when this one does."""
    os.environ[LAUNCHER] = str(os.getpid())
    try:
        yield
    finally:
        os.environ.pop(LAUNCHER, None)


def watch(children: Sequence[Process]) -> bool:
    """Ends this process when one of its children fails, and them with it; False if nobody watches (see `begin`)."""
    if _guard is None:
        return False
    _guard.children = children
    _guard.wake()
    return True


@contextmanager
def shielded() -> Iterator[None]:
    """Processes that are started inside take no notice of Ctrl-C and a closed terminal; this one hears of it later."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGHUP))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
