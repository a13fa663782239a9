"""Names that come from a file and become part of a path: none of them leads out of the folder it is meant for."""

from __future__ import annotations

import re

from utils.errors import UserError

_LONGEST_NAME, _LONGEST_PATH = 128, 255
"""Characters. Real tokens have 32 and real paths about 100; file systems take 255 in a part of a path."""

_NAME = re.compile(r"[A-Za-z0-9_-]+")
_FOLDER = re.compile(r"[A-Za-z0-9._-]+")
_PATH = re.compile(r"[ -.0-~]+(?:/[ -.0-~]+)*")
"""Printable ASCII; "/" only between two parts."""


def is_name(value: object) -> bool:
    """Whether `value` can be a part of a path: letters, digits, "_" and "-", at most 128 of them."""
    return isinstance(value, str) and len(value) <= _LONGEST_NAME and _NAME.fullmatch(value) is not None


def is_folder_name(value: object) -> bool:
    """Whether `value` can be a part of a path, with "." allowed: sequences may be called "night.2"."""
    return is_path_below(value) and _FOLDER.fullmatch(str(value)) is not None


def is_path_below(value: object) -> bool:
    """Whether `value` is a path that stays below the folder it starts from: relative, with "/", without ".."."""
    if not isinstance(value, str) or len(value) > _LONGEST_PATH or _PATH.fullmatch(value) is None:
        return False
    return not {".", ".."}.intersection(value.split("/"))


def checked_name(value: object, what: str, source: object) -> str:
    """`value`, which must be a name (`is_name`).

    Args:
        value: as read.
        what: it is ("scene name"), for the error message.
        source: the file it was read from, for the error message.

    Raises:
        UserError: it is none; says what a name is made of.
    """
    if not is_name(value):
        raise UserError(
            f"{source}: {what} {shown(value)} must be made of letters, digits, _ and - only (at most {_LONGEST_NAME}), "
            "since files are called by it; correct it"
        )
    assert isinstance(value, str)
    return value


def checked_path(value: object, what: str, source: object) -> str:
    """`value`, which must be a path below some folder (`is_path_below`); arguments and errors as of `checked_name`."""
    if not is_path_below(value):
        raise UserError(
            f"{source}: {what} {shown(value)} must be a relative path of printable ASCII, at most {_LONGEST_PATH} "
            "characters, that stays below its folder (no ..); correct it"
        )
    assert isinstance(value, str)
    return value


def shown(value: object, longest: int = 60) -> str:
    """A value from a file as it can be shown in a line: a name as it is, else in ASCII, and not too long."""
    if is_name(value):
        return str(value)
    text = ascii(value[: 2 * longest] if isinstance(value, str) else value)
    return text if len(text) <= longest else text[: longest - 5] + " [..]"
