"""The axes of a frame: which of its axes point forward, left and up, and how that is written."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Axes = tuple[str, str, str]
"""The axes that point forward, left and up, such as ("y", "-x", "z")."""

_COLUMNS = "xyz"
_DIRECTIONS = ("forward", "left", "up")
_OPPOSITES = {"back": "forward", "right": "left", "down": "up"}


def usual_axes(forward: str) -> Axes:
    """Returns the axes of a right-handed frame in which z points up.

    Args:
        forward: "x" or "y", as in `Sensor.forward`.
    """
    return completed({"forward": forward})


def opposite(axis: str) -> str:
    """Returns "-x" for "x" and the other way round."""
    return axis[1:] if axis.startswith("-") else f"-{axis}"


def column_and_sign(axis: str) -> tuple[int, int]:
    """Returns the column (0..2) of an axis, and 1 or -1."""
    return _COLUMNS.index(axis[-1]), -1 if axis.startswith("-") else 1


def cross(first: str, second: str) -> str:
    """Returns the axis at right angles to two different ones: with them it makes a right-handed frame."""
    turned = np.cross(_vector(first), _vector(second))
    column = int(np.flatnonzero(turned)[0])
    return ("" if turned[column] > 0 else "-") + _COLUMNS[column]


def _vector(axis: str) -> NDArray[np.int64]:
    column, sign = column_and_sign(axis)
    return np.eye(3, dtype=np.int64)[column] * sign


def parse_axes(text: str) -> Axes:
    """Reads axes from a text such as `forward=y`, `forward=-y,left=x` or `forward=z,up=-y`.

    A direction that is not given is completed: up is z unless another one is, and the rest makes the frame
    right-handed. All three, or forward and left, may also make it left-handed, which mirrors the points.

    Raises:
        ValueError: the text says nothing like that; the message says what it should be.
    """
    given: dict[str, str] = {}
    for pair in text.lower().split(","):
        name, _, axis = (part.strip() for part in pair.partition("="))
        axis = axis.removeprefix("+")
        if axis.removeprefix("-") not in tuple(_COLUMNS) or name not in (*_DIRECTIONS, *_OPPOSITES):
            raise ValueError("it should read forward=y, or forward=z,up=-y; back, left, right and down are known, too")
        direction = _OPPOSITES.get(name, name)
        if direction in given:
            raise ValueError(f"{direction} is given twice")
        given[direction] = opposite(axis) if name in _OPPOSITES else axis
    if len({axis[-1] for axis in given.values()}) < len(given):
        raise ValueError("one axis is given for two directions")
    return completed(given)


def completed(given: dict[str, str]) -> Axes:
    """Completes the axes of a frame.

    Args:
        given: the axis of "forward", "left" or "up", for one of them at least; all different.

    Raises:
        ValueError: they do not say enough.
    """
    found = dict(given)
    taken = {axis[-1] for axis in given.values()}
    if "up" not in found and len(found) == 1 and "z" in taken:
        raise ValueError("z does not point up, so say what does, as in forward=z,up=-y")
    if set(found) == {"up"}:
        raise ValueError("say which axis points forward, too, as in forward=x,up=z")
    if "up" not in found:
        found["up"] = cross(found["forward"], found["left"]) if "z" in taken else "z"
    if "left" not in found:
        found["left"] = cross(found["up"], found["forward"])
    if "forward" not in found:
        found["forward"] = cross(found["left"], found["up"])
    return found["forward"], found["left"], found["up"]


def write_axes(axes: Axes) -> str:
    """Writes axes as the shortest text that `parse_axes` reads back."""
    named: dict[str, str] = dict(zip(_DIRECTIONS, axes, strict=True))
    two = ("forward", "left") if axes[2] == "z" else ("forward", "up")
    for names in (("forward",), two, _DIRECTIONS):
        text = ",".join(f"{name}={named[name]}" for name in names)
        try:
            if parse_axes(text) == axes:
                return text
        except ValueError:
            continue
    raise ValueError(f"{axes} are not the axes of a frame")


def turned(axes: Axes, quarters: int) -> Axes:
    """Returns the axes of the frame that is turned to the left about its vertical axis.

    Args:
        quarters: number of quarter turns; 1 makes forward what was left.
    """
    forward, left, up = axes
    for _ in range(quarters % 4):
        forward, left = left, opposite(forward)
    return forward, left, up


def mirrored(axes: Axes) -> Axes:
    """Returns the axes of the frame with left and right exchanged."""
    forward, left, up = axes
    return forward, opposite(left), up
