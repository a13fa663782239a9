"""LaserMix and PolarMix by what must hold for every point of the pair."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from dataloader.augment.mixing_pairs import LaserMix, PolarMix, band_of
from utils.scan.records import Scan
from utils.scan.sensor import NUSCENES, SEMANTICKITTI

KITTI = (np.radians(-25), np.radians(3))
COLUMNS = ("xyz", "intensity", "labels", "instances", "ages")
THINGS = tuple(range(1, 9))


@pytest.fixture
def pair(make_scan) -> tuple[Scan, Scan]:
    """Two scans whose points are told apart by their intensity, and have elevations of a LiDAR and beyond."""
    scans = []
    for number in range(2):
        scan = make_scan(3000, seed=number + 1)
        rng = np.random.default_rng(number)
        elevation, azimuth, reach = (
            rng.uniform(-0.6, 0.2, 3000),
            rng.uniform(-np.pi, np.pi, 3000),
            rng.uniform(2, 40, 3000),
        )
        xyz = np.column_stack([reach * np.cos(azimuth), reach * np.sin(azimuth), reach * np.tan(elevation)])
        ages = (np.arange(3000) >= 2000).astype(np.float32)
        unique = np.arange(3000, dtype=np.float32) + 10_000 * number
        scans.append(replace(scan, xyz=xyz.astype(np.float32), intensity=unique, age=ages))
    return scans[0], replace(scans[1], image=None)


def slow_band(point, count: int, low: float, high: float) -> int:
    """The facts as they are written: the bands from the top, each as (lower, upper]."""
    x, y, z = point
    pitch = min(max(np.arctan2(z, np.sqrt(x * x + y * y)), low + 1e-5), high - 1e-5)
    width = (high - low) / count
    (band,) = [n for n in range(count) if high - (n + 1) * width < pitch <= high - n * width]
    return band


def columns_of(scan: Scan) -> dict[float, tuple]:
    """Each point, without pixel and index, by its intensity, which is its own."""
    return {
        float(row[1]): tuple(map(np.ndarray.tolist, map(np.asarray, row)))
        for row in zip(*(getattr(scan, name) for name in COLUMNS), strict=True)
    }


def check_columns(mixed: Scan, scan: Scan, other: Scan) -> None:
    """Own points keep everything; those of the other scan everything but pixel and index."""
    own = mixed.intensity < 10_000
    rows = mixed.intensity[own].astype(int)
    kept = mixed.select(own)
    assert np.array_equal(kept.index, scan.index[rows]) and np.array_equal(
        kept.pixels, scan.pixels[rows], equal_nan=True
    )
    assert (mixed.index[~own] == -1).all() and np.isnan(mixed.pixels[~own]).all()
    both = columns_of(scan) | columns_of(other)
    assert all(both[key] == value for key, value in columns_of(mixed).items())
    assert mixed.image is scan.image and mixed.frame is scan.frame


@pytest.mark.parametrize("bands", [3, 4, 5, 6])
def test_bands_alternate_and_nothing_is_lost(pair, bands):
    scan, other = pair
    mixed = LaserMix((bands,), KITTI).mix(scan, lambda: other, np.random.default_rng(0))
    of_scan, of_other = ([slow_band(point, bands, *KITTI) for point in each.xyz.tolist()] for each in pair)
    assert min(Counter(of_scan).values()) > 50 and len(set(of_scan)) == bands  # points lie in every band
    expected = {*scan.intensity[np.array(of_scan) % 2 == 0], *other.intensity[np.array(of_other) % 2 == 1]}
    assert len(mixed) == len(expected) and set(mixed.intensity) == expected
    check_columns(mixed, scan, other)
    assert set(mixed.ages[mixed.intensity >= 10_000]) == {0, 1}


def test_every_number_of_bands_is_drawn(pair):
    scan, other = pair
    found = {len(LaserMix((3, 4, 5, 6), KITTI).mix(scan, lambda: other, np.random.default_rng(s))) for s in range(40)}
    assert found == {
        len(LaserMix((n,), KITTI).mix(scan, lambda: other, np.random.default_rng(0))) for n in (3, 4, 5, 6)
    }


def test_a_band_holds_its_upper_edge_and_what_lies_beyond():
    pitch = (-1.0, 1.0)
    above, below = np.nextafter(np.float32(0), np.float32(1)), np.nextafter(np.float32(0), np.float32(-1))
    elevation = np.array([1.5, 1.0, above, 0.0, below, -1.0, -1.5])
    xyz = np.column_stack([np.cos(elevation), 0 * elevation, np.sin(elevation)]).astype(np.float32)
    xyz[2:5, 2] = [above, 0, below]
    assert band_of(xyz, 2, pitch).tolist() == [0, 0, 0, 1, 1, 1, 1]
    assert band_of(np.zeros((0, 3), np.float32), 4, pitch).tolist() == []


def test_the_bands_of_a_sensor_are_degrees_once():
    """Beams spread over the view of each sensor fall evenly into the bands."""
    for sensor, (low, high) in ((SEMANTICKITTI, (-25, 3)), (NUSCENES, (-30, 10))):
        assert sensor.bands == (low, high)
        beams = np.radians(np.linspace(low, high, 601)[:-1] + (high - low) / 1200)
        xyz = np.column_stack([np.cos(beams), 0 * beams, np.sin(beams)]).astype(np.float32)
        counts = np.bincount(band_of(xyz, 6, (np.radians(low), np.radians(high))))
        assert counts.tolist() == [100] * 6


def drawn_start(seed: int) -> float:
    """What PolarMix draws first, if it always swaps."""
    rng = np.random.default_rng(seed)
    rng.random()
    return rng.uniform(-np.pi, 0)


def test_sectors_are_exchanged(pair):
    scan, other = pair
    for seed in range(6):
        mixed = PolarMix(THINGS, 1.0, 0.0).mix(scan, lambda: other, np.random.default_rng(seed))
        start = drawn_start(seed)
        inside = [[start < -np.arctan2(y, x) < start + np.pi for x, y, _ in each.xyz.tolist()] for each in pair]
        expected = {*scan.intensity[~np.array(inside[0])], *other.intensity[np.array(inside[1])]}
        assert len(mixed) == len(expected) and set(mixed.intensity) == expected
        check_columns(mixed, scan, other)


def test_things_come_three_times_at_two_angles(pair):
    scan, other = pair
    things = other.select(np.isin(other.labels, THINGS))
    angles = []
    for seed in range(20):
        mixed = PolarMix(THINGS, 0.0, 1.0).mix(scan, lambda: other, np.random.default_rng(seed))
        count = len(things)
        assert np.array_equal(mixed.intensity[: len(scan)], scan.intensity)
        added = [mixed.select(np.arange(start, start + count)) for start in len(scan) + count * np.arange(3)]
        assert len(mixed) == len(scan) + 3 * count and np.array_equal(added[0].xyz, things.xyz)
        for part in added:
            assert all(np.array_equal(getattr(part, name), getattr(things, name)) for name in COLUMNS[1:])
            assert np.array_equal(part.xyz[:, 2], things.xyz[:, 2])
            assert np.allclose(np.hypot(*part.xyz[:, :2].T), np.hypot(*things.xyz[:, :2].T), rtol=1e-5)
            assert (part.index == -1).all() and np.isnan(part.pixels).all()
        for part in added[1:]:
            turn = np.angle((part.xyz[:, 0] + 1j * part.xyz[:, 1]) / (things.xyz[:, 0] + 1j * things.xyz[:, 1]))
            assert np.ptp(np.angle(np.exp(1j * (turn - turn[0])))) < 1e-4  # one angle for all
            angles.append(turn[0] % (2 * np.pi))
    first, second = np.array(angles).reshape(-1, 2).T
    assert first.max() < 2 * np.pi / 3 <= second.min() and second.max() < 4 * np.pi / 3
    assert np.ptp(first) > 1.5 and np.ptp(second) > 1.5


def test_chances_of_polar_mix(pair):
    scan, other = pair
    sizes = Counter()
    for seed in range(200):
        mixed = PolarMix(THINGS, 0.5, 1.0).mix(scan, lambda: other, np.random.default_rng(seed))
        sizes[bool((mixed.intensity < 10_000).sum() == len(scan))] += 1
    assert 70 < sizes[True] < 130


def test_a_pair_of_which_nothing_is_left_stays_the_scan(pair):
    scan, other = pair
    low = scan.select(band_of(scan.xyz, 2, KITTI) == 1)
    mixed = LaserMix((2,), KITTI).mix(low, lambda: other.select(other.xyz[:, 2] > 100), np.random.default_rng(0))
    assert 0 < len(low) == len(mixed)
