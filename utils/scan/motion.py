"""The motion of the sensor from one sweep to another, by which points of past sweeps come into the frame of this one.

All is in double precision until the points lie in that frame: a pose may be kilometres from the origin, where the
numbers of single precision are millimetres apart, and two such errors add up to centimetres.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from utils.scan.moving import move
from utils.scan.records import Scan, constant, no_pixels

Motion = NDArray[np.float64]
"""(3, 4) [rotation | translation in metres], from the sensor's frame at another sweep to its frame at this one."""


def motion_between(past: NDArray[np.float64], now: NDArray[np.float64]) -> Motion:
    """Computes the motion from the frame of a past sweep to that of the current one: now^-1 past.

    Args:
        past, now: (4, 4) float64, the poses of the sensor at the sweeps, in any common frame.
    """
    # Not its transpose: a file has a rotation rounded, and what is rounded in both poses alike must cancel out.
    back = np.linalg.inv(now[:3, :3])
    # The positions are kilometres from the origin and metres apart: their difference comes first.
    return back @ np.column_stack([past[:3, :3], past[:3, 3] - now[:3, 3]])


def move_points(xyz: NDArray[np.floating[Any]], motion: Motion) -> NDArray[np.float32]:
    """Moves points (N, 3) by a motion; returns (N, 3) float32, rounded once, at the end."""
    moved = np.empty((len(xyz), 3), dtype=np.float32)
    move(xyz, motion, moved)
    return moved


def as_past(scan: Scan, motion: Motion, age: float) -> Scan:
    """Returns a past sweep as points of the current one: moved, with their age, without pixels and rows in a file.

    Args:
        scan: the sweep in its own frame.
        motion: from its frame to the current one.
        age: how old it is; see `Scan.age`.
    """
    with np.errstate(over="ignore", invalid="ignore"):  # what a damaged file has instead of coordinates
        xyz = move_points(scan.xyz, motion)
    count = len(scan)
    return replace(
        scan,
        xyz=xyz,
        index=constant(np.int64(-1), count),
        pixels=no_pixels(count),
        image=None,
        age=constant(np.float32(age), count),
    )
