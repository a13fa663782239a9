"""The position of a rotating LiDAR, from the points of one of its scans alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_REACH = 25.0  # metres around the middle of the points
_LAYER = 0.3  # metres; thickness of the ground, which may slope
_MOST = 300_000  # points of the ground; a map of many scans has more, and no rings
_LEAST = 200
_PIECES = 3000  # points at which the direction of a ring is measured
_NEIGHBOURS = 8
_STRAIGHT = 0.8  # (l1 - l2) / (l1 + l2) of the neighbours' covariance: they lie along a line
_AGREEMENT = 0.3  # sine; directions that do not come from rings around one point are off by 0.5 or more
_SHARPER = 1.2  # the sharpness of the beams has to grow by this factor to be believed
_FARTHEST = 1.0  # metres between the two estimates
_SAMPLE = 4000


@dataclass(frozen=True)
class Rings:
    """A frozen record of M pieces of the rings that the beams of a LiDAR draw on the ground.

    Attributes:
        places: (M, 2) where they are, metres.
        directions: (M, 2) unit vectors along them.
        height: of the ground, metres.
    """

    places: NDArray[np.float64]
    directions: NDArray[np.float64]
    height: float

    @classmethod
    def of(cls, xyz: NDArray[np.float64]) -> Rings | None:
        """Looks for rings in the near ground: neighbours that lie along a line.

        Args:
            xyz: (N, 3), metres, z up; the middle (median) of the points is near the origin.

        Returns:
            The pieces; None if there are too few of them.
        """
        ground = _ground(xyz)
        count = len(ground)
        if not _LEAST <= count <= _MOST:
            return None
        from scipy.spatial import KDTree  # here: the flags of the alignment are read without it

        tree = KDTree(ground[:, :2], balanced_tree=False, compact_nodes=False)
        at = ground[np.random.default_rng(0).permutation(count)[:_PIECES], :2]
        groups = ground[tree.query(at, k=_NEIGHBOURS)[1], :2]
        middles = groups.mean(axis=1)
        x, y = np.moveaxis(groups - middles[:, None], 2, 0)
        xx, yy, xy = (x * x).sum(axis=1), (y * y).sum(axis=1), (x * y).sum(axis=1)
        straight = np.hypot(xx - yy, 2 * xy) > _STRAIGHT * (xx + yy)
        angle = 0.5 * np.arctan2(2 * xy, xx - yy)[straight]
        directions = np.stack([np.cos(angle), np.sin(angle)], axis=1)
        return cls(middles[straight], directions, float(np.median(ground[:, 2]))) if len(angle) >= _LEAST else None

    def sines(self, center: NDArray[np.float64]) -> NDArray[np.float64]:
        """Computes by how much each piece is off the right angle to the way to `center` (2,), as (M,) sines."""
        away = np.maximum(np.linalg.norm(self.places - center, axis=1), 1.0)
        return np.abs(((center - self.places) * self.directions).sum(axis=1)) / away

    def center(self) -> NDArray[np.float64] | None:
        """Finds the (2,) point that the rings go around, by least squares in which what lies far off counts little.

        Returns:
            The point; None if they do not agree on one.
        """
        center = np.zeros(2)
        for _ in range(20):
            away = np.maximum(np.linalg.norm(self.places - center, axis=1), 1.0)
            sines = self.sines(center)
            scale = max(1.5 * float(np.median(sines)), 0.02)
            weighted = self.directions * (1 / (1 + (sines / scale) ** 2) / away**2)[:, None]
            square = weighted.T @ self.directions
            if np.linalg.cond(square) > 1e3:  # all directions are the same: walls, or the furrows of a field
                return None
            center = np.linalg.solve(square, weighted.T @ (self.places * self.directions).sum(axis=1))
        agreed = np.median(self.sines(center)) < _AGREEMENT and np.linalg.norm(center) < _REACH
        return center if agreed else None


def find_sensor(xyz: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """Finds where the sensor stood, from the rings that its beams draw on the ground.

    The rings are circles around the sensor, so the normals of their tangents meet there. From that place on, the one is
    searched from which the elevations of the points are most sharply those of single beams. The first estimate is good
    to decimetres; the second, where a scan is not corrected for the motion of its vehicle, to centimetres.

    Args:
        xyz: (N, 3), metres, z up; the middle (median) of the points is near the origin, the sensor within 25 m of it.

    Returns:
        (2,) x and y of the sensor; None if there are no such rings.
    """
    rings = Rings.of(xyz)
    rough = None if rings is None else rings.center()
    return None if rings is None or rough is None else _sharpened(xyz, np.array([*rough, rings.height]))


def sharpness(xyz: NDArray[np.float64], width: float) -> float:
    """Measures how sharply the elevations of points are those of single beams: 1 if all are the same.

    Args:
        xyz: (N, 3) seen from the sensor.
        width: of the bins, degrees.
    """
    elevation = np.degrees(np.arctan2(xyz[:, 2], np.hypot(xyz[:, 0], xyz[:, 1]))) / width + 90 / width
    below = elevation.astype(np.int64)
    part = elevation - below  # shared between two bins, so that the measure has no steps
    bins = int(180 / width) + 3
    counts = np.bincount(below, 1 - part, bins) + np.bincount(below + 1, part, bins)
    return float((counts @ counts) / max(len(xyz), 1) ** 2)


def _ground(xyz: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns the near points in the layer that has the most of them."""
    near = xyz[np.hypot(xyz[:, 0], xyz[:, 1]) < _REACH]
    z = np.sort(near[:, 2])
    if not len(z):
        return near
    ends = np.searchsorted(z, z + _LAYER, side="right")
    low = z[np.argmax(ends - np.arange(len(z)))]
    return near[(near[:, 2] >= low) & (near[:, 2] <= low + _LAYER)]


def _sharpened(xyz: NDArray[np.float64], rough: NDArray[np.float64]) -> NDArray[np.float64]:
    """Betters a (2,) position, step by step, as long as the beams become sharper.

    Args:
        xyz: all points.
        rough: (3,) position in x and y, and the height of the ground: the sensor is taken to be 1.8 m above it, which
            need not be exact.
    """
    beside = np.linalg.norm(xyz[:, :2] - rough[:2], axis=1)
    points = xyz[(beside > 2) & (beside < 30)]
    if not len(points):
        return rough[:2]
    rng = np.random.default_rng(0)
    points = points[rng.integers(len(points), size=_SAMPLE)] - rough - [0, 0, 1.8]
    spot, step, width = np.zeros(3), 0.32, 0.4
    best = first = sharpness(points, width)
    while step > 0.004:
        around = [spot + step * np.array([dx, dy, 0]) for dx, dy in ((1, 0), (-1, 0), (0, 1), (0, -1))]
        found = [sharpness(points - place, width) for place in around]
        if max(found) > best:
            spot, best = around[int(np.argmax(found))], max(found)
            if np.linalg.norm(spot) >= _FARTHEST:  # from ever farther away all elevations are the same: no end
                return rough[:2]
            continue
        step, width = step / 2, max(width / 2, 0.1)
        best, first = sharpness(points - spot, width), sharpness(points, width)
    return (rough + spot)[:2] if best > _SHARPER * first else rough[:2]
