"""The box in which points are segmented, and its voxels."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Volume:
    """The box that is voxelised.

    Attributes:
        low, high: its corners (x, y, z), metres.
        grid: voxels per axis (x, y, z) at scale 1.
    """

    low: tuple[float, float, float]
    high: tuple[float, float, float]
    grid: tuple[int, int, int]

    @property
    def voxel_size(self) -> tuple[float, ...]:
        """Edge lengths of a scale-1 voxel, metres."""
        return tuple((hi - lo) / g for lo, hi, g in zip(self.low, self.high, self.grid, strict=True))
