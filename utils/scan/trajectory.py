"""The record of where a sensor was, scan after scan, and the checks of its poses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from utils.scan.motion import Motion, motion_between

Ages = Literal["scans", "seconds"]
"""The unit of `utils.scan.records.Scan.age` that a network has learned: SemanticKITTI's, or that of nuScenes."""

FARTHEST = 1e9  # metres from the origin; the circumference of the earth has 4e7
_SKEW = 1e-3  # of the products of two axes; KITTI's seven digits leave 1e-6


@dataclass(frozen=True)
class Trajectory:
    """A frozen record of the poses of a sensor at n scans.

    Attributes:
        poses: (n, 4, 4) float64, from the sensor's frame to one that all scans share.
        times: (n,) float64 seconds, increasing; None: not known.
    """

    poses: NDArray[np.float64]
    times: NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return len(self.poses)

    def motion(self, past: int, now: int) -> Motion:
        """Computes the motion from the sensor's frame at one scan to that at a later one."""
        return motion_between(self.poses[past], self.poses[now])

    def seconds(self, past: int, now: int) -> float:
        """Computes the time between two scans.

        Raises:
            ValueError: the times are not known.
        """
        if self.times is None:
            raise ValueError("the times of the scans are not known")
        return float(self.times[now] - self.times[past])


def rotation_fault(rotations: NDArray[np.float64]) -> tuple[int, str] | None:
    """Finds the first of some matrices (N, 3, 3) that is no rotation: its number, and why; None if all are."""
    with np.errstate(over="ignore", invalid="ignore"):
        products = np.swapaxes(rotations, 1, 2) @ rotations
        skew = np.abs(products - np.eye(3)).max(axis=(1, 2))
        volumes = np.linalg.det(rotations)
    bad = ~(skew <= _SKEW) | ~(volumes > 0)
    if not bad.any():
        return None
    row = int(bad.argmax())
    what = (
        f"its determinant is {volumes[row]:.3g}" if skew[row] <= _SKEW else "its axes are not orthogonal, of length 1"
    )
    return row, what


def rotations_of(quaternions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Computes the (N, 3, 3) rotations of quaternions (N, 4) w, x, y, z of length 1."""
    w, x, y, z = quaternions.T
    rotations = np.empty((len(quaternions), 3, 3))
    rotations[:, 0] = np.stack([1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)], axis=-1)
    rotations[:, 1] = np.stack([2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)], axis=-1)
    rotations[:, 2] = np.stack([2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)], axis=-1)
    return rotations


def first_not_later(times: NDArray[np.float64]) -> int | None:
    """Finds the first of some times (n,) that is not later than the one before it; None: all are."""
    steps = np.diff(times)
    return None if (steps > 0).all() else int((~(steps > 0)).argmax()) + 1
