"""Checks of names that come from a file and become part of a path: none may lead out of its folder."""

from __future__ import annotations

import re

from utils.errors import UserError

_LONGEST_NAME, _LONGEST_PATH = 128, 255
"""Largest numbers of characters; real tokens have 32, real paths about 100. File systems allow 255 in a part."""

_NAME = re.compile(r"[A-Za-z0-9_-]+")
_FOLDER = re.compile(r"[A-Za-z0-9._-]+")
_PATH = re.compile(r"[ -.0-~]+(?:/[ -.0-~]+)*")
"""Printable ASCII; "/" only between two parts."""


def is_name(value: object) -> bool:
    """Returns whether `value` can be a part of a path: at most 128 letters, digits, "_" and "-"."""
    return isinstance(value, str) and len(value) <= _LONGEST_NAME and _NAME.fullmatch(value) is not None


def is_folder_name(value: object) -> bool:
    """Returns whether `value` can be a part of a path, with "." allowed, as in a sequence called "night.2"."""
    return is_path_below(value) and _FOLDER.fullmatch(str(value)) is not None


def is_path_below(value: object) -> bool:
    """Returns whether `value` is a path that stays below its folder: relative, with "/", without parts ".." or "."."""
    if not isinstance(value, str) or len(value) > _LONGEST_PATH or _PATH.fullmatch(value) is None:
        return False
    return not {".", ".."}.intersection(value.split("/"))


def checked_name(value: object, what: str, source: object) -> str:
    """Returns `value` after a check that it is a name (`is_name`).

    Args:
        value: the value as read.
        what: what it is ("scene name"), for the error message.
        source: the file it was read from, for the error message.

    Raises:
        UserError: the value is not a name; the message says which characters a name may have.
    """
    if not is_name(value):
        raise UserError(
            f"{source}: {what} {shown(value)} must be made of letters, digits, _ and - only (at most {_LONGEST_NAME}), "
            "since files are called by it; correct it"
        )
    assert isinstance(value, str)
    return value


def checked_path(value: object, what: str, source: object) -> str:
    """Returns `value` after a check that it is a path below a folder (`is_path_below`); arguments: see `checked_name`.

    Raises:
        UserError: the value is not such a path.
    """
    if not is_path_below(value):
        raise UserError(
            f"{source}: {what} {shown(value)} must be a relative path of printable ASCII, at most {_LONGEST_PATH} "
            "characters, that stays below its folder (no ..); correct it"
        )
    assert isinstance(value, str)
    return value


def shown(value: object, longest: int = 60) -> str:
    """Formats a value from a file for a message: a name as it is, anything else in ASCII and at most `longest` long."""
    if is_name(value):
        return str(value)
    text = ascii(value[: 2 * longest] if isinstance(value, str) else value)
    return text if len(text) <= longest else text[: longest - 5] + " [..]"
