"""The statistics of scans, against numpy over all points at once, and against a made-up street."""

from __future__ import annotations

import numpy as np
import pytest

from utils.scan import statistics
from utils.scan.records import Frame, Scan, no_pixels
from utils.scan.sensor import SEMANTICKITTI
from utils.scan.statistics import ground_height, measure
from utils.scan.traits import PERCENTAGES


def scan_of(xyz: np.ndarray, intensity: np.ndarray, labels: np.ndarray) -> Scan:
    count = len(xyz)
    numbers = np.arange(count)
    instances = np.zeros(count, np.int32)
    points = xyz.astype(np.float32), intensity.astype(np.float32), labels.astype(np.uint8)
    return Scan(Frame("00", "000000", "x.bin"), *points, instances, numbers, no_pixels(count))


def random_scan(count: int, seed: int) -> Scan:
    rng = np.random.default_rng(seed)
    return scan_of(rng.normal(0, 20, (count, 3)), rng.gamma(2, 10, count), rng.integers(0, 5, count))


SCANS = [random_scan(count, count) for count in (300, 700, 50)]


def test_small_scans_are_measured_exactly() -> None:
    found = measure(iter(SCANS), 3, 6, SEMANTICKITTI)
    xyz = np.concatenate([scan.xyz for scan in SCANS]).astype(np.float64)
    columns = {
        "height": xyz[:, 2],
        "range": np.linalg.norm(xyz, axis=1),
        "intensity": np.concatenate([scan.intensity for scan in SCANS]),
    }
    for name, column in columns.items():
        assert getattr(found, name) == pytest.approx(np.percentile(column, PERCENTAGES), rel=1e-6), name
    assert found.points_per_scan == pytest.approx(np.percentile([300, 700, 50], PERCENTAGES))
    labels = np.concatenate([scan.labels for scan in SCANS])
    assert found.class_shares == pytest.approx([np.mean(labels == k) for k in range(6)])
    assert found.scans == 3
    assert all(type(number) is float for name in columns for number in getattr(found, name)), "a checkpoint holds them"


def test_points_without_coordinates_do_not_count() -> None:
    spoiled = []
    for scan in SCANS:
        lost = np.array([[np.nan, 0, 0], [0, np.inf, 0], [0, 0, -np.inf]])
        xyz = np.concatenate([lost, scan.xyz])
        spoiled.append(scan_of(xyz, np.append([9e9] * 3, scan.intensity), np.append([5] * 3, scan.labels)))
    assert np.isfinite(
        measure([scan_of(np.full((2, 3), 3e38), np.zeros(2), np.zeros(2))], 1, 2, SEMANTICKITTI).range
    ).all()
    nothing = scan_of(np.full((4, 3), np.nan), np.zeros(4), np.zeros(4))
    assert measure(spoiled, 3, 6, SEMANTICKITTI) == measure(SCANS, 3, 6, SEMANTICKITTI)
    assert measure([*SCANS, nothing], 4, 6, SEMANTICKITTI).points_per_scan[0] == 0


def test_a_sample_is_bounded_the_same_every_time_and_not_of_some_beams_alone(monkeypatch) -> None:
    """As nuScenes has them, beam after beam in turn: every second or every 32nd point would be of some beams only."""
    monkeypatch.setattr(statistics, "_SAMPLE", 4000)
    count = 32 * 1000
    rng = np.random.default_rng(0)
    heights = np.tile(np.arange(32.0), count // 32)
    xyz = np.stack([rng.uniform(-9, 9, count), rng.uniform(-9, 9, count), heights], axis=1)
    drawn: list[int] = []
    percentile = np.percentile
    monkeypatch.setattr(
        np, "percentile", lambda a, *rest, **more: (drawn.append(np.size(a)), percentile(a, *rest, **more))[1]
    )
    scans = [scan_of(xyz, rng.random(count), np.zeros(count))] * 4
    found = measure(scans, 4, 2, SEMANTICKITTI)
    assert max(drawn) == 3 * 4000
    assert found == measure(scans, 4, 2, SEMANTICKITTI)
    assert found.height == pytest.approx(percentile(heights, PERCENTAGES), abs=1.01)
    assert (found.height[0], found.height[-1]) == (0, 31)
    assert found.range[-1] == pytest.approx(np.linalg.norm(xyz, axis=1).max(), rel=1e-6)


def street(height: float, points: int = 20_000, seed: int = 0) -> np.ndarray:
    """A ground that rises a little, walls along both sides, and a roof below the sensor, which has the most points."""
    rng = np.random.default_rng(seed)
    third = points // 3
    ground = np.column_stack([rng.normal(0, 12, third), rng.normal(0, 6, third), rng.normal(height, 0.02, third)])
    ground[:, 2] += 0.005 * ground[:, 0]
    walls = np.column_stack(
        [rng.uniform(-40, 40, third), rng.choice([-9.0, 9.0], third), rng.uniform(height, height + 8, third)]
    )
    roof = np.column_stack([rng.uniform(-1, 1, (2 * third, 2)), rng.normal(height + 1.3, 0.005, 2 * third)])
    return rng.permutation(np.concatenate([ground, walls, roof])).astype(np.float32)


@pytest.mark.parametrize("height", [-1.73, -1.84, 0.0, 518.0])
def test_the_ground_is_found(height) -> None:
    assert ground_height(street(height)) == pytest.approx(height, abs=0.05)


def test_the_ground_of_many_scans_is_that_of_most_of_them() -> None:
    scans = [street(height) for height in (-1.7, -1.75, -1.7, 4.0)]
    found = measure((scan_of(xyz, np.zeros(len(xyz)), np.zeros(len(xyz))) for xyz in scans), 4, 2, SEMANTICKITTI)
    assert found.ground_height == pytest.approx(-1.7, abs=0.05)


def test_no_ground_is_none() -> None:
    far = random_scan(1000, 0)
    xyz = far.xyz + np.array([500, 0, 0], dtype=np.float32)
    assert ground_height(xyz) is None
    assert measure([scan_of(xyz, far.intensity, far.labels)], 1, 5, SEMANTICKITTI).ground_height is None
