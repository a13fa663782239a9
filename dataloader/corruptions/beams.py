"""The beam of each point, and corruptions that remove beams: beams that fail, and LiDARs with fewer beams.

Sources: Kong et al., "Robo3D", ICCV 2023; Yan et al., "Benchmarking the Robustness of LiDAR Semantic Segmentation
Models", IJCV 2024.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from dataloader.corruptions.sweep import Sweep
from utils.scan.sensor import Sensor

_FEWEST_BEAMS = 8

Thinning = Literal["none", "stride", "random"]
"""Which points of a beam stay: all, every second one, or a random half."""


def rings_by_azimuth_wrap(xyz: np.ndarray, beams: int) -> np.ndarray:
    """Finds the beam of each point of a KITTI scan from the order of the points.

    A KITTI scan is stored beam after beam, each from +x once around to +x. A beam ends where the azimuth, as a share of
    the turn from +x, falls from above 0.8 to below 0.2 between two consecutive points (Robo3D).

    Args:
        xyz: (N, 3) float32, in the order of the file.
        beams: number of beams; points of further beams are counted to the last beam.

    Returns:
        (N,) int32, 0 .. `beams` - 1 from the top beam down.
    """
    return np.minimum(_turns(xyz), beams - 1)


def rings_by_elevation(xyz: np.ndarray, beams: int, top: float, bottom: float) -> np.ndarray:
    """Finds the beam of each point from its elevation, as if the beams were spread evenly (Robo3D, snow).

    Args:
        xyz: (N, 3) float32, metres, the sensor at the origin.
        beams: number of beams.
        top, bottom: elevations that bound the field of view, degrees; points beyond them get the first or last beam.

    Returns:
        (N,) int32, 0 .. `beams` - 1 from the top beam down.
    """
    flat = np.hypot(xyz[:, 0], xyz[:, 1])
    pitch = np.degrees(np.arctan2(xyz[:, 2], flat))
    ring = np.floor(beams * (1 - (pitch - bottom) / (top - bottom)))
    return np.clip(np.nan_to_num(ring), 0, beams - 1).astype(np.int32)


def rings_of(xyz: np.ndarray, sensor: Sensor) -> np.ndarray:
    """Finds the beam of each point: from the order of the file if it is KITTI's, else from the elevation.

    In KITTI's order the azimuth wraps once for each beam. If the file has fewer beams than `sensor`, its own beams are
    counted from 0, so that every second beam is half of those in the file.

    Args:
        xyz: (N, 3) float32, metres, in the order of the file.
        sensor: the LiDAR that took the scan.

    Returns:
        (N,) int32, 0 .. `sensor.beams` - 1.
    """
    turns = _turns(xyz)
    # A file sorted by azimuth wraps once or twice, a shuffled one at every sixth point or so.
    if len(xyz) and _FEWEST_BEAMS <= turns[-1] + 1 < 2 * sensor.beams:
        return np.minimum(turns, sensor.beams - 1)
    return rings_by_elevation(xyz, sensor.beams, sensor.top, sensor.bottom)


def _turns(xyz: np.ndarray) -> np.ndarray:
    """Counts how often the azimuth has wrapped up to each point, counter-clockwise; (N,) int32."""
    azimuth = np.arctan2(xyz[:, 1], xyz[:, 0]) / (2 * np.pi) % 1.0
    wraps = np.zeros(len(xyz), dtype=np.int32)
    wraps[1:] = (azimuth[:-1] > 0.8) & (azimuth[1:] < 0.2)
    return np.cumsum(wraps, dtype=np.int32)


def beam_missing(sweep: Sweep, rng: np.random.Generator, draws: int = 16, first: int = 4, last: int = 58) -> Sweep:
    """Deletes the points of some random beams, as if these had failed (Robo3D).

    Beams are drawn with replacement: 16 draws from 55 beams give about 14 different ones.

    Args:
        sweep: N points.
        rng: source of the draws.
        draws: number of draws.
        first, last: range of the beams that can fail, both included (nuScenes: 2 and 28).
    """
    failed = rng.integers(first, last + 1, draws)
    return sweep.select(~np.isin(sweep.ring, failed))


def cross_sensor(sweep: Sweep, rng: np.random.Generator, dropped: int = 16, stride: int = 2) -> Sweep:
    """Simulates a sensor with fewer beams and fewer points per beam: removes beams, then every second point (Robo3D).

    Args:
        sweep: N points.
        rng: not used.
        dropped: number of the sensor's beams that are removed; for a quarter of the beams 1, 5, 9, ..., for half 1, 3,
            5, ..., for three quarters floor(1 + 1.33 k).
        stride: of the remaining points, in the order of the sweep, those numbered 0, `stride`, 2 `stride`, ... stay.
    """
    return sweep.select(np.flatnonzero(~np.isin(sweep.ring, dropped_rings(sweep.sensor.beams, dropped)))[::stride])


def dropped_rings(beams: int, dropped: int) -> np.ndarray:
    """Returns the (`dropped`,) int64 beams that `cross_sensor` removes, spread evenly from beam 1 on."""
    # Robo3D uses steps of 1.33, not of 4/3: with 4/3 the fourth beam would be 5, not 4.
    hundredths = 100 * beams // max(dropped, 1)
    return 1 + hundredths * np.arange(dropped) // 100


def reduce_beams(
    sweep: Sweep, rng: np.random.Generator, beams: int = 32, offset: int = 0, thinning: Thinning = "none"
) -> Sweep:
    """Simulates a sensor with fewer, evenly spread beams (Yan et al.); in its "sparse" form with half of the points.

    The paper says neither which beams stay nor how the points of a beam are halved: therefore the options.

    Args:
        sweep: N points.
        rng: source of the random halves.
        beams: number of the sensor's beams that stay.
        offset: the first beam that stays, less than the sensor's beams / `beams`.
        thinning: which of the n points of a beam stay: "none" removes nothing, "stride" keeps every second one in the
            order of the sweep, starting with the first, "random" keeps n - n // 2 random ones.
    """
    step = max(sweep.sensor.beams // beams, 1)
    kept = sweep.select(sweep.ring % step == offset % step)
    if thinning == "none":
        return kept
    order = np.lexsort((rng.random(len(kept)), kept.ring)) if thinning == "random" else None
    return kept.select(_rank_in_ring(kept.ring, order) % 2 == 0)


def _rank_in_ring(ring: np.ndarray, order: np.ndarray | None) -> np.ndarray:
    """Numbers the points of each ring from 0, (N,) int64, in file order or in `order`, which is sorted by ring."""
    order = np.argsort(ring, kind="stable") if order is None else order
    counts = np.bincount(ring, minlength=1)
    starts = np.cumsum(counts) - counts
    rank = np.empty(len(ring), dtype=np.int64)
    rank[order] = np.arange(len(ring)) - starts[ring[order]]
    return rank
