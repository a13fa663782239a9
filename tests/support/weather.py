"""Made-up sweeps for the tests of weather, and the real scan for which published figures are known."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from dataloader.corruptions.beams import rings_by_elevation
from dataloader.corruptions.sweep import Sweep
from utils.labels import LabelMap
from utils.scan.sensor import SEMANTICKITTI, Sensor

ROOT = Path(__file__).resolve().parents[2]


def make_sweep(xyz, intensity, *, labels=None, ring=None, sensor: Sensor = SEMANTICKITTI) -> Sweep:
    """Makes a sweep of these points; `rows` counts down, so that a changed order is noticed."""
    xyz = np.asarray(xyz, np.float32).reshape(-1, 3)
    count = len(xyz)
    return Sweep(
        xyz=xyz,
        intensity=np.broadcast_to(np.asarray(intensity, np.float32), count).copy(),
        labels=np.zeros(count, np.uint8) if labels is None else np.asarray(labels, np.uint8),
        ring=np.zeros(count, np.int32) if ring is None else np.asarray(ring, np.int32),
        rows=np.arange(count, dtype=np.int64)[::-1] + 7,
        altered=np.zeros(count, bool),
        sensor=sensor,
    )


def random_sweep(count: int, seed: int = 0, sensor: Sensor = SEMANTICKITTI) -> Sweep:
    """Draws points all around at 2 to 60 m; half of them are a road 1.73 m below the sensor."""
    rng = np.random.default_rng(seed)
    azimuth, reach = rng.uniform(-np.pi, np.pi, count), rng.uniform(2.0, 60.0, count)
    road = np.arange(count) % 2 == 0
    z = np.where(road, -1.73, rng.uniform(-1.0, 3.0, count))
    intensity = sensor.intensity_max * rng.random(count)
    labels = np.where(road, sensor.ground[0], 15)
    ring = rng.integers(0, sensor.beams, count)
    return make_sweep(
        np.c_[reach * np.cos(azimuth), reach * np.sin(azimuth), z], intensity, labels=labels, ring=ring, sensor=sensor
    )


def real_sweep() -> Sweep:
    """Reads frame 000000 of sequence 00 below TWODPASS_REAL_DATA, beams by elevation, or skips the test."""
    folder = Path(os.environ.get("TWODPASS_REAL_DATA", ""), "00")
    scan, label = folder / "velodyne" / "000000.bin", folder / "labels" / "000000.label"
    if "TWODPASS_REAL_DATA" not in os.environ or not (scan.exists() and label.exists()):
        pytest.skip("set TWODPASS_REAL_DATA to a sequences folder with 00/000000")
    points = np.fromfile(scan, np.float32).reshape(-1, 4)
    raw = np.fromfile(label, np.uint32) & np.uint32(0xFFFF)
    names = LabelMap.load(ROOT / "config" / "label_mapping" / "semantic-kitti.yaml")
    ring = rings_by_elevation(points[:, :3], 64, SEMANTICKITTI.top, SEMANTICKITTI.bottom)
    return make_sweep(points[:, :3], points[:, 3], labels=names.learning_ids(raw, label), ring=ring)


def same_sweep(first: Sweep, second: Sweep) -> bool:
    """Returns whether every column is the same, bit by bit."""
    columns = ("xyz", "intensity", "labels", "ring", "rows", "altered")
    return all(np.array_equal(getattr(first, name), getattr(second, name)) for name in columns)


def well_formed(sweep: Sweep) -> bool:
    """Returns whether columns are finite, of one length and of the dtypes of `Sweep`."""
    columns = {"xyz": "float32", "intensity": "float32", "labels": "uint8", "ring": "int32", "rows": "int64"}
    right = all(getattr(sweep, name).dtype == dtype for name, dtype in columns.items()) and sweep.altered.dtype == bool
    lengths = {len(getattr(sweep, name)) for name in (*columns, "altered")}
    return right and len(lengths) == 1 and bool(np.isfinite(sweep.xyz).all() and np.isfinite(sweep.intensity).all())
