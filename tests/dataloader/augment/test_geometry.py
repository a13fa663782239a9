from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from dataloader.augment import geometry as augment
from dataloader.augment.mixing import mix_instances
from dataloader.augment.options import AugmentOptions

COLUMNS = ("intensity", "labels", "instances", "index", "pixels")


def untouched(one, other):
    return all(np.array_equal(getattr(one, name), getattr(other, name), equal_nan=name == "pixels") for name in COLUMNS)


@pytest.mark.parametrize("step", [augment.rotation, augment.mirroring, augment.scaling, augment.translation])
def test_steps_on_xyz_change_nothing_else(make_scan, step):
    scan = make_scan()
    before = scan.xyz.copy()
    rng = np.random.default_rng(0)
    results = [augment.moved(scan, step(rng)) for _ in range(8)]
    assert all(untouched(result, scan) and result.image is scan.image for result in results)
    assert all(result.xyz.dtype == np.float32 for result in results)
    assert np.array_equal(scan.xyz, before)
    assert any(not np.array_equal(result.xyz, before) for result in results)


def test_rotation_keeps_radius_height_and_handedness(make_scan):
    scan = make_scan()
    rng = np.random.default_rng(0)
    angles = []
    for _ in range(200):
        turned = augment.moved(scan, augment.rotation(rng)).xyz
        assert np.array_equal(turned[:, 2], scan.xyz[:, 2])
        assert np.allclose(np.hypot(turned[:, 0], turned[:, 1]), np.hypot(scan.xyz[:, 0], scan.xyz[:, 1]), rtol=1e-5)
        turn = (turned[:, 0] + 1j * turned[:, 1]) / (scan.xyz[:, 0] + 1j * scan.xyz[:, 1])
        assert np.allclose(turn, turn[0], atol=1e-3)  # one angle for all points, and no mirroring
        angles.append(np.angle(turn[0]) % (2 * np.pi))
    counts, _ = np.histogram(angles, bins=4, range=(0, 2 * np.pi))
    assert counts.min() > 25


def test_flip_has_four_outcomes_with_equal_chance(make_scan):
    scan = make_scan(20)
    rng = np.random.default_rng(0)
    outcomes = {}
    for _ in range(400):
        signs = augment.moved(scan, augment.mirroring(rng)).xyz / scan.xyz
        assert np.array_equal(signs, np.broadcast_to(signs[0], signs.shape))
        outcomes[tuple(signs[0])] = outcomes.get(tuple(signs[0]), 0) + 1
    assert set(outcomes) == {(1, 1, 1), (-1, 1, 1), (1, -1, 1), (-1, -1, 1)}
    assert min(outcomes.values()) > 60


def test_scale_is_one_factor_for_x_and_y(make_scan):
    scan = make_scan(20)
    rng = np.random.default_rng(0)
    factors = np.array([(augment.moved(scan, augment.scaling(rng)).xyz / scan.xyz)[0] for _ in range(300)])
    assert np.allclose(factors[:, 0], factors[:, 1], rtol=1e-5) and (factors[:, 2] == 1).all()
    assert 0.95 <= factors[:, 0].min() < 0.96 and 1.04 < factors[:, 0].max() <= 1.0501


def test_scale_of_all_axes_keeps_the_elevation_of_the_beams_and_needs_no_other_draws(make_scan):
    scan = make_scan(20)
    published, all_axes = (
        augment.augment_points(scan, AugmentOptions(scale=True, scale_z=z), np.random.default_rng(4)).xyz
        for z in (False, True)
    )
    assert np.array_equal(published[:, :2], all_axes[:, :2])
    ratio = all_axes / scan.xyz
    assert np.allclose(ratio, ratio[0, 0], rtol=1e-5) and abs(ratio[0, 0] - 1) > 1e-3


def test_translation_is_normal_per_axis(make_scan):
    scan = make_scan(20)
    rng = np.random.default_rng(0)
    shifts = []
    for _ in range(1000):
        shift = augment.moved(scan, augment.translation(rng)).xyz.astype(np.float64) - scan.xyz
        assert np.allclose(shift, shift[0], atol=1e-5)
        shifts.append(shift[0])
    assert np.allclose(np.std(shifts, axis=0), 0.1, atol=0.01) and np.allclose(np.mean(shifts, axis=0), 0, atol=0.02)


def test_dropped_points_are_gone(make_scan):
    scan = make_scan(5000)
    rng = np.random.default_rng(0)
    shares = []
    for _ in range(100):
        kept = scan.select(augment.drop_points(np.ones(5000, bool), rng))
        assert (np.diff(kept.index) > 0).all()  # no copies, order kept
        assert np.array_equal(kept.xyz, scan.xyz[kept.index]) and np.array_equal(kept.labels, scan.labels[kept.index])
        shares.append(1 - len(kept) / len(scan))
    assert min(shares) < 0.02 and 0.17 < max(shares) < 0.22 and abs(np.mean(shares) - 0.1) < 0.02


def test_where_all_would_be_dropped_all_stay():
    certain = SimpleNamespace(random=np.zeros, uniform=lambda low, high: high)
    points = np.array([False, True, True])
    assert augment.drop_points(points, certain).tolist() == points.tolist()  # type: ignore[arg-type]


def test_drop_never_leaves_nothing():
    rng = np.random.default_rng(0)
    assert all(augment.drop_points(np.array([True, False]), rng).tolist() == [True, False] for _ in range(100))


def test_all_steps_at_once_are_the_steps_one_by_one(make_scan):
    scan = make_scan()
    for seed in range(20):
        rng = np.random.default_rng(seed)
        expected = scan.xyz.astype(np.float64)
        for step in (augment.rotation, augment.mirroring, augment.scaling, augment.translation):
            affine = step(rng)
            expected = expected @ affine[:, :3].T + affine[:, 3]
        found = augment.augment_points(scan, AugmentOptions(True, True, True, True), np.random.default_rng(seed))
        assert np.allclose(found.xyz, expected, rtol=0, atol=1e-5)


def test_flags_choose_the_steps(make_scan):
    scan = make_scan()
    rng = np.random.default_rng(0)
    assert augment.augment_points(scan, AugmentOptions(), rng) is scan
    only_z_moves_by_translation = augment.augment_points(scan, AugmentOptions(True, True, True), rng)
    assert np.array_equal(only_z_moves_by_translation.xyz[:, 2], scan.xyz[:, 2])
    assert not np.array_equal(
        augment.augment_points(scan, AugmentOptions(translate=True), rng).xyz[:, 2], scan.xyz[:, 2]
    )


def test_mixed_instances_are_appended(make_scan):
    scan, other = make_scan(300, seed=1), replace(make_scan(200, seed=2), image=None)
    mixed = mix_instances(scan, other)
    chosen = [i for i in range(200) if other.instances[i] != 0]
    assert 0 < len(chosen) < 200
    assert untouched(mixed.select(np.arange(300)), scan) and np.array_equal(mixed.xyz[:300], scan.xyz)
    added = mixed.select(np.arange(300, len(mixed)))
    for name in ("xyz", "intensity", "labels", "instances"):
        assert np.array_equal(getattr(added, name), getattr(other, name)[chosen])
    assert (added.index == -1).all() and np.isnan(added.pixels).all()
    assert mixed.image is scan.image and mixed.frame is scan.frame


def test_mixing_a_scan_without_instances_changes_nothing(make_scan):
    scan = make_scan()
    other = replace(scan, instances=np.zeros_like(scan.instances))
    mixed = mix_instances(scan, other)
    assert untouched(mixed, scan) and np.array_equal(mixed.xyz, scan.xyz)
