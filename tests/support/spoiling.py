"""Records with one entry changed to whatever a file may hold."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from network.weights.pickled import OddTensor


def changed(content: dict[str, Any], place: list[Any], value: Any) -> dict[str, Any]:
    """Copies a record with another value at a place; tensors are shared."""
    whole = copy.copy(content)
    inner: Any = whole
    for key in place[:-1]:
        inner[key] = copy.copy(inner[key])
        inner = inner[key]
    inner[place[-1]] = value
    return whole


def without(content: dict[str, Any], place: list[Any]) -> dict[str, Any]:
    """Copies a record without the entry at a place."""
    whole = changed(content, place, None)
    inner: Any = whole
    for key in place[:-1]:
        inner = inner[key]
    del inner[place[-1]]
    return whole


def places(value: Any, depth: int = 5) -> Iterator[list[Any]]:
    """Yields the path to every entry; in a container of more than 14 only to the first two."""
    if depth == 0 or not isinstance(value, dict | list):
        return
    keys = list(value) if isinstance(value, dict) else list(range(len(value)))
    for key in keys if len(keys) <= 14 else keys[:2]:
        yield [key]
        for rest in places(value[key], depth - 1):
            yield [key, *rest]


def endless() -> list[Any]:
    """Makes a list that contains itself."""
    value: list[Any] = []
    value.append(value)
    return value


def laughing() -> list[Any]:
    """Makes a list whose text would have a billion entries."""
    value: list[Any] = ["ha"]
    for _ in range(30):
        value = [value, value]
    return value


OTHERS: dict[str, Callable[[Any], Any]] = {
    "nothing": lambda old: None,
    "a number": lambda old: -1,
    "an endless number": lambda old: 1 << 200,
    "NaN": lambda old: math.nan,
    "a text": lambda old: "../x",
    "a list": lambda old: [old],
    "an endless list": lambda old: endless(),
    "a billion laughs": lambda old: laughing(),
    "a dict": lambda old: {"x": old, 1: 2},
    "a tensor": lambda old: torch.full((2, 3), math.nan),
    "an odd tensor": lambda old: OddTensor("sparse"),
    "the same with NaN": lambda old: torch.full_like(old, math.nan) if _is_float(old) else True,
    "another shape": lambda old: old[None] if isinstance(old, Tensor) else (),
    "another type": lambda old: old.to(torch.complex64) if isinstance(old, Tensor) else b"x",
    "expanded": lambda old: torch.zeros(()).expand(old.shape) if isinstance(old, Tensor) else set(),
}


def _is_float(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()


def value_at(content: Any, place: list[Any]) -> Any:
    """Returns the value at a place."""
    for key in place:
        content = content[key]
    return content
