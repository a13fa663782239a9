"""The volume: the box in which points are segmented, and its grid of voxels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Volume:
    """A frozen record of the box that is divided into voxels.

    Attributes:
        low, high: corners of the box (x, y, z), metres.
        grid: number of voxels along each axis (x, y, z) at scale 1.
    """

    low: tuple[float, float, float]
    high: tuple[float, float, float]
    grid: tuple[int, int, int]

    @property
    def voxel_size(self) -> tuple[float, ...]:
        """The edges (x, y, z) of a voxel at scale 1, metres."""
        return tuple((hi - lo) / g for lo, hi, g in zip(self.low, self.high, self.grid, strict=True))


def in_volume(xyz: NDArray[np.float32], low: Sequence[float], high: Sequence[float]) -> NDArray[np.bool_]:
    """Computes an (N,) bool mask of the points with low < xyz < high on every axis.

    The bounds are exclusive: a point at `high` has no voxel. A point with a NaN is outside.

    Args:
        xyz: (N, 3) float32, metres.
        low, high: 3 numbers each, metres.
    """
    inside = np.ones(len(xyz), dtype=bool)
    for axis in range(3):
        column = np.ascontiguousarray(xyz[:, axis])  # contiguous, because it is read twice
        inside &= (column > np.float32(low[axis])) & (column < np.float32(high[axis]))
    return inside


PAST_REACH = 500.0
"""Metres to the sensor, along each axis, within which past points are used: 100 scans on a motorway and the range of a
LiDAR. Where poses jump, a past scan would lie kilometres away, and the voxel models, which have no volume, would take
the middle between it and the scan for the middle of the scan."""


def past_in_volume(xyz: NDArray[np.float32], low: Sequence[float], high: Sequence[float]) -> NDArray[np.bool_]:
    """Computes an (N,) bool mask of the past points that are used, as `in_volume`: within `PAST_REACH`, too."""
    return in_volume(xyz, [max(at, -PAST_REACH) for at in low], [min(at, PAST_REACH) for at in high])
