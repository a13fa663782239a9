"""The flags that say in which frame and units scans are, and what to do about scans that do not fit the training."""

from __future__ import annotations

import argparse
import math
import shlex
from collections.abc import Callable
from typing import Literal, NoReturn, get_args

from utils.scan.alignment import Alignment
from utils.scan.axes import Axes, parse_axes
from utils.scan.fitting import Fit
from utils.text import shortened

_LARGEST = 1e12


def add_alignment_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags that `alignment_of` reads, and --fit."""
    group = parser.add_argument_group("frame and units of the scans, where they are not those of the training")
    add = group.add_argument
    add("--axes", type=_axes, metavar="forward=AXIS", help="the axis of the scans that points forward, such as "
        "forward=y or forward=-x; for other frames two or three, such as forward=z,up=-y or, to exchange x and y, "
        "forward=y,left=x")  # fmt: skip
    add("--length_scale", type=_factor, default=1.0, metavar="FACTOR", help="factor of the coordinates, to metres, "
        "such as 0.001 or 1/1000 for millimetres")  # fmt: skip
    add("--center", type=_center, nargs="?", const="auto", metavar="X,Y,Z", help="position of the sensor, in the axes "
        "and the unit of the scans; alone (or with `auto`) it is found in each scan, and the ground is moved to its "
        "height in the training")  # fmt: skip
    add("--sensor_height", type=_real, metavar="METRES", help="height of the sensor above the ground; 0 if the ground "
        "lies at 0")  # fmt: skip
    add("--intensity_scale", type=_scale, default=1.0, metavar="FACTOR", help="factor of the intensities, such as "
        "1/255; 0 leaves them out, and the median of the training stands in")  # fmt: skip
    add("--fit", choices=get_args(Fit), default="warn",
        help="what to do about scans that do not fit the training: say it with "
        "the flags that put it right (warn), use those flags (auto), do not look (off)")  # fmt: skip


def alignment_of(flags: argparse.Namespace) -> Alignment:
    """Returns the alignment that the flags of `add_alignment_flags` ask for."""
    center: tuple[float, float, float] | Literal["auto"] | None = flags.center
    return Alignment(flags.axes, flags.length_scale, center, flags.sensor_height, flags.intensity_scale)


def parse_alignment(text: str) -> Alignment:
    """Reads an alignment from the flags that `Alignment.flags` writes; they may come from a file.

    Raises:
        ValueError: the text is something else.
    """
    parser = _Refusing(add_help=False)
    add_alignment_flags(parser)
    return alignment_of(parser.parse_args(shlex.split(text)))


class _Refusing(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ValueError(message)


def _axes(text: str) -> Axes:
    try:
        return parse_axes(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{shortened(text, 40)!r} names no axes: {error}") from None


def _number(text: str, what: str, valid: Callable[[float], bool]) -> float:
    """Reads a number or a fraction such as 1/255."""
    above, slash, below = text.partition("/")
    try:
        value = float(above) / float(below) if slash else float(text)
    except (ValueError, ZeroDivisionError):
        value = math.nan
    if not (abs(value) <= _LARGEST and valid(value)):
        raise argparse.ArgumentTypeError(f"{shortened(text, 40)!r} is not {what}")
    return value


def _factor(text: str) -> float:
    return _number(text, "a factor, a number above 0 such as 0.001 or 1/255", lambda value: value > 1 / _LARGEST)


def _scale(text: str) -> float:
    valid = "a factor, 0 or a number above 0 such as 0.001 or 1/255"
    return _number(text, valid, lambda value: value == 0 or value > 1 / _LARGEST)


def _real(text: str) -> float:
    return _number(text, "a number", lambda value: True)


def _center(text: str) -> tuple[float, float, float] | Literal["auto"]:
    parts = text.split(",")
    if text == "auto":
        return "auto"
    if len(parts) != 3:
        raise argparse.ArgumentTypeError(
            f"{shortened(text, 40)!r} is not three numbers x,y,z; to have the position found, write --center auto"
        )
    x, y, z = (_number(part, "three numbers x,y,z", lambda value: True) for part in parts)
    return x, y, z
