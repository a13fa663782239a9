"""Errors that are the user's to fix: one clear line, exit code 2, no traceback."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable
from concurrent.futures import BrokenExecutor

from utils.command import stopping
from utils.command.terminal import output_failed, printable, say_error


class UserError(Exception):
    """Something outside the program is wrong: a file, a key, a checkpoint, a flag.

    The message is one line that names the file or key at fault and says what to do. `run_command` prints it. What it
    quotes may come from anywhere: control characters are written as escapes.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message if message.startswith(_WRAPPED) else printable(message))


_WRAPPED = "Caught "
"""How torch begins the text of an error that it brings from a loader process: with a traceback in many lines."""


def one_line(error: UserError) -> str:
    """The message alone, also when a DataLoader worker has wrapped it in its traceback.

    Args:
        error: an error raised here or re-raised from a worker process (then its text ends with
            `utils.errors.UserError: <message>`).
    """
    text = str(error)
    wrapped = re.findall(r"UserError: (.*)", text)
    return wrapped[-1] if wrapped else text


Explain = Callable[[BaseException], str | None]
"""The line about an exception that is not a fault of the program; None for any other."""


def run_command(main: Callable[[], None], resume: str = "", explain: Explain = lambda _: None) -> int:
    """Run a command; what the user can mend ends as one line on stderr.

    Args:
        main: the command, its arguments bound.
        resume: how to go on after an interruption, for the line about it.
        explain: what is known of exceptions beside what this module knows.

    Returns:
        The exit code: 0; 2 after a `UserError`, or where the system refuses something; 128 + number after a signal
        (Ctrl-C: 130); 141 if nobody reads the output any more. Any other exception passes through: it is a fault of
        the program, and its traceback is wanted.
    """
    ending = stopping.Ending(0, "")
    try:
        with stopping.running(resume):
            main()
            if (failure := output_failed()) is not None:
                raise failure
    except BaseException as error:
        known = _ending(error, resume, explain)
        if known is None:
            output_failed()
            if not isinstance(error, SystemExit):
                stopping.finish(1)
            raise
        ending = known
    if ending.line:
        say_error(ending.line, ending.alone)
    stopping.finish(ending.code)
    return ending.code


_PATIENCE = 1.5  # seconds


def _ending(error: BaseException, resume: str, explain: Explain) -> stopping.Ending | None:
    """How a command ends after an exception; None: by passing it on."""
    # Lightning turns Ctrl-C into exit(1).
    interrupted = isinstance(error, KeyboardInterrupt) or isinstance(error.__context__, KeyboardInterrupt)
    # What loses another process fails in many ways, and maybe before it is told why.
    told_soon = isinstance(error, Exception) and not isinstance(error, UserError)
    if (known := stopping.ending(_PATIENCE if told_soon else 0.0)) is not None:
        return known
    if interrupted:
        return stopping.Ending(130, f"interrupted; {resume}" if resume else "interrupted")
    if isinstance(error, OSError) and (failure := output_failed()) is not None:
        if isinstance(failure, BrokenPipeError):
            return stopping.Ending(141, "stopped: nobody reads the output any more")
        return stopping.Ending(2, f"error: standard output: {_refusal(failure.errno, failure.strerror)}")
    line = explain(error) or _explained(error)
    return None if line is None else stopping.Ending(2, f"error: {line}")


def _explained(error: BaseException) -> str | None:
    """What this module can say about an exception."""
    if isinstance(error, UserError):
        return one_line(error)
    if isinstance(error, OSError):
        return _refused(error)
    if isinstance(error, BrokenExecutor):
        return "a worker process was ended from outside (as the system does where memory runs out); lower --workers"
    if isinstance(error, MemoryError):
        return "the memory of this machine is used up; end other programs, or lower --workers"
    if isinstance(error, UnicodeEncodeError):
        return f"{error.object!r} cannot be written in the encoding {error.encoding} of this shell; set PYTHONUTF8=1"
    return None


_REMEDIES = {
    errno.ENOSPC: "make room there",
    errno.EDQUOT: "make room there, or have the quota raised",
    errno.EFBIG: "raise the limit of the shell (ulimit -f), or choose another file system",
    errno.EIO: "the disk or its connection fails; see dmesg",
    errno.EMFILE: "raise the limit of the shell (ulimit -n), or lower num_workers",
    errno.ENFILE: "end other programs of this machine",
    errno.EROFS: "choose another folder",
    errno.ENOTDIR: "a part of this path is a file; move that away, or choose another place",
    errno.EISDIR: "a folder is in its place; move that away, or choose another place",
    errno.EEXIST: "move what is there away, or choose another place",
    errno.ELOOP: "links lead in a circle; correct them",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EACCES: "change the permissions, or choose another place",
    errno.EPERM: "change the permissions, or choose another place",
    errno.ENOMEM: "memory is used up: lower num_workers or batch_size, or end other programs",
    errno.EAGAIN: "no more processes can be started: raise the limit (ulimit -u), or lower num_workers",
    errno.ESTALE: "the network drive was lost; mount it again",
}
"""What helps where the system refuses something. An error without a file name and not of these is a fault of ours."""

_FROM_A_WORKER = re.compile(r"^\w+: \[Errno (\d+)\] (.*?)(?:: ['\"](.*)['\"])?$", re.MULTILINE)


def _refused(error: OSError) -> str | None:
    """The line about what the system refused; None if it is a fault of the program."""
    number, reason, name = error.errno, error.strerror, error.filename
    if number is None:  # from a loader process: the text alone is left
        found = _FROM_A_WORKER.findall(str(error))
        if not found:
            return None
        number, reason, name = int(found[-1][0]), found[-1][1], found[-1][2] or None
    if name is None and number not in _REMEDIES:
        return None
    return ("" if name is None else f"{_text(name)}: ") + _refusal(number, reason)


def _refusal(number: int | None, reason: str | None) -> str:
    remedy = _REMEDIES.get(number or 0)
    return f"{reason}; {remedy}" if remedy else str(reason)


def _text(name: object) -> str:
    return os.fsdecode(name) if isinstance(name, str | bytes) else str(name)
