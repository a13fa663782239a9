"""The early end of a command: by Ctrl-C, by a signal from outside, or by the end of another process of its run.

`utils.command.watching` sees to it; here is what the rest of the program asks it for.

A training may ask to be let save first (`saving_first`): SIGTERM and SIGUSR1 are then requests, which it answers at the
end of a step, and has `watching.TIME_TO_SAVE` for. A second signal ends it as any other command.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NoReturn

from utils.command import watching
from utils.command.watching import LAUNCHER, Ending, Guard, Phase, Process, Stopped

_guard: Guard | None = None


def begin() -> None:
    """Handles the signals that end a process from now on; programs call it in their first lines.

    SIGINT, SIGTERM, SIGHUP and SIGUSR1 then end it with a line and the exit code 128 + number: at once as long as
    nothing runs, by `Stopped` inside `running`. A process that another one started (`launching`, torchrun) ends with
    that one.
    """
    global _guard
    if _guard is None and threading.current_thread() is threading.main_thread():
        _guard = Guard()
        os.register_at_fork(after_in_child=_forget)


def _forget() -> None:
    """Removes the handlers in a forked worker, which its parent ends; Ctrl-C, which reaches both, is ignored there."""
    global _guard
    if _guard is not None:
        _guard = None
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):  # SLURM sends SIGUSR1 to workers as well
            signal.signal(number, signal.SIG_IGN)


def end_with_parent() -> None:
    """Makes a worker process end with its parent: it would wait for work for ever, and keep its memory."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()


@contextmanager
def running(hint: str = "") -> Iterator[None]:
    """Lets `Stopped` interrupt the code inside.

    Args:
        hint: how to continue later, for the line that is printed.
    """
    guard = _guard
    if guard is not None:
        guard.hint = f"; {hint}" if hint else ""
        guard.phase = Phase.RUNNING
    try:
        yield
    finally:
        if guard is not None:
            guard.phase = Phase.ENDING


def saving_first(wanted: bool) -> None:
    """Makes SIGTERM and SIGUSR1 requests from now on, see `requested`, or lets them end the command again."""
    if _guard is not None:
        _guard.saves_first = wanted


def nothing_to_save() -> None:
    """Drops a request that has not been answered, and lets signals end the command again."""
    if _guard is not None:
        _guard.saves_first, _guard.request = False, 0


def requested() -> int:
    """Returns the signal that asked the command to save and to end; 0: none has."""
    return 0 if _guard is None else _guard.request


def stop(number: int, line: str) -> NoReturn:
    """Ends the command, which has saved, as the signal `number` would have.

    Args:
        number: the signal.
        line: what is said to the user; "" if another process says it.
    """
    if _guard is not None:
        _guard.end(Ending(128 + number, line))
        _guard.phase = Phase.ENDING
    raise Stopped


def before_the_end(number: int, act: Callable[[], None]) -> None:
    """Has `act` called before this process ends after the signal `number`, whatever its main thread does then."""
    if _guard is not None:
        _guard.last_act = (128 + number, act)


def ending(within: float = 0.0) -> Ending | None:
    """Returns the reason for the end of this process, if it is known within so many seconds; else None."""
    until = time.monotonic() + within
    while _guard is not None and _guard.ending is None and time.monotonic() < until:
        time.sleep(0.05)
    return None if _guard is None else _guard.ending


def end_others() -> None:
    """Ends the processes that this one has started, after a failure that they did not cause."""
    if _guard is not None:
        _guard.failing = True
        _guard.tell_children(signal.SIGTERM)


def finish(code: int) -> None:
    """Ends a command that has printed all its lines: waits for the processes that it has started.

    After a failure they are told to end, and this process ends a second later in any case.
    """
    guard = _guard
    if guard is None:
        return
    guard.phase = Phase.DONE
    if code:
        guard.ending = Ending(code, "")  # its line is printed already, also if the thread ends this process
        guard.wake()
        guard.tell_children(signal.SIGTERM)
        if guard.last_act is not None:
            guard.acted.wait()
    until = time.monotonic() + watching.GRACE
    while any(child.poll() is None for child in guard.children) and time.monotonic() < until:
        time.sleep(0.02)
    guard.tell_children(signal.SIGKILL)
    if code:
        guard.done.set()


@contextmanager
def launching() -> Iterator[None]:
    """Makes the processes of this program that are started inside end together with this one."""
    os.environ[LAUNCHER] = str(os.getpid())
    try:
        yield
    finally:
        os.environ.pop(LAUNCHER, None)


def watch(children: Sequence[Process]) -> bool:
    """Ends this process and its children when one of them fails; returns False if no thread watches (see `begin`)."""
    if _guard is None:
        return False
    _guard.children = children
    _guard.wake()
    return True


@contextmanager
def shielded() -> Iterator[None]:
    """Makes processes that are started inside ignore Ctrl-C and a closed terminal; this one gets both afterwards."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGHUP))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
