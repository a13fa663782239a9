"""Programs in processes of their own that do not import torch and Lightning again, which takes each five seconds.

A server, a fresh Python without threads, has imported what all commands import; each program is a fork of it and runs
as `python program` does: its own arguments, variables, folder, streams and signals, the file's `__main__`, its exit.
What is not repeated is the import itself; `tests/test_start_up.py` is about that.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

ROOT = Path(__file__).resolve().parents[2]
IMPORTED = (
    *(f"commands.{name}" for name in ("training", "testing", "labelling", "robustness")),
    "utils.pictures.charts",
    "torch.utils.tensorboard",
)
"""What programs import before and while they work."""
PATIENCE = 200.0
"""Seconds after which a program is killed that a test waits for."""


class Program:
    """A program that was started.

    Attributes:
        pid: of its process.
    """

    def __init__(self, server: Server, pid: int, streams: list[str]) -> None:
        self._server, self.pid, self._streams = server, pid, streams

    def has_ended(self) -> bool:
        """Returns whether the program has ended."""
        return self._server.ask({"wait": self.pid, "seconds": 0.0}) is not None

    def wait(self, seconds: float = PATIENCE) -> subprocess.CompletedProcess[str]:
        """Waits for the end of the program, and kills it after so many seconds; returns what `subprocess.run` does."""
        code = self._server.ask({"wait": self.pid, "seconds": seconds})
        if code is None:
            os.kill(self.pid, signal.SIGKILL)
            code = self._server.ask({"wait": self.pid, "seconds": 20.0})
        output, errors = (Path(stream).read_text() for stream in self._streams)
        return subprocess.CompletedProcess([], code, output, errors)


class Server:
    """The process whose forks are the programs.

    Args:
        process: it, started by `serving`.
        folder: where the streams of the programs go.
    """

    def __init__(self, process: subprocess.Popen[str], folder: str) -> None:
        self._process, self._folder, self._count = process, folder, 0

    def ask(self, order: dict[str, Any]) -> Any:
        """Sends an order and returns the answer."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def start(self, path: Path, *arguments: object, **variables: str) -> Program:
        """Starts a Python file in the current folder, as the leader of a session, with these variables besides ours."""
        self._count += 1
        streams = [f"{self._folder}/{self._count}.{name}" for name in ("out", "err")]
        environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", **variables}
        words = [str(path), *map(str, arguments)]
        order = {"start": words, "folder": os.getcwd(), "environment": environment, "streams": streams}
        return Program(self, self.ask(order), streams)

    def run(self, path: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
        """Runs a Python file to its end."""
        return self.start(path, *arguments).wait()

    def run_as_torchrun(self, path: Path, *arguments: object) -> list[subprocess.CompletedProcess[str]]:
        """Runs a Python file in two processes, with the variables that torchrun gives them."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "TORCHELASTIC_RUN_ID": "none", "GROUP_RANK": 0}
        size = {"WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2}
        of_rank = [{**place, **size, "RANK": rank, "LOCAL_RANK": rank} for rank in range(2)]
        started = [self.start(path, *arguments, **{k: str(v) for k, v in each.items()}) for each in of_rank]
        return [program.wait() for program in started]


@contextmanager
def serving() -> Iterator[Server]:
    """Runs a server as long as the block."""
    command = [sys.executable, "-m", "tests.support.warm"]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with tempfile.TemporaryDirectory() as folder, subprocess.Popen(command, cwd=ROOT, **pipes) as process:
        yield Server(process, folder)  # the end of its orders ends it


def _serve() -> None:
    """Carries out orders, a line of JSON each, to their end."""
    for name in IMPORTED:
        importlib.import_module(name)
    gc.freeze()  # a fork that looks through what is imported would copy it
    for line in iter(sys.stdin.readline, ""):
        order = json.loads(line)
        if "wait" in order:
            answer = _wait(order["wait"], order["seconds"])
        elif (answer := os.fork()) == 0:
            _become(order)
        print(json.dumps(answer), flush=True)


_ended: dict[int, int] = {}


def _wait(pid: int, seconds: float) -> int | None:
    """Returns the exit code of a fork, negative for a signal; None if it runs for longer."""
    end = time.monotonic() + seconds
    while pid not in _ended:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            _ended[pid] = os.waitstatus_to_exitcode(status)
        elif time.monotonic() >= end:
            return None
        else:
            time.sleep(0.01)
    return _ended[pid]


def _become(order: dict[str, Any]) -> NoReturn:
    """Becomes the program, and ends with it."""
    from lightning_utilities.core.rank_zero import rank_zero_only

    os.setsid()
    os.chdir(order["folder"])
    for number, (name, mode) in enumerate([(os.devnull, os.O_RDONLY), *((s, os.O_WRONLY) for s in order["streams"])]):
        os.dup2(os.open(name, mode | os.O_CREAT, 0o600), number)
    os.environ.clear()
    os.environ.update(order["environment"])
    rank_zero_only.rank = int(os.environ.get("RANK", "0"))  # Lightning does so when it is imported
    sys.argv = order["start"]
    code = 1
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    # Python's own end, but for what would free, and so copy, all that is imported.
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    os._exit(code)


if __name__ == "__main__":
    os.environ["MPLBACKEND"] = "agg"
    _serve()
