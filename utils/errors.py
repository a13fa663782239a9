"""Errors that are the user's to fix: one clear line, exit code 2, no traceback."""

from __future__ import annotations

import errno
import re
import sys
from collections.abc import Callable


class UserError(Exception):
    """Something outside the program is wrong: a file, a key, a checkpoint, a flag.

    The message is one line that names the file or key at fault and says what to do. `run_command` prints it.
    """


def one_line(error: UserError) -> str:
    """The message alone, also when a DataLoader worker has wrapped it in its traceback.

    Args:
        error: an error raised here or re-raised from a worker process (then its text ends with
            `utils.errors.UserError: <message>`).
    """
    text = str(error)
    wrapped = re.findall(r"UserError: (.*)", text)
    return wrapped[-1] if wrapped else text


def run_command(main: Callable[[], None]) -> int:
    """Run a command; what the user can mend ends as one line on stderr.

    Args:
        main: the command, its arguments bound.

    Returns:
        The exit code: 0; 2 after a `UserError` or a file that the system refuses; 130 after Ctrl-C. Any other
        exception passes through: it is a fault of the program, and its traceback is wanted.
    """
    try:
        main()
    except UserError as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        return 2
    except OSError as error:
        if error.filename is None and error.errno != errno.ENOSPC:
            raise
        where = "" if error.filename is None else f"{error.filename}: "
        print(f"error: {where}{error.strerror}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 0
