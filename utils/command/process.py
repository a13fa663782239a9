"""The run of a command and its end: an exit code, and one line without traceback for what the user can correct."""

from __future__ import annotations

import errno
import os
import re
import sys
import warnings
from collections.abc import Callable
from concurrent.futures import BrokenExecutor

from utils.command import stopping
from utils.command.failures import explain
from utils.command.terminal import output_failed, say_error
from utils.command.watching import Ending
from utils.errors import UserError, one_line
from utils.memory import ALL, keep_freed_memory
from utils.text import printable

Explain = Callable[[BaseException], str | None]
"""A function that returns the line about an exception that is no fault of the program, and None for any other."""


def run_command(main: Callable[[], None], resume: str = "", explain: Explain = lambda _: None) -> int:
    """Runs a command; an error that the user can correct becomes one line on stderr.

    Args:
        main: the command, its arguments bound.
        resume: how to continue after an interruption, for the line about it.
        explain: returns lines about exceptions that this module does not know.

    Returns:
        The exit code: 0; 2 after a `UserError`, or where the system refuses something; 128 + number after a signal
        (Ctrl-C: 130); 141 if nobody reads the output any more. Any other exception passes through: it is a fault of
        the program, and the traceback helps to find it.
    """
    ending = Ending(0, "")
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


def _ending(error: BaseException, resume: str, explain: Explain) -> Ending | None:
    """Returns the ending of a command after an exception; None: the exception is a fault of the program."""
    # Lightning turns Ctrl-C into exit(1).
    interrupted = isinstance(error, KeyboardInterrupt) or isinstance(error.__context__, KeyboardInterrupt)
    # A process that loses another one fails in many ways, perhaps before it hears of the reason.
    told_soon = isinstance(error, Exception) and not isinstance(error, UserError)
    if (known := stopping.ending(_PATIENCE if told_soon else 0.0)) is not None:
        return known
    if interrupted:
        return Ending(130, f"interrupted; {resume}" if resume else "interrupted")
    if isinstance(error, OSError) and (failure := output_failed()) is not None:
        if isinstance(failure, BrokenPipeError):
            return Ending(141, "stopped: nobody reads the output any more")
        return Ending(2, f"error: standard output: {_refusal(failure.errno, failure.strerror)}")
    line = explain(error) or _explained(error)
    return None if line is None else Ending(2, f"error: {line}")


def _explained(error: BaseException) -> str | None:
    """Returns the line of this module about an exception; None if it has none."""
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
"""Remedies where the system refuses something. Other errors are faults of the program if they name no file."""


_FROM_A_WORKER = re.compile(r"^\w+: \[Errno (\d+)\] (.*?)(?:: ['\"](.*)['\"])?$", re.MULTILINE)


def _refused(error: OSError) -> str | None:
    """Returns the line about what the system refused; None if it is a fault of the program."""
    number, reason, name = error.errno, error.strerror, error.filename
    if number is None:  # from a loader process, which passes on only the text
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


CONTINUES = "--checkpoint last continues from the last checkpoint"


def run_program(main: Callable[[], None], resume: str = "") -> int:
    """Runs a command on a network; errors that the user can correct become one line and exit code 2.

    A signal ends it with exit code 128 + number of the signal.

    Args:
        main: the command, its arguments bound.
        resume: how to continue after an interruption.
    """
    _quiet_libraries()
    keep_freed_memory(ALL)
    return run_command(main, resume, explain)


def _quiet_libraries() -> None:
    """Limits the output to what helps the user: our lines, progress bars, real warnings."""
    for message in (
        ".*does not have many workers.*",
        ".*This DataLoader will create .* worker processes.*",  # `loader_notice` says this
        ".*Checkpoint directory .* exists and is not empty.*",
        ".*The number of training batches .* is smaller than the logging interval.*",
        ".*was configured without a learning rate.*",
        ".*Experiment logs directory.*",
        ".*TypedStorage is deprecated.*",
        ".*broadcast_buffers.*deprecated.*",
        ".*recommended to use `self.log.*sync_dist=True.*",  # our scores are the same on every process already
        ".*`isinstance\\(treespec, LeafSpec\\)` is deprecated.*",
    ):
        warnings.filterwarnings("ignore", message)
    warnings.formatwarning = _one_line
    if sys.unraisablehook is sys.__unraisablehook__:  # pytest sets its own hook
        sys.unraisablehook = _quiet_unraisable


def _one_line(message: Warning | str, category: type[Warning], *place: object, **line: object) -> str:
    """Formats a warning without the line of source that it comes from, which is of no use to the user."""
    return "\n".join(map(printable, f"warning: {message}\n".split("\n")))


def _quiet_unraisable(problem: sys.UnraisableHookArgs) -> None:
    """Drops the second error of a loader whose processes could not be started, which comes when it is deleted."""
    if not getattr(problem.object, "__qualname__", "").startswith("_MultiProcessingDataLoaderIter."):
        sys.__unraisablehook__(problem)
