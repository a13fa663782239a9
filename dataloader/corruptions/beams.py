"""Which beam saw a point, and sensors with fewer beams: beams that fail, and other LiDARs (Kong et al., "Robo3D", ICCV
2023; Yan et al., "Benchmarking the Robustness of LiDAR Semantic Segmentation Models", IJCV 2024)."""

from __future__ import annotations

from typing import Literal

import numpy as np

from dataloader.corruptions.sweep import Sweep
from utils.scan.sensor import Sensor

_FEWEST_BEAMS = 8

Thinning = Literal["none", "stride", "random"]
"""Of the points of a beam: all stay, every second one does, or a random half does."""


def rings_by_azimuth_wrap(xyz: np.ndarray, beams: int) -> np.ndarray:
    """The beam of each point of a KITTI scan, which is stored beam after beam, each from +x round to +x again.

    A beam ends where the azimuth, as a share of the turn from +x, falls from above 0.8 to below 0.2 between two
    consecutive points (Robo3D).

    Args:
        xyz: (N, 3) float32, in the order of the file.
        beams: number of beams; what is counted beyond them goes to the last.

    Returns:
        (N,) int32, 0 .. `beams` - 1 from the top beam down.
    """
    return np.minimum(_turns(xyz), beams - 1)


def rings_by_elevation(xyz: np.ndarray, beams: int, top: float, bottom: float) -> np.ndarray:
    """The beam of each point from its elevation, as if beams were spread evenly over the field of view (Robo3D, snow).

    Args:
        xyz: (N, 3) float32, metres, the sensor at the origin.
        beams: number of beams.
        top, bottom: elevations that bound the field of view, degrees; points beyond go to the first or last beam.

    Returns:
        (N,) int32, 0 .. `beams` - 1 from the top beam down.
    """
    flat = np.hypot(xyz[:, 0], xyz[:, 1])
    pitch = np.degrees(np.arctan2(xyz[:, 2], flat))
    ring = np.floor(beams * (1 - (pitch - bottom) / (top - bottom)))
    return np.clip(np.nan_to_num(ring), 0, beams - 1).astype(np.int32)


def rings_of(xyz: np.ndarray, sensor: Sensor) -> np.ndarray:
    """The beam of each point: by the order of the file if that is KITTI's, else by elevation.

    In KITTI's order the azimuth wraps once for each beam. A sensor with fewer beams than `sensor` is told by its wraps:
    its beams count from 0, so that every second beam is half of them.

    Args:
        xyz: (N, 3) float32, in the order of the file.
        sensor: the LiDAR.

    Returns:
        (N,) int32, 0 .. `sensor.beams` - 1.
    """
    turns = _turns(xyz)
    # A file sorted by azimuth wraps once or twice, a shuffled one at every sixth point or so.
    if len(xyz) and _FEWEST_BEAMS <= turns[-1] + 1 < 2 * sensor.beams:
        return np.minimum(turns, sensor.beams - 1)
    return rings_by_elevation(xyz, sensor.beams, sensor.top, sensor.bottom)


def _turns(xyz: np.ndarray) -> np.ndarray:
    """(N,) int32: how often the azimuth has wrapped up to each point, counter-clockwise."""
    azimuth = np.arctan2(xyz[:, 1], xyz[:, 0]) / (2 * np.pi) % 1.0
    wraps = np.zeros(len(xyz), dtype=np.int32)
    wraps[1:] = (azimuth[:-1] > 0.8) & (azimuth[1:] < 0.2)
    return np.cumsum(wraps, dtype=np.int32)


def beam_missing(sweep: Sweep, rng: np.random.Generator, draws: int = 16, first: int = 4, last: int = 58) -> Sweep:
    """Some beams fail (Robo3D): their points are deleted.

    Beams are drawn with replacement, so of 16 draws from 55 beams about 14 are different.

    Args:
        sweep: N points.
        rng: source of the draws.
        draws: how many.
        first, last: the beams that can fail, both included (nuScenes: 2 and 28).
    """
    failed = rng.integers(first, last + 1, draws)
    return sweep.select(~np.isin(sweep.ring, failed))


def cross_sensor(sweep: Sweep, rng: np.random.Generator, dropped: int = 16, stride: int = 2) -> Sweep:
    """A sensor with fewer beams and fewer points in each (Robo3D): some beams go, then every second point.

    Args:
        sweep: N points.
        rng: not drawn from.
        dropped: how many of the sensor's beams go; a quarter: 1, 5, 9, ...; half: 1, 3, 5, ...; three quarters:
            floor(1 + 1.33 k).
        stride: of the points left over, in the order of the sweep, every so many-th stays, the first one included.
    """
    return sweep.select(np.flatnonzero(~np.isin(sweep.ring, dropped_rings(sweep.sensor.beams, dropped)))[::stride])


def dropped_rings(beams: int, dropped: int) -> np.ndarray:
    """(`dropped`,) int64, the beams that `cross_sensor` takes away, spread evenly from beam 1 on."""
    # Robo3D steps by 1.33, not by 4/3: with the fraction the fourth beam would be 5, not 4.
    hundredths = 100 * beams // max(dropped, 1)
    return 1 + hundredths * np.arange(dropped) // 100


def reduce_beams(
    sweep: Sweep, rng: np.random.Generator, beams: int = 32, offset: int = 0, thinning: Thinning = "none"
) -> Sweep:
    """A sensor with fewer beams (Yan et al.), evenly spread; in its "sparse" form also with half of the points.

    The paper says neither which beams stay nor how each is halved: hence the options.

    Args:
        sweep: N points.
        rng: source of the random halves.
        beams: how many of the sensor's beams stay; at most that many.
        offset: the first beam that stays, below the sensor's beams / `beams`.
        thinning: what stays of a beam of n points: "none": all; "stride": every second in the order of the sweep, from
            the first on; "random": n - n // 2 random ones.
    """
    step = max(sweep.sensor.beams // beams, 1)
    kept = sweep.select(sweep.ring % step == offset % step)
    if thinning == "none":
        return kept
    order = np.lexsort((rng.random(len(kept)), kept.ring)) if thinning == "random" else None
    return kept.select(_rank_in_ring(kept.ring, order) % 2 == 0)


def _rank_in_ring(ring: np.ndarray, order: np.ndarray | None) -> np.ndarray:
    """(N,) int64: the number of each point among those of its ring, in file order, or in `order`, sorted by ring."""
    order = np.argsort(ring, kind="stable") if order is None else order
    counts = np.bincount(ring, minlength=1)
    starts = np.cumsum(counts) - counts
    rank = np.empty(len(ring), dtype=np.int64)
    rank[order] = np.arange(len(ring)) - starts[ring[order]]
    return rank
