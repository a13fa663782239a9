"""Noise of the measurement: motion blur, crosstalk, local distortion and global outliers.

Motion blur and crosstalk follow Kong et al., "Robo3D", ICCV 2023; distortion and outliers follow Yan et al.,
"Benchmarking the Robustness of LiDAR Semantic Segmentation Models", IJCV 2024.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np

from dataloader.corruptions.beams import rings_by_elevation
from dataloader.corruptions.sweep import Sweep

Box = tuple[float, float, float, float, float, float]
"""Low x, y, z, then high x, y, z, metres."""
OutlierIntensity = Literal["uniform", "zero", "scan"]
"""Intensity of an outlier: any value that the sensor can report, 0, or that of a random point of the sweep."""

VOLUME: Box = (-50.0, -50.0, -4.0, 50.0, 50.0, 2.0)
"""The volume in which 2DPASS (ECCV 2022) segments a SemanticKITTI scan."""


def motion_blur(sweep: Sweep, rng: np.random.Generator, sigma: float = 0.2) -> Sweep:
    """Moves the sweep as a whole and every point a little, as if the sensor shook (Robo3D); labels do not change.

    The sweep moves by N(0, `sigma`^2) along each axis, and each point by N(0, (0.1 `sigma`)^2) in x and y and by
    N(0, (0.05 `sigma`)^2) in z. Every draw is clipped to three standard deviations.

    Args:
        sweep: N points.
        rng: source of the draws.
        sigma: standard deviation of the sweep's motion, metres.
    """
    offset = _clipped_normal(rng, (3,), 3.0) * sigma
    jitter = _clipped_normal(rng, (len(sweep), 3), 3.0) * (sigma * np.array([0.1, 0.1, 0.05]))
    return replace(sweep, xyz=(sweep.xyz + (offset + jitter)).astype(np.float32))


def crosstalk(sweep: Sweep, rng: np.random.Generator, fraction: float = 0.006, sigma: float = 3.0) -> Sweep:
    """Disturbs int(`fraction` N) random points in place and intensity, as the light of other sensors does (Robo3D).

    The intensity is not clipped to the sensor's range, as in the published data.

    Args:
        sweep: N points.
        rng: source of the draws.
        fraction: share of the points, 0..1.
        sigma: standard deviation of the noise added to x, y, z (metres) and to the intensity, on any scale.
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
    """Moves int(`fraction` N) random points by N(0, `sigma`^2) along each axis (Yan et al.).

    The metric of the paper leaves out the points that were moved, so they count as altered. The paper does not say
    whether the jitter is clipped or changes the intensity too: therefore the options.

    Args:
        sweep: N points.
        rng: source of the draws.
        sigma: standard deviation, metres.
        fraction: share of the points, 0..1.
        clip: largest jitter of an axis in units of `sigma`; None for no limit.
        jitter_intensity: whether N(0, `sigma`^2), times the largest intensity, is added to the intensity too, clipped
            to its range.
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
    """Adds int(`fraction` N) outliers, uniformly distributed in a box, after the points of the sweep (Yan et al.).

    The paper gives neither the box nor the intensity: therefore the options. Outliers have row -1, label 0, and the
    beam of their elevation.

    Args:
        sweep: N points.
        rng: source of the draws.
        fraction: number of outliers as a share of the number of points.
        volume: the box; None for the smallest one around the sweep.
        intensity: intensity of the outliers.
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
    """Draws float64 numbers from N(0, 1), clipped to -`clip` .. `clip`."""
    drawn = rng.standard_normal(shape)
    return drawn if clip is None else np.clip(drawn, -clip, clip, out=drawn)


def _choose(sweep: Sweep, rng: np.random.Generator, fraction: float) -> np.ndarray:
    """Draws int(`fraction` N) different rows."""
    return rng.choice(len(sweep), int(fraction * len(sweep)), replace=False, shuffle=False)


def _moved(xyz: np.ndarray, rows: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    moved = xyz.copy()
    moved[rows] = xyz[rows] + offsets
    return moved


def _marked(sweep: Sweep, rows: np.ndarray) -> np.ndarray:
    altered = sweep.altered.copy()
    altered[rows] = True
    return altered
