"""Errors that are the user's to fix: one clear line, exit code 2, no traceback."""

from __future__ import annotations

import re

from utils.text import printable


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
