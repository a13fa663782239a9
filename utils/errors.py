"""Errors that are the user's to fix: one clear line, exit code 2, no traceback."""

from __future__ import annotations

import re


class UserError(Exception):
    """Something outside the program is wrong: a file, a key, a checkpoint, a flag.

    The message is one line that names the file or key at fault and says what to do. `main.py` and the tools
    print it and exit with code 2.
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
