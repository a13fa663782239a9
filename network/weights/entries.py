"""Entries of a checkpoint's nested dicts, each checked before it is used; what is wrong is named by its key."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from network.weights.pickled import shown

_T = TypeVar("_T")
_MAX_COUNT = 1 << 53
_MAX_VALUES = 10_000  # of all plain values of a section
_MAX_TEXT = 4096  # characters
_MAX_KEY = 128
_MAX_DEPTH = 8  # of lists and dicts in each other


class Wrong(Exception):
    """An entry of a checkpoint is missing or cannot be; the text is its key."""


def section(content: Mapping[Any, Any], key: str, where: str = "") -> Mapping[Any, Any]:
    """Return the dict at a key.

    Raises:
        Wrong: there is none.
    """
    found = content.get(key)
    if not isinstance(found, Mapping):
        raise Wrong(where + shown(key))
    return found


def entry(content: Mapping[Any, Any], key: str, check: Callable[[Any], _T | None], where: str = "") -> _T:
    """Return the value at a key, as `check` gives it back; `check` returns None for what is no such value.

    Raises:
        Wrong: it is missing or not what it should be.
    """
    value = check(content[key]) if key in content else None
    if value is None:
        raise Wrong(where + shown(key))
    return value


def count(value: Any) -> int | None:
    """Return a number of things, if the value is one."""
    return value if type(value) is int and 0 <= value <= _MAX_COUNT else None


def plain_values(found: Mapping[Any, Any], where: str, most: int = _MAX_VALUES) -> dict[str, Any]:
    """Copy a section that holds nothing but texts, numbers, truth values, None, and lists and dicts of them.

    Args:
        found: from a file. Its lists may hold themselves, or one list a billion times.
        where: its key.
        most: so many values may be in it, at all depths.

    Raises:
        Wrong: it holds something else, or more than any section has.
    """
    left = most

    def copied(value: Any, name: str, depth: int) -> Any:
        nonlocal left
        left -= 1
        if left < 0 or depth > _MAX_DEPTH:
            raise Wrong(name)
        if type(value) in (list, tuple):
            return [copied(item, name, depth + 1) for item in value]
        if type(value) is dict:
            if not all(type(key) is str and len(key) <= _MAX_KEY for key in value):
                raise Wrong(name)
            return {key: copied(item, f"{name}.{shown(key)}", depth + 1) for key, item in value.items()}
        plain = value is None or type(value) in (bool, float) or (type(value) is int and abs(value) < 1 << 64)
        if not plain and not (type(value) is str and len(value) <= _MAX_TEXT):
            raise Wrong(name)
        return value

    return copied(dict(found), where, 0)
