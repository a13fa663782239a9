"""Made-up sweeps for the tests of dataloader/corruptions."""

from __future__ import annotations

import numpy as np

from dataloader.corruptions.sweep import Sweep
from utils.scan.sensor import SEMANTICKITTI, Sensor

COLUMNS = ("xyz", "intensity", "labels", "ring", "rows", "altered")


def made_up_sweep(count: int = 2000, sensor: Sensor = SEMANTICKITTI, seed: int = 0) -> Sweep:
    """Draws random points; `rows` identifies them, and all rings and labels occur."""
    rng = np.random.default_rng(seed)
    classes = 20 if sensor is SEMANTICKITTI else 17
    return Sweep(
        xyz=rng.uniform([-40, -40, -3], [40, 40, 1], (count, 3)).astype(np.float32),
        intensity=(rng.random(count) * sensor.intensity_max).astype(np.float32),
        labels=rng.integers(0, classes, count).astype(np.uint8),
        ring=rng.integers(0, sensor.beams, count).astype(np.int32),
        rows=np.arange(count, dtype=np.int64),
        altered=np.zeros(count, dtype=bool),
        sensor=sensor,
    )


def same(one: Sweep, other: Sweep, columns: tuple[str, ...] = COLUMNS) -> bool:
    """Returns whether two sweeps are equal in these columns, with their types."""
    pairs = [(getattr(one, name), getattr(other, name)) for name in columns]
    return all(a.dtype == b.dtype and np.array_equal(a, b) for a, b in pairs)


def kitti_ordered(beams: int, steps: int = 200, sensor: Sensor = SEMANTICKITTI) -> tuple[np.ndarray, np.ndarray]:
    """Makes xyz in KITTI's order, beam after beam from +x counter-clockwise to +x, and the beam of each point."""
    azimuth = (np.arange(steps) + 0.5) * 2 * np.pi / steps
    step = (sensor.top - sensor.bottom) / beams
    elevation = np.radians(sensor.top - step * (np.arange(beams) + 0.5))[:, None]
    x, y = np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth)
    xyz = 10 * np.stack([x, y, np.broadcast_to(np.sin(elevation), x.shape)], axis=-1).reshape(-1, 3)
    return xyz.astype(np.float32), np.repeat(np.arange(beams), steps)
