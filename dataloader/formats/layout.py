"""The record of what the user says about files of points that do not say it themselves, and the names of columns."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

FLOAT32 = "<f4"

_INTENSITIES = (
    "intensity", "i", "intensities", "reflectivity", "reflectance", "remission", "remissions", "signal",
)  # fmt: skip
"""Names of intensities in files, the most telling first; CloudCompare writes `scalar_` before them."""


@dataclass(frozen=True)
class Layout:
    """A frozen record of what the user says about files that do not say it themselves.

    Attributes:
        columns: names of the columns of tables without a header (`x`, `y`, `z`, `i`, and `_` for one to be left out),
            of `.bin`, `.npy`, `.npz` and text, as `parse_columns` returns them; None: found out where it is certain.
        dtype: type of the numbers of `.bin`, a NumPy name such as "<f4"; with `columns` only.
        topic: the topic of a bag; None: the only one with points.
    """

    columns: tuple[str, ...] | None = None
    dtype: str = FLOAT32
    topic: str | None = None


class Fields(NamedTuple):
    """Positions of x, y, z and intensity among the fields of a file; None: it has no intensity."""

    x: int
    y: int
    z: int
    intensity: int | None

    @property
    def used(self) -> list[int]:
        """The positions of x, y, z and, if there is one, of intensity."""
        return [*self[:3], *([] if self.intensity is None else [self.intensity])]


def find_fields(names: Sequence[str]) -> Fields:
    """Finds x, y, z and the intensity by name, in any case of letters.

    Raises:
        ValueError: x, y or z is missing; the text lists the names, to follow the name of the file.
    """
    lower = [name.strip().lower().removeprefix("scalar_") for name in names]
    missing = [axis for axis in "xyz" if axis not in lower]
    if missing:
        raise ValueError(f"it has no {', '.join(missing)} among its fields ({_listed(names)})")
    intensity = next((lower.index(name) for name in _INTENSITIES if name in lower), None)
    return Fields(lower.index("x"), lower.index("y"), lower.index("z"), intensity)


def _listed(names: Sequence[str]) -> str:
    """Returns at most twelve of the names, as text."""
    return ", ".join([*(name[:40] for name in names[:12]), *(["..."] if len(names) > 12 else [])]) or "none"


def named_columns(number: int) -> str:
    """Returns a value of `--columns` for so many columns, at least 3, in the usual order: x,y,z,i and what is left."""
    return ",".join([*"xyz", *"i" * (number > 3), *"_" * (number - 4)])


def parse_columns(text: str) -> tuple[str, ...]:
    """Parses the value of `--columns`, such as "x,y,z,i,_".

    Args:
        text: names with commas between them. `x`, `y` and `z` are needed; `i` (or another name of intensity, such as
            `reflectance`) is not; any other name is a column to be left out, as is `_`.

    Raises:
        argparse.ArgumentTypeError: x, y or z is missing, or a name stands twice.
    """
    names = tuple(name.strip().lower() for name in text.split(","))
    if "" in names:
        raise argparse.ArgumentTypeError(f"{text!r}: write the name of every column, such as x,y,z,i,_")
    twice = [name for name in dict.fromkeys(names) if name != "_" and names.count(name) > 1]
    if twice or {"i", "intensity"} <= set(names):
        raise argparse.ArgumentTypeError(f"{text!r}: {twice[0] if twice else 'intensity'} stands twice; one of them: _")
    try:
        find_fields(names)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: x, y and z are needed, such as x,y,z,i,_") from None
    return names


def parse_dtype(text: str) -> str:
    """Parses the value of `--dtype`, a type of numbers as NumPy names it: "f4", ">f8", "uint16".

    Returns:
        The name with its byte order, such as "<f4".

    Raises:
        argparse.ArgumentTypeError: it names no integers or floating-point numbers of 1 to 8 bytes.
    """
    try:
        dtype = np.dtype(text.strip())
    except (TypeError, ValueError, SyntaxError, OverflowError):
        dtype = np.dtype("V1")
    if not is_number(dtype) or not text.strip():
        raise argparse.ArgumentTypeError(
            f"{text!r} is no type of numbers; such are float32, float64, uint16, and >f4 in quotes"
        )
    return dtype.str


def is_number(dtype: np.dtype) -> bool:
    """Returns whether values of the type are integers or floating-point numbers of 1 to 8 bytes."""
    return dtype.kind in "fiu" and dtype.itemsize <= 8
