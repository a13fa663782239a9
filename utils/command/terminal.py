"""Printing: text from files without control characters, and streams that are closed, full, or ASCII only."""

from __future__ import annotations

import io
import os
import select
import sys
from contextlib import suppress
from typing import TextIO

from utils.text import printable


def prepare_streams() -> None:
    """Prepares the standard streams for printing, whatever state the caller left them in.

    A closed one is replaced by the null device: the next file to be opened would take its number, and what a library
    prints would end up in that file. A character that the encoding does not have is written as an escape, and a
    line that goes into a pipe or a file is written when it is complete.
    """
    for number, mode in enumerate((os.O_RDONLY, os.O_WRONLY, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, mode)  # takes the lowest free number, which is this one
    if sys.stdin is None:
        sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: SIM115
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace", line_buffering=True)


def say(text: str) -> None:
    """Prints lines to stdout, without control characters.

    Raises:
        OSError: they cannot be written; `filename` says that it is stdout.
    """
    try:
        print("\n".join(map(printable, text.split("\n"))))
    except OSError as error:
        raise OSError(error.errno, error.strerror, "standard output") from error


def say_error(line: str, below_a_bar: bool = False) -> None:
    """Prints a line to stderr, without control characters, if stderr is open.

    Args:
        line: the line.
        below_a_bar: whether the cursor may be behind a progress bar, so that the line needs a new one.
    """
    if sys.stderr is not None:
        with suppress(OSError, ValueError):
            print("\n" * below_a_bar + printable(line), file=sys.stderr, flush=True)


def output_failed() -> OSError | None:
    """Returns the error that prevents writing to stdout (a closed pipe, a full disk), or None.

    After an error, unwritten output is dropped; otherwise Python would try again at its end, and print a traceback.
    """
    if sys.stdout is None:
        return None
    try:
        sys.stdout.flush()
        return BrokenPipeError() if _reader_is_gone(sys.stdout) else None
    except OSError as error:
        _give_up(sys.stdout)
        return error
    except ValueError:  # closed by the program
        return None


def _reader_is_gone(stream: TextIO) -> bool:
    """Returns whether the stream is a pipe that nobody reads any more."""
    try:
        poll = select.poll()
        poll.register(stream.fileno(), 0)
        gone = any(events & select.POLLERR for _, events in poll.poll(0))
    except (OSError, ValueError, AttributeError):  # no descriptor, as under a test; or a system without poll
        return False
    if gone:
        _give_up(stream)
    return gone


def _give_up(stream: TextIO) -> None:
    with suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)
        stream.flush()
