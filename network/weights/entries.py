"""Checked access to the nested dicts of a checkpoint; an error names the key of the wrong entry."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from network.weights.pickled import shown

_T = TypeVar("_T")
_MAX_COUNT = 1 << 53
_MAX_VALUES = 10_000  # plain values in a section
_MAX_TEXT = 4096  # characters
_MAX_KEY = 128
_MAX_DEPTH = 8  # nesting of lists and dicts


class Wrong(Exception):
    """An error about a missing or wrong entry of a checkpoint; its text is the key."""


def section(content: Mapping[Any, Any], key: str, where: str = "") -> Mapping[Any, Any]:
    """Returns the dict at a key.

    Raises:
        Wrong: there is no dict at the key.
    """
    found = content.get(key)
    if not isinstance(found, Mapping):
        raise Wrong(where + shown(key))
    return found


def entry(content: Mapping[Any, Any], key: str, check: Callable[[Any], _T | None], where: str = "") -> _T:
    """Returns the value at a key, as `check` returns it; `check` returns None for a wrong value.

    Raises:
        Wrong: the value is missing or wrong.
    """
    value = check(content[key]) if key in content else None
    if value is None:
        raise Wrong(where + shown(key))
    return value


def count(value: Any) -> int | None:
    """Returns the value if it is a count, an int of 0 or more; else None."""
    return value if type(value) is int and 0 <= value <= _MAX_COUNT else None


def positive(value: Any) -> int | None:
    """Returns the value if it is a count of 1 or more; else None."""
    return count(value) or None


def is_number(value: Any) -> bool:
    """Returns whether a value is a finite int or float."""
    return type(value) in (int, float) and math.isfinite(value)


def plain_values(found: Mapping[Any, Any], where: str, most: int = _MAX_VALUES) -> dict[str, Any]:
    """Copies a section that may hold texts, numbers, truth values, None, and lists and dicts of them.

    Args:
        found: section of a file. Its lists may hold themselves, or one list a billion times.
        where: key of the section.
        most: largest number of values in it, at all depths.

    Raises:
        Wrong: it holds values of other types, or too many.
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
