"""The ground of a sweep: its points, the angle at which the beams meet it, and its return over distance.

Snow and wet ground both use it (Hahner et al., "LiDAR Snowfall Simulation", CVPR 2022). G is the number of ground
points; intensities here are a fraction of the sensor's largest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from dataloader.corruptions.sweep import Sweep

GroundRule = Literal["labels", "plane"]

POWER = 15.0
"""Ratio of the output power to the mean return of the ground."""
BINS = 50
NEAREST, FARTHEST = 10.0, 70.0
"""Range of distance, metres, in which the noise threshold is fitted to `BINS` bins."""


@dataclass(frozen=True)
class Ground:
    """A frozen record of the ground points of a sweep.

    Attributes:
        rows: (G,) int64 rows in the sweep.
        distance: (G,) float64 distance from the sensor, metres.
        cosine: (G,) float64 cosine of the incidence angle, above 0.
        normalised: (G,) float64, intensity / cosine, with the intensity as a fraction of the sensor's largest.
    """

    rows: np.ndarray
    distance: np.ndarray
    cosine: np.ndarray
    normalised: np.ndarray


def find_ground(sweep: Sweep, rng: np.random.Generator, rule: GroundRule = "labels") -> Ground:
    """Finds the ground points of a sweep, without those with an incidence angle above 89.4 degrees (cosine 0.01).

    Args:
        sweep: N points, 0 allowed.
        rng: source of the hypotheses of the plane; not used with "labels".
        rule: "labels" takes the points of the sensor's ground classes and a vertical normal (Robo3D); "plane" takes the
            points within 0.5 m of a plane fitted to the points below the sensor, and its normal.

    Raises:
        ValueError: an unknown rule.
    """
    distance = sweep.ranges()
    if rule == "labels":
        ground = np.isin(sweep.labels, sweep.sensor.ground)
        normal = np.array([0.0, 0.0, 1.0])
    elif rule == "plane":
        ground, normal = _near_plane(sweep.xyz.astype(np.float64), rng)
    else:
        raise ValueError(f'ground {rule!r}: "labels" or "plane" is needed')
    cosine = -(sweep.xyz.astype(np.float64) @ normal) / np.maximum(distance, 1e-6)
    rows = np.flatnonzero(ground & (cosine > 0.01))
    cosine = np.minimum(cosine[rows], 1.0)
    intensity = sweep.intensity[rows].astype(np.float64) / sweep.sensor.intensity_max
    return Ground(rows, distance[rows], cosine, intensity / cosine)


def _near_plane(xyz: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Computes an (N,) bool mask of the points within 0.5 m of the ground plane, and the plane's unit normal, upwards.

    It uses RANSAC over 200 triples of points 1 m or more below the sensor, then least squares on z = ax + by + c.
    """
    low = xyz[xyz[:, 2] < -1.0]
    if len(low) < 3:
        return np.zeros(len(xyz), bool), np.array([0.0, 0.0, 1.0])
    some = low[rng.integers(0, len(low), min(2000, len(low)))]
    corners = low[rng.integers(0, len(low), (200, 3))]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    # Roads are less steep than 20 degrees; walls are steeper.
    upright = np.abs(normals[:, 2]) > 0.94
    off = np.abs(normals @ some.T - np.einsum("ij,ij->i", normals, corners[:, 0])[:, None])
    votes = np.where(upright, (off < 0.2).sum(axis=1), 0)
    best = int(votes.argmax())
    normal = normals[best] if votes[best] else np.array([0.0, 0.0, 1.0])
    point = corners[best, 0] if votes[best] else np.median(low, axis=0)
    inliers = low[np.abs((low - point) @ normal) < 0.2]
    if len(inliers) < 3:
        return np.abs((xyz - point) @ normal) < 0.5, normal * np.sign(normal[2])
    columns = np.c_[inliers[:, :2], np.ones(len(inliers))]
    a, b, c = np.linalg.lstsq(columns, inliers[:, 2], rcond=None)[0]
    length = np.sqrt(a * a + b * b + 1.0)
    mask = np.abs(xyz[:, 2] - xyz[:, 0] * a - xyz[:, 1] * b - c) / length < 0.5
    return mask, np.array([-a, -b, 1.0]) / length


@dataclass(frozen=True)
class GroundReturn:
    """Two linear fits of the normalised intensity over distance d, each as (slope, offset).

    Attributes:
        mean: fit to all ground points.
        low: fit to the weakest returns, one per bin of distance.
    """

    mean: tuple[float, float]
    low: tuple[float, float]

    def output_power(self, distance: np.ndarray) -> np.ndarray:
        """Computes I_0(d) = 15 (a d + b), limited to values above 0, for `distance` d in metres, any shape."""
        return POWER * np.maximum(self.mean[0] * distance + self.mean[1], 1e-6)

    def noise(self, distance: np.ndarray, noise_floor: float) -> np.ndarray:
        """Computes n(d), 0 or more: the normalised intensity below which the sensor reports nothing.

        The lower of the two fits is used: the low fit, extrapolated from a few far bins to the sensor, could otherwise
        make noise of all near ground.

        Args:
            distance: d, metres, any shape.
            noise_floor: n(d) as a fraction of the weakest return.
        """
        low, mean = (slope * distance + offset for slope, offset in (self.low, self.mean))
        return noise_floor * np.maximum(np.minimum(low, mean), 0.0)


def fit_return(ground: Ground, weakest: float) -> GroundReturn:
    """Fits the return of the dry ground over distance.

    The weakest return of a bin is the smallest normalised intensity above `weakest`, if more than 5 points are above
    it. With 3 such bins or fewer the mean fit is used for both.

    Args:
        ground: at least two points.
        weakest: a fraction of the sensor's largest intensity. SnowSim uses 5 / 255. Robo3D uses 5 with the intensities
            0..1 of SemanticKITTI, which few points reach: then the mean fit is used almost everywhere, as with
            infinity. On nuScenes it uses 0.
    """
    mean = _line(ground.distance, ground.normalised)
    usable = (ground.distance >= NEAREST) & (ground.distance < FARTHEST) & (ground.normalised > weakest)
    bins = ((ground.distance[usable] - NEAREST) * (BINS / (FARTHEST - NEAREST))).astype(np.int64)
    lowest = np.full(BINS, np.inf)
    np.minimum.at(lowest, bins, ground.normalised[usable])
    full = np.flatnonzero(np.bincount(bins, minlength=BINS) > 5)
    if len(full) <= 3:
        return GroundReturn(mean, mean)
    centres = NEAREST + (full + 0.5) * ((FARTHEST - NEAREST) / BINS)
    return GroundReturn(mean, _line(centres, lowest[full]))


def _line(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Fits a line by least squares and returns (slope, offset); the line is flat if all x are equal."""
    spread = x - x.mean()
    slope = float(spread @ y / max(float(spread @ spread), 1e-12))
    return slope, float(y.mean() - slope * x.mean())
