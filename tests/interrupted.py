"""Trainings of two processes in which a signal comes at a chosen place; for tests of what comes of it.

    python -m tests.interrupted '[[<run>, <rank>, <signal>, <place>], ...]' <arguments of main.py>

The libraries are imported once. For each run (a --log_dir) in turn two processes are forked, which find the variables
that torchrun sets. A place is `<epoch>.<batch>`, `start` (before the scans are looked at), `validation`, `write` (of
the first checkpoint) or `never`; with `twice` behind it the signal comes again after a moment. Prints the exit codes
and what was said as JSON.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import tempfile
import threading
from typing import Any

import commands.training  # noqa: F401  imported once, for all processes
import main
from network.training import checkpoint_io
from network.training.task import SegmentationTask
from utils.command.process import run_program
from utils.command.start import begin


def hit(rank: str, number: int, place: str) -> None:
    """Sends the signal to this process, if it is one of those that get it."""
    if rank in ("all", os.environ["LOCAL_RANK"]):
        os.kill(os.getpid(), number)
        if "twice" in place:
            threading.Timer(0.1, lambda: os.kill(os.getpid(), number)).start()


def arm(rank: str, name: str, place: str) -> None:
    """Sends the signal at its place."""
    at = place.split()[0]
    if at == "never":
        return
    owner, function = {
        "start": (main, "open_experiment"),
        "validation": (SegmentationTask, "validation_step"),
        "write": (checkpoint_io.torch, "save"),
    }.get(at, (SegmentationTask, "training_step"))
    original = getattr(owner, function)

    def hit_first(*arguments: Any, **options: Any) -> Any:
        if function != "training_step" or f"{arguments[0].current_epoch}.{arguments[2]}" == at:
            hit(rank, signal.Signals[name], place)
        return original(*arguments, **options)

    setattr(owner, function, hit_first)


def run_both(run: str, rank: str, name: str, place: str, arguments: list[str]) -> dict[str, Any]:
    """Runs main.py in two processes; returns their exit codes and what they said."""
    with socket.socket() as free, tempfile.TemporaryFile() as said:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        processes = [os.fork() or child(i, port, said.fileno(), run, rank, name, place, arguments) for i in (0, 1)]
        codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in processes]
        said.seek(0)
        return {"codes": codes, "said": said.read().decode()}


def child(number: int, port: int, output: int, run: str, rank: str, name: str, place: str, arguments: list[str]) -> Any:
    """Is one of the two processes."""
    for stream in (1, 2):
        os.dup2(output, stream)
    os.environ |= {"RANK": str(number), "LOCAL_RANK": str(number), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "GROUP_RANK": "0"}
    os.environ |= {"TORCHELASTIC_RUN_ID": "trial"}
    begin()
    arm(rank, name, place)
    whole = [*arguments, "--log_dir", run]
    code = 1
    try:
        code = run_program(lambda: main.main(whole), main.going_on(whole))
    finally:
        sys.stdout.flush()
        os._exit(code)


if __name__ == "__main__":
    cases: list[tuple[str, str, str, str]] = json.loads(sys.argv[1])
    print(json.dumps([run_both(run, rank, name, where, sys.argv[2:]) for run, rank, name, where in cases]))
