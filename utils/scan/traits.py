"""The traits of one scan: a few numbers by which another frame, unit or sensor can be told."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

PERCENTAGES = (0, 1, 5, 25, 50, 75, 95, 99, 100)
"""The share of the numbers that is at or below each quantile of `utils.scan.statistics.Statistics`, percent."""

LEAST_POINTS = 500
"""A scan of fewer points says nothing about its frame."""

_SAMPLE = 8192  # points
_NEAR = 3.0, 20.0  # metres; nearer points may be the vehicle itself, farther ground may slope
_THICKNESS = 0.2  # metres; thickness of the layer that is taken for the ground
_LEAST_GROUND = 50  # points
_MOST_BELOW = 0.7  # points of the ground per point below it; 0.9 to 2 on real streets, 0.3 to 0.6 without the ground
_BLOCKS, _BLOCK = 64, 128  # groups of points that follow each other in the file
_LAGS = 1, 8, 64  # steps in the file; scans are listed beam by beam or, in nuScenes, all beams of a direction in turn
_SECTORS, _SECTOR = 48, 1.5  # sectors in which beams are counted, and their width, degrees
_GAP = 0.15  # degrees between two beams
_MOST = 150_000  # points in which beams are counted


@dataclass(frozen=True)
class Traits:
    """A frozen record of the traits of one scan; None is what cannot be told.

    Attributes:
        ground: height z of the ground, metres; None too if many points lie below it: in a scan that shows little
            ground, or none because it was cut away, some other layer has the most points.
        flatness: share of the points 3 to 20 m away that are in the layer of the ground.
        level: mean of the quantiles of the intensity at 50, 75 and 95 %, in the unit of the data set.
        reach: median distance from the sensor, metres.
        elongation: logarithm of how much farther the points lie ahead and behind than beside the sensor.
        rotation: direction in which the points follow each other in the file, from -1 (clockwise seen from above) over
            0 (in no order) to 1.
        start: azimuth of the first points of the file, radians; 0 is ahead, pi / 2 left.
        step: median difference of the elevation from a point of the file to the next, degrees: small beam by beam.
        bottom, top: quantiles of the elevation at 1 and 99 %, degrees.
        beams: number of different elevations in the same direction.
    """

    ground: float | None
    flatness: float
    level: float | None
    reach: float
    elongation: float
    rotation: float
    start: float
    step: float
    bottom: float
    top: float
    beams: float


TRAITS = tuple(field.name for field in fields(Traits))


def traits_of(
    ahead: NDArray[np.floating[Any]],
    left: NDArray[np.floating[Any]],
    up: NDArray[np.floating[Any]],
    intensity: NDArray[np.float32] | None,
) -> Traits | None:
    """Measures the traits of a scan.

    Args:
        ahead, left, up: (N,) coordinates of its returns, seen from the sensor, metres, finite.
        intensity: (N,) of the same points, finite.

    Returns:
        The traits; None for fewer than 500 points.
    """
    count = len(ahead)
    if count < LEAST_POINTS:
        return None
    rng = np.random.default_rng(0)
    rows = np.arange(count) if count <= _SAMPLE else rng.integers(count, size=_SAMPLE)
    x, y, z = (column[rows].astype(np.float64) for column in (ahead, left, up))
    beside = np.hypot(x, y)
    elevation = np.degrees(np.arctan2(z, beside))
    bottom, top = np.percentile(elevation, (1, 99))
    rotation, start, step = _order(ahead, left, up)
    ground, flatness, below = _layer(beside, z)
    return Traits(
        ground=None if flatness < _MOST_BELOW * below else ground,
        flatness=flatness,
        level=None if intensity is None else level_of(np.percentile(intensity[rows].astype(np.float64), PERCENTAGES)),
        reach=float(np.median(np.hypot(beside, z))),
        elongation=_elongation(x, y),
        rotation=rotation,
        start=start,
        step=step,
        bottom=float(bottom),
        top=float(top),
        beams=_beams(ahead, left, up, rng),
    )


def level_of(quantiles: Iterable[float]) -> float:
    """Returns the level of the intensity, from its quantiles at `PERCENTAGES`."""
    chosen = [value for value, share in zip(quantiles, PERCENTAGES, strict=True) if share in (50, 75, 95)]
    return float(np.mean(chosen))


def ground_of(beside: NDArray[np.float64], z: NDArray[np.float64]) -> float | None:
    """Finds the height z of the ground, metres, without labels, from the points 3 to 20 m from the sensor.

    The ground is the only large surface whose points have about the same height. So the result is the median of the
    layer of 0.2 m that has the most points.

    Args:
        beside: (N,) horizontal distance from the sensor, metres.
        z: (N,) height, metres.

    Returns:
        The height; None if there are fewer than 50 points at that distance.
    """
    return _layer(beside, z)[0]


def _layer(beside: NDArray[np.float64], z: NDArray[np.float64]) -> tuple[float | None, float, float]:
    """Returns the height of the ground, and the shares of the near points that are in its layer and below it."""
    z = np.sort(z[(beside > _NEAR[0]) & (beside < _NEAR[1])])
    if len(z) < _LEAST_GROUND:
        return None, 0.0, 0.0
    start, end = densest(z, _THICKNESS)
    return float(np.median(z[start:end])), (end - start) / len(z), start / len(z)


def densest(ascending: NDArray[np.float64], thickness: float) -> tuple[int, int]:
    """Returns the first row of the layer that has the most of the (N,) ascending numbers, and the row behind it."""
    ends = np.searchsorted(ascending, ascending + thickness, side="right")
    start = int(np.argmax(ends - np.arange(len(ascending))))
    return start, int(ends[start])


def _elongation(ahead: NDArray[np.float64], left: NDArray[np.float64]) -> float:
    """Computes the logarithm of the ratio of the extents ahead and beside: a street goes on, its sides are built up."""
    shares = (90, 95, 99)
    extents = np.percentile(np.abs(ahead), shares) + 0.01, np.percentile(np.abs(left), shares) + 0.01
    return float(np.mean(np.log(extents[0] / extents[1])))


def _order(
    ahead: NDArray[np.floating[Any]], left: NDArray[np.floating[Any]], up: NDArray[np.floating[Any]]
) -> tuple[float, float, float]:
    """Measures rotation, start and step of `Traits` in blocks of points that follow each other."""
    starts = np.linspace(0, len(ahead) - _BLOCK, _BLOCKS).astype(np.int64)
    rows = starts[:, None] + np.arange(_BLOCK)
    x, y, z = (column[rows].astype(np.float64) for column in (ahead, left, up))
    azimuth, elevation = np.arctan2(y, x), np.arctan2(z, np.hypot(x, y))
    found = []
    for lag in _LAGS:
        change = wrapped(azimuth[:, lag:] - azimuth[:, :-lag])
        found.append(float(change.sum() / max(np.abs(change).sum(), 1e-12)))
    first = azimuth[0, :3]
    start = float(np.arctan2(np.sin(first).mean(), np.cos(first).mean()))
    return max(found, key=abs), start, float(np.degrees(np.median(np.abs(np.diff(elevation)))))


def wrapped(angle: Any) -> Any:
    """Returns angles, radians, from -pi to pi."""
    return (angle + np.pi) % (2 * np.pi) - np.pi


def _beams(
    ahead: NDArray[np.floating[Any]],
    left: NDArray[np.floating[Any]],
    up: NDArray[np.floating[Any]],
    rng: np.random.Generator,
) -> float:
    """Counts the beams: in narrow sectors each shows as a group of points with the same elevation.

    Some beams end in the sky, so the sectors with many groups count (the quantile of 75 %).
    """
    if len(ahead) > _MOST:
        rows = rng.integers(len(ahead), size=_MOST)
        ahead, left, up = ahead[rows], left[rows], up[rows]
    place = (np.degrees(np.arctan2(left, ahead)) + 180) * (_SECTORS / 360)
    sector = np.floor(place)
    inside = (place - sector) * (360 / _SECTORS) < _SECTOR
    sector = sector[inside].astype(np.int64)
    beside = np.hypot(ahead[inside].astype(np.float64), left[inside])
    elevation = np.degrees(np.arctan2(up[inside], beside))
    order = np.lexsort((elevation, sector))
    sector, elevation = sector[order], elevation[order]
    new = np.ones(len(sector), dtype=bool)
    new[1:] = (np.diff(sector) != 0) | (np.diff(elevation) > _GAP)
    groups = np.bincount(sector[new], minlength=_SECTORS)
    return float(np.percentile(groups[groups > 0], 75)) if new.any() else 0.0


def quantiles_of(traits: Iterable[Traits]) -> dict[str, tuple[float, ...]]:
    """Returns the quantiles of each trait over scans, at `PERCENTAGES`; a trait that no scan shows is left out.

    Those of `start` lie around its mean, and may be beyond -pi or pi.
    """
    found = {}
    columns = {name: [getattr(scan, name) for scan in traits] for name in TRAITS} if (traits := list(traits)) else {}
    for name, column in columns.items():
        values = np.array([value for value in column if value is not None])
        if name == "start":
            mean = float(np.arctan2(np.sin(values).mean(), np.cos(values).mean()))
            values = mean + wrapped(values - mean)
        if len(values):
            found[name] = tuple(map(float, np.percentile(values, PERCENTAGES)))
    return found
