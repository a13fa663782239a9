"""Errors that the user can fix: they are shown as one clear line, with exit code 2 and without a traceback."""

from __future__ import annotations

import re

from utils.text import printable


class UserError(Exception):
    """An error outside the program: in a file, a key, a checkpoint or a flag.

    The message is one line that names the file or key at fault and says what to do. `run_command` prints it. It may
    quote untrusted text: control characters are written as escapes.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message if message.startswith(_WRAPPED) else printable(message))


_WRAPPED = "Caught "
"""Start of the text of an error that torch raises again from a loader process; a traceback of many lines follows."""


def one_line(error: UserError) -> str:
    """Returns the message alone, without the traceback that torch adds to an error of a loader process.

    Args:
        error: an error raised here or raised again from a loader process (then its text ends with
            `utils.errors.UserError: <message>`).
    """
    text = str(error)
    wrapped = re.findall(r"UserError: (.*)", text)
    return wrapped[-1] if wrapped else text
