"""The ground under a sweep: which points it is, how steeply the beams meet it and what it returns at a distance.

Both snow and wet ground lean on it (Hahner et al., "LiDAR Snowfall Simulation", CVPR 2022). G is the number of ground
points; intensities here are a fraction of the sensor's largest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from dataloader.corruptions.sweep import Sweep

GroundRule = Literal["labels", "plane"]

POWER = 15.0
"""Output power over the mean return of the ground."""
BINS = 50
NEAREST, FARTHEST = 10.0, 70.0
"""Metres: the noise threshold is fitted to `BINS` bins of distance between them."""


@dataclass(frozen=True)
class Ground:
    """Ground points and how beams meet them.

    Attributes:
        rows: (G,) int64 rows in the sweep.
        distance: (G,) float64, metres from the sensor.
        cosine: (G,) float64, of the incidence angle, above 0.
        normalised: (G,) float64, intensity / cosine, intensity as a fraction of the sensor's largest.
    """

    rows: np.ndarray
    distance: np.ndarray
    cosine: np.ndarray
    normalised: np.ndarray


def find_ground(sweep: Sweep, rng: np.random.Generator, rule: GroundRule = "labels") -> Ground:
    """The ground of a sweep; points that a beam could meet at more than 89.4 degrees (cosine 0.01) are left out.

    Args:
        sweep: any number of points.
        rng: draws the hypotheses of the plane; untouched by "labels".
        rule: "labels" takes the sensor's ground classes and a flat earth (Robo3D); "plane" what lies within 0.5 m of
            a plane fitted to the points below the sensor, and its normal.
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
    """(N,) mask of points within 0.5 m of the ground plane, and its unit normal, up.

    RANSAC over 200 triples of points 1 m or more below the sensor, then least squares on z = ax + by + c.
    """
    low = xyz[xyz[:, 2] < -1.0]
    if len(low) < 3:
        return np.zeros(len(xyz), bool), np.array([0.0, 0.0, 1.0])
    some = low[rng.integers(0, len(low), min(2000, len(low)))]
    corners = low[rng.integers(0, len(low), (200, 3))]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    # A road is not steeper than 20 degrees; walls are.
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
    """Fits over distance d of the normalised intensity, both (slope, offset).

    Attributes:
        mean: of all ground points.
        low: of the weakest return that is still there, per bin of distance.
    """

    mean: tuple[float, float]
    low: tuple[float, float]

    def output_power(self, distance: np.ndarray) -> np.ndarray:
        """I_0(d) = 15 (a d + b); a falling fit is held just above 0."""
        return POWER * np.maximum(self.mean[0] * distance + self.mean[1], 1e-6)

    def noise(self, distance: np.ndarray, noise_floor: float) -> np.ndarray:
        """n(d), the normalised intensity below which nothing is reported: 0 or more.

        The low fit is used no higher than the mean fit: drawn on from a few far bins to the sensor's feet it would
        otherwise call all of the near ground noise.
        """
        low, mean = (slope * distance + offset for slope, offset in (self.low, self.mean))
        return noise_floor * np.maximum(np.minimum(low, mean), 0.0)


def fit_return(ground: Ground, weakest: float) -> GroundReturn:
    """Fit what the dry ground returns.

    The weakest return of a bin is the least normalised intensity of its points above `weakest`, if more than 5 are;
    with 3 such bins or fewer the mean fit stands in for the low one.

    Args:
        ground: at least two points.
        weakest: as a fraction of the sensor's largest intensity. SnowSim starts at 5 of 255. On SemanticKITTI's 0..1
            Robo3D keeps the 5, which few points reach: then the mean fit decides nearly everywhere, as it does with
            infinity. On nuScenes it starts at 0.
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
    """Least squares: slope and offset; a flat line where all x are one."""
    spread = x - x.mean()
    slope = float(spread @ y / max(float(spread @ spread), 1e-12))
    return slope, float(y.mean() - slope * x.mean())
