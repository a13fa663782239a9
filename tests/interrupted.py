"""A training in which a signal comes at a chosen place; for tests of what comes of it.

    python -m tests.interrupted <rank> <signal> <place> <arguments of main.py>

The rank is that of the process that gets the signal, or `all`. A place is `<epoch>.<batch>`, `start` (before the scans
are looked at), `validation`, `write` (of the first checkpoint) or `never`. The loader processes get the signal as well,
and all get it again soon, as a scheduler's comes to a process and to its group; with `twice` for a place behind it, it
counts as another one.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from typing import Any

if __name__ == "__main__":
    from utils.command.start import begin

    begin()

import main
from network.training import checkpoint_io
from network.training.task import SegmentationTask
from utils.command import watching
from utils.command.process import run_program


def hit(number: int) -> None:
    """Sends the signal to this process and its loader processes."""
    for pid in (os.getpid(), *(child.pid or 0 for child in multiprocessing.active_children())):
        os.kill(pid, number)


def arm(rank: str, name: str, place: str) -> None:
    """Sends the signal at its place."""
    at, _, twice = place.partition(" ")
    if at == "never" or rank not in ("all", os.environ["LOCAL_RANK"]):
        return
    if twice:
        watching.ECHO = 0.0
    owner, function = {
        "start": (main, "open_experiment"),
        "validation": (SegmentationTask, "validation_step"),
        "write": (checkpoint_io.torch, "save"),
    }.get(at, (SegmentationTask, "training_step"))
    original = getattr(owner, function)

    def hit_first(*arguments: Any, **options: Any) -> Any:
        if function != "training_step" or f"{arguments[0].current_epoch}.{arguments[2]}" == at:
            hit(signal.Signals[name])
            threading.Timer(0.1, hit, [signal.Signals[name]]).start()
        return original(*arguments, **options)

    setattr(owner, function, hit_first)


if __name__ == "__main__":
    arm(*sys.argv[1:4])
    words = sys.argv[4:]
    sys.exit(run_program(lambda: main.main(words), main.going_on(words)))
