"""Noise of the measurement: motion blur and crosstalk (Kong et al., "Robo3D", ICCV 2023), outliers anywhere and
local jitter (Yan et al., "Benchmarking the Robustness of LiDAR Semantic Segmentation Models", IJCV 2024)."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np

from dataloader.corruptions.beams import rings_by_elevation
from dataloader.corruptions.sweep import Sweep

Box = tuple[float, float, float, float, float, float]
"""Low x, y, z, then high x, y, z, metres."""
OutlierIntensity = Literal["uniform", "zero", "scan"]
"""Of an outlier: anything the sensor can report, nothing, or that of a random point of the sweep."""

VOLUME: Box = (-50.0, -50.0, -4.0, 50.0, 50.0, 2.0)
"""The volume in which 2DPASS (ECCV 2022) looks at a SemanticKITTI scan."""


def motion_blur(sweep: Sweep, rng: np.random.Generator, sigma: float = 0.2) -> Sweep:
    """The sensor shakes (Robo3D): the sweep moves as a whole, and every point a little on its own. Labels stay.

    Each axis of the sweep moves by N(0, `sigma`^2), each point by N(0, (0.1 `sigma`)^2) in x and y and by
    N(0, (0.05 `sigma`)^2) in z; every draw is clipped to three of its standard deviations.

    Args:
        sweep: N points.
        rng: source of the draws.
        sigma: metres.
    """
    offset = _clipped_normal(rng, (3,), 3.0) * sigma
    jitter = _clipped_normal(rng, (len(sweep), 3), 3.0) * (sigma * np.array([0.1, 0.1, 0.05]))
    return replace(sweep, xyz=(sweep.xyz + (offset + jitter)).astype(np.float32))


def crosstalk(sweep: Sweep, rng: np.random.Generator, fraction: float = 0.006, sigma: float = 3.0) -> Sweep:
    """Light of other sensors (Robo3D): int(`fraction` N) random points are off, in place and in intensity.

    Intensity is not clipped to what the sensor can report: the published data are not either.

    Args:
        sweep: N points.
        rng: source of the draws.
        fraction: share of the points, 0 .. 1.
        sigma: of the normal distribution added to x, y, z (metres) and to the intensity, whatever its scale.
    """
    rows = _choose(sweep, rng, fraction)
    noise = rng.normal(0.0, sigma, (len(rows), 4))
    intensity = sweep.intensity.copy()
    intensity[rows] += noise[:, 3].astype(np.float32)
    return replace(sweep, xyz=_moved(sweep.xyz, rows, noise[:, :3]), intensity=intensity, altered=_marked(sweep, rows))


def local_distortion(
    sweep: Sweep,
    rng: np.random.Generator,
    sigma: float = 0.05,
    fraction: float = 0.2,
    clip: float | None = None,
    jitter_intensity: bool = False,
) -> Sweep:
    """Some points jitter (Yan et al.): int(`fraction` N) random points move by N(0, `sigma`^2) along each axis.

    The paper's metric leaves out the points that were moved, so they count as altered. It does not say whether the
    jitter is clipped or extends to the intensity: hence the options.

    Args:
        sweep: N points.
        rng: source of the draws.
        sigma: metres.
        fraction: share of the points, 0 .. 1.
        clip: largest jitter of an axis in units of `sigma`; None: any.
        jitter_intensity: add N(0, `sigma`^2), times the largest intensity, to the intensity too, within its bounds.
    """
    rows = _choose(sweep, rng, fraction)
    noise = _clipped_normal(rng, (len(rows), 4), clip) * sigma
    intensity = sweep.intensity
    if jitter_intensity:
        intensity = intensity.copy()
        top = sweep.sensor.intensity_max
        intensity[rows] = np.clip(intensity[rows] + noise[:, 3] * top, 0.0, top)
    return replace(sweep, xyz=_moved(sweep.xyz, rows, noise[:, :3]), intensity=intensity, altered=_marked(sweep, rows))


def global_outliers(
    sweep: Sweep,
    rng: np.random.Generator,
    fraction: float = 0.05,
    volume: Box | None = VOLUME,
    intensity: OutlierIntensity = "uniform",
) -> Sweep:
    """Points out of nothing (Yan et al.): int(`fraction` N) more points, uniformly in a box, after those of the sweep.

    The paper gives neither the box nor their intensity: hence the options. They have row -1, label 0, and the beam of
    their elevation.

    Args:
        sweep: N points.
        rng: source of the draws.
        fraction: of the number of points.
        volume: the box; None: the smallest one that holds the sweep.
        intensity: what the outliers report.
    """
    count, sensor = int(fraction * len(sweep)), sweep.sensor
    if count == 0:
        return sweep
    low, high = (sweep.xyz.min(axis=0), sweep.xyz.max(axis=0)) if volume is None else (volume[:3], volume[3:])
    xyz = rng.uniform(low, high, (count, 3)).astype(np.float32)
    reported = {
        "uniform": lambda: rng.uniform(0.0, sensor.intensity_max, count),
        "zero": lambda: np.zeros(count),
        "scan": lambda: rng.choice(sweep.intensity, count),
    }[intensity]()
    outliers = Sweep(
        xyz=xyz,
        intensity=reported.astype(np.float32),
        labels=np.zeros(count, dtype=np.uint8),
        ring=rings_by_elevation(xyz, sensor.beams, sensor.top, sensor.bottom),
        rows=np.full(count, -1, dtype=np.int64),
        altered=np.ones(count, dtype=bool),
        sensor=sensor,
    )
    names = ("xyz", "intensity", "labels", "ring", "rows", "altered")
    columns = {name: np.concatenate([getattr(sweep, name), getattr(outliers, name)]) for name in names}
    return Sweep(**columns, sensor=sensor)


def _clipped_normal(rng: np.random.Generator, shape: tuple[int, ...], clip: float | None) -> np.ndarray:
    """float64 draws from N(0, 1), moved to -`clip` or `clip` if beyond."""
    drawn = rng.standard_normal(shape)
    return drawn if clip is None else np.clip(drawn, -clip, clip, out=drawn)


def _choose(sweep: Sweep, rng: np.random.Generator, fraction: float) -> np.ndarray:
    """int(`fraction` N) different rows."""
    return rng.choice(len(sweep), int(fraction * len(sweep)), replace=False, shuffle=False)


def _moved(xyz: np.ndarray, rows: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    moved = xyz.copy()
    moved[rows] = xyz[rows] + offsets
    return moved


def _marked(sweep: Sweep, rows: np.ndarray) -> np.ndarray:
    altered = sweep.altered.copy()
    altered[rows] = True
    return altered
