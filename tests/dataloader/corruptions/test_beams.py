from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dataloader.corruptions.beams import (
    beam_missing,
    cross_sensor,
    dropped_rings,
    reduce_beams,
    rings_by_azimuth_wrap,
    rings_by_elevation,
    rings_of,
)
from tests.support.corruptions import kitti_ordered, made_up_sweep, same
from utils.scan.sensor import NUSCENES, SEMANTICKITTI


def slow_wraps(xyz, beams):
    """Applies the rule of the azimuth point by point."""
    ring, found, before = 0, [], None
    for x, y, _ in xyz.tolist():
        azimuth = np.arctan2(y, x) / (2 * np.pi)
        azimuth = azimuth + 1 if azimuth < 0 else azimuth
        if before is not None and before > 0.8 and azimuth < 0.2:
            ring += 1
        before = azimuth
        found.append(min(ring, beams - 1))
    return found


def test_rings_by_azimuth_wrap():
    xyz, beam = kitti_ordered(64)
    assert np.array_equal(rings_by_azimuth_wrap(xyz, 64), beam)
    assert np.array_equal(rings_by_azimuth_wrap(xyz, 40), np.minimum(beam, 39))
    # Lost points do not matter, as long as a beam has some on both sides of +x.
    kept = np.random.default_rng(0).random(len(xyz)) < 0.5
    assert np.array_equal(rings_by_azimuth_wrap(xyz[kept], 64), beam[kept])
    shuffled = np.random.default_rng(1).permutation(xyz)[:3000]
    assert rings_by_azimuth_wrap(shuffled, 64).tolist() == slow_wraps(shuffled, 64)
    assert rings_by_azimuth_wrap(xyz[:0], 64).shape == (0,)


def test_rings_by_elevation():
    pitch = np.array([3.5, 2.99, 2.57, 2.55, -24.9, -26.0, 89.0, -90.0])
    xyz = 7 * np.column_stack([np.zeros(8), -np.cos(np.radians(pitch)), np.sin(np.radians(pitch))])
    # 28 degrees / 64 beams: 0.4375 degrees each, from +3 down.
    assert rings_by_elevation(xyz.astype(np.float32), 64, 3.0, -25.0).tolist() == [0, 0, 0, 1, 63, 63, 0, 63]
    xyz, beam = kitti_ordered(32, sensor=NUSCENES)
    assert np.array_equal(rings_by_elevation(xyz, 32, NUSCENES.top, NUSCENES.bottom), beam)
    assert rings_by_elevation(np.zeros((1, 3), np.float32), 64, 3.0, -25.0).tolist() == [6]  # level, no NaN


def test_files_in_another_order_have_rings_by_elevation():
    xyz, beam = kitti_ordered(64)
    tilted = xyz * np.array([1, 1, 0.5], np.float32)  # elevation would give other rings
    assert np.array_equal(rings_of(tilted, SEMANTICKITTI), beam)
    for other in (xyz[::-1], np.random.default_rng(0).permutation(xyz), xyz.reshape(64, 200, 3)[:5].reshape(-1, 3)):
        other = np.ascontiguousarray(other)
        assert np.array_equal(rings_of(other, SEMANTICKITTI), rings_by_elevation(other, 64, 3.0, -25.0))
    assert rings_of(xyz[:0], SEMANTICKITTI).shape == (0,)


def test_a_sensor_with_fewer_beams_has_as_many_rings():
    xyz, beam = kitti_ordered(32)
    assert np.array_equal(rings_of(xyz, SEMANTICKITTI), beam)


def one_point_per_ring(sensor):
    sweep = made_up_sweep(sensor.beams, sensor)
    return replace(sweep, ring=np.arange(sensor.beams, dtype=np.int32))


@pytest.mark.parametrize(
    ("sensor", "window", "draws", "expected"),
    [
        (SEMANTICKITTI, {}, 16, 13.99),
        (SEMANTICKITTI, {}, 32, 24.43),
        (SEMANTICKITTI, {}, 48, 32.20),
        (NUSCENES, {"first": 2, "last": 28}, 8, 7.04),
        (NUSCENES, {"first": 2, "last": 28}, 16, 12.24),
        (NUSCENES, {"first": 2, "last": 28}, 24, 16.09),
    ],
)
def test_beams_are_drawn_with_replacement(sensor, window, draws, expected):
    """The mean number of different beams is that of Robo3D's draws, within 0.04."""
    sweep = one_point_per_ring(sensor)
    lost = np.zeros(sensor.beams)
    counts = []
    for seed in range(3000):
        found = beam_missing(sweep, np.random.default_rng(seed), draws, **window)
        lost[~np.isin(sweep.ring, found.ring)] += 1
        counts.append(len(sweep) - len(found))
    assert abs(np.mean(counts) - expected) < 0.15
    first, last = window.get("first", 4), window.get("last", 58)
    assert (lost[:first] == 0).all() and (lost[last + 1 :] == 0).all()
    assert (lost[first : last + 1] > 0).all()


def test_missing_beams_go_whole_and_the_rest_stays():
    sweep = made_up_sweep(3000)
    found = beam_missing(sweep, np.random.default_rng(0), 16)
    assert same(found, sweep.select(np.isin(sweep.ring, np.unique(found.ring))))
    assert not found.altered.any()


def test_rings_dropped_by_cross_sensor():
    assert dropped_rings(64, 16).tolist() == list(range(1, 64, 4))
    assert dropped_rings(64, 32).tolist() == list(range(1, 64, 2))
    assert dropped_rings(32, 8).tolist() == list(range(1, 32, 4))
    assert dropped_rings(32, 16).tolist() == list(range(1, 32, 2))
    for beams, dropped in ((64, 48), (32, 24)):
        rings = dropped_rings(beams, dropped)
        assert rings.tolist() == [int(np.floor(1 + 1.33 * k)) for k in range(dropped)]
        assert len(set(rings.tolist())) == dropped and rings.max() < beams


@pytest.mark.parametrize(("sensor", "dropped"), [(SEMANTICKITTI, 48), (SEMANTICKITTI, 16), (NUSCENES, 16)])
def test_cross_sensor_strides_over_the_file_not_the_beam(sensor, dropped):
    sweep = made_up_sweep(3001, sensor)
    gone = set(dropped_rings(sensor.beams, dropped).tolist())
    expected = [row for row in range(3001) if int(sweep.ring[row]) not in gone][::2]
    assert cross_sensor(sweep, np.random.default_rng(0), dropped).rows.tolist() == expected


@pytest.mark.parametrize(("beams", "offset"), [(32, 0), (32, 1), (16, 0), (16, 3)])
def test_fewer_beams_are_spread_evenly(beams, offset):
    sweep = made_up_sweep(5000)
    found = reduce_beams(sweep, np.random.default_rng(0), beams, offset)
    step = 64 // beams
    assert np.unique(found.ring).tolist() == list(range(offset, 64, step))
    assert same(found, sweep.select(np.isin(sweep.ring, np.arange(offset, 64, step))))


@pytest.mark.parametrize("thinning", ["stride", "random"])
def test_half_of_each_beam(thinning):
    sweep = made_up_sweep(5000)
    dense = reduce_beams(sweep, np.random.default_rng(0), 16)
    halves = [reduce_beams(sweep, np.random.default_rng(seed), 16, thinning=thinning) for seed in (0, 1)]
    for sparse in halves:
        assert (np.diff(sparse.rows) > 0).all()
        for ring in range(0, 64, 4):
            rows = dense.rows[dense.ring == ring]
            kept = sparse.rows[sparse.ring == ring]
            assert len(kept) == (len(rows) + 1) // 2
            assert set(kept) <= set(rows)
            if thinning == "stride":
                assert np.array_equal(kept, rows[::2])
    assert same(halves[0], halves[1]) == (thinning == "stride")


@pytest.mark.parametrize("count", [0, 1])
def test_tiny_sweeps(count):
    sweep, rng = made_up_sweep(count), np.random.default_rng(0)
    assert len(beam_missing(sweep, rng, 48)) <= count
    assert len(cross_sensor(sweep, rng, 48)) <= count
    for thinning in ("none", "stride", "random"):
        assert len(reduce_beams(sweep, rng, 32, thinning=thinning)) <= count


def test_a_sensor_with_as_few_beams_keeps_them_all():
    sweep = made_up_sweep(500, NUSCENES)
    assert same(reduce_beams(sweep, np.random.default_rng(0), 32), sweep)
