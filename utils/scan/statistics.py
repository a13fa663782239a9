"""Statistics of scans: the distributions of their numbers, for a comparison with scans from another source.

A network that was trained on intensities of 0..1 and a ground at -1.7 m gives meaningless results for intensities of
0..255 or a ground at 0 m, without an error. Both are visible in these statistics.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from utils.scan.records import Scan
from utils.scan.sensor import Sensor
from utils.scan.traits import PERCENTAGES, Traits, ground_of, quantiles_of, traits_of

_SAMPLE = 1 << 20  # points of all scans together: 12 MB
_TRAITS = 64  # scans whose traits are measured, at 10 ms each
_GROUND_SAMPLE = 8192  # points of one scan


@dataclass(frozen=True)
class Statistics:
    """A frozen record of the statistics of a set of scans as measured: before augmentation, with the whole sweeps.

    Quantiles are 9 ascending numbers, one for each of `PERCENTAGES`. Those at 0 and 100 % are computed from all points,
    the others from an equal number of random points of each scan. Points without finite coordinates do not count.

    Attributes:
        scans: number of scans.
        intensity: quantiles, in the unit of the data set.
        height: quantiles of z, metres above the sensor.
        range: quantiles of the distance from the sensor, metres.
        points_per_scan: quantiles over the scans.
        ground_height: median of `ground_height` over the scans, metres; None if no scan shows the ground.
        class_shares: share of each learning id in all points, K numbers with the sum 1; the ignored 0 first.
        traits: quantiles over the scans (of many: over 64 of them) of the traits of each, by name
            (`utils.scan.traits.Traits`); empty for a checkpoint of an earlier version, and what no scan shows is left
            out.
    """

    scans: int
    intensity: tuple[float, ...]
    height: tuple[float, ...]
    range: tuple[float, ...]
    points_per_scan: tuple[float, ...]
    ground_height: float | None
    class_shares: tuple[float, ...]
    traits: dict[str, tuple[float, ...]] = field(default_factory=dict)


def measure(scans: Iterable[Scan], number: int, num_classes: int, sensor: Sensor) -> Statistics:
    """Computes the statistics of scans in limited memory; the same scans give the same statistics.

    Args:
        scans: at least one scan; at least one point has finite coordinates.
        number: number of scans.
        num_classes: K; labels are 0..K-1.
        sensor: of the scans; its forward axis counts.
    """
    each = max(1, _SAMPLE // number)
    sampled: list[NDArray[np.float32]] = []  # rows: intensity, height, range
    lowest, highest = np.full(3, np.inf), np.full(3, -np.inf)
    points, grounds, classes = [], [], np.zeros(num_classes, dtype=np.int64)
    traits: list[Traits] = []
    for place, scan in enumerate(scans):
        if not np.isfinite(scan.xyz).all():
            scan = scan.select(np.isfinite(scan.xyz).all(axis=1))
        xyz = scan.xyz
        points.append(len(xyz))
        classes += np.bincount(scan.labels, minlength=num_classes)
        if not len(xyz):
            continue
        columns = np.stack([scan.intensity, xyz[:, 2], distance(xyz)])
        lowest, highest = np.minimum(lowest, columns.min(axis=1)), np.maximum(highest, columns.max(axis=1))
        rng = np.random.default_rng(place)  # not every n-th point: files may list one point of each beam in turn
        sampled.append(_some(columns, each, rng))
        if (ground := ground_height(_some(xyz.T, _GROUND_SAMPLE, rng).T)) is not None:
            grounds.append(ground)
        if place % -(-number // _TRAITS) == 0 and (found := _traits(scan, sensor)) is not None:
            traits.append(found)
    quantiles = np.percentile(np.concatenate(sampled, axis=1).astype(np.float64), PERCENTAGES, axis=1)
    quantiles[0], quantiles[-1] = lowest, highest
    intensities, heights, ranges = (tuple(map(float, column)) for column in quantiles.T)
    return Statistics(
        scans=len(points),
        intensity=intensities,
        height=heights,
        range=ranges,
        points_per_scan=tuple(map(float, np.percentile(points, PERCENTAGES))),
        ground_height=float(np.median(grounds)) if grounds else None,
        class_shares=tuple(map(float, classes / classes.sum())),
        traits=quantiles_of(traits),
    )


def _traits(scan: Scan, sensor: Sensor) -> Traits | None:
    """Measures the traits of a scan, without the points (0, 0, 0) that stand for beams without a return."""
    if not (returns := scan.xyz.any(axis=1)).all():
        scan = scan.select(returns)
    return traits_of(*sensor.ahead_and_left(scan.xyz), scan.xyz[:, 2], scan.intensity)


def ground_height(xyz: NDArray[np.float32]) -> float | None:
    """Finds the height z of the ground, metres, from the points 3 to 20 m from the sensor (`ground_of`).

    Args:
        xyz: (N, 3) float32, metres, the sensor at (0, 0), z up.

    Returns:
        The height; None if there are fewer than 50 points at that distance.
    """
    x, y, z = xyz.T.astype(np.float64)
    return ground_of(np.hypot(x, y), z)


def distance(xyz: NDArray[np.float32]) -> NDArray[np.float32]:
    """Computes the distance of each point from the sensor, (N,) float32, metres; finite for finite coordinates."""
    x, y, z = xyz.T.astype(np.float64)  # squares of float32 may be too large for it
    return np.minimum(np.sqrt(x * x + y * y + z * z), np.finfo(np.float32).max).astype(np.float32)


def _some(columns: NDArray[np.float32], most: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Draws a number of the N columns of a (C, N) array; all of them if there are not more."""
    count = columns.shape[1]
    return columns if count <= most else columns.take(rng.integers(count, size=most), axis=1)
