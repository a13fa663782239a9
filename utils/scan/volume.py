"""The volume: the box in which points are segmented, and its grid of voxels."""

from __future__ import annotations

from dataclasses import dataclass


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
