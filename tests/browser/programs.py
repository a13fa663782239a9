"""Programs of this project that show scans in the browser, in processes of their own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@contextmanager
def running(*command: object) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Starts a program, and yields it with the address that it prints; it is killed at the end.

    Raises:
        AssertionError: it has ended without printing an address.
    """
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    # A shell that starts something in the background has it ignore Ctrl-C; tests may be run from one.
    listening = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.default_int_handler)}
    options = {"cwd": ROOT, "env": {**os.environ, "PYTHONUNBUFFERED": "1"}, **pipes, **listening}
    program = subprocess.Popen([sys.executable, *map(str, command)], **options)  # type: ignore[call-overload]
    try:
        yield program, _address(program)
    finally:
        program.kill()
        program.communicate()


def _address(program: subprocess.Popen[str]) -> str:
    assert program.stdout is not None
    lines = []
    for line in program.stdout:
        lines.append(line)
        if found := re.search(r"http://\S+:\d+", line):
            return found[0]
    raise AssertionError(f"no address: {lines} {program.communicate()[1]}")
