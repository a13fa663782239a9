"""Motion of the sensor, against products of 4 x 4 matrices in extended precision."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest

from utils.scan.motion import as_past, motion_between, move_points

Wide = np.longdouble


def some_poses(seed: int, away: float, skew: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Two poses a few metres apart, `away` metres from the origin; `skew` spoils the rotations of both alike."""
    rng = np.random.default_rng(seed)
    shape = np.eye(3) + skew * rng.uniform(-1, 1, (3, 3))
    turned, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    turned[:, 0] *= np.linalg.det(turned)
    poses = np.tile(np.eye(4), (2, 1, 1))
    for pose in poses:
        little, _ = np.linalg.qr(np.eye(3) + 0.05 * rng.normal(size=(3, 3)))
        pose[:3, :3] = turned @ (little * np.sign(np.diag(little))) @ shape
        pose[:3, 3] = away * turned[:, 1] + rng.uniform(-3, 3, 3)
    return poses[0], poses[1]


def inverse(matrix: np.ndarray) -> np.ndarray:
    """Gauss-Jordan, in extended precision: numpy's own has only doubles."""
    rows = np.hstack([matrix.astype(Wide), np.eye(4, dtype=Wide)])
    for column in range(4):
        pivot = column + int(np.abs(rows[column:, column]).argmax())
        rows[[column, pivot]] = rows[[pivot, column]]
        rows[column] /= rows[column, column]
        for row in set(range(4)) - {column}:
            rows[row] -= rows[row, column] * rows[column]
    return rows[:, 4:]


def moved_slowly(past: np.ndarray, now: np.ndarray, xyz: np.ndarray) -> np.ndarray:
    """now^-1 past p, point by point."""
    back, out = inverse(now), []
    for point in xyz:
        out.append((back @ (past.astype(Wide) @ np.array([*point, 1], dtype=Wide)))[:3])
    return np.array(out)


@pytest.mark.parametrize("skew", [0.0, 4e-4], ids=["rotations", "as files round them"])
@pytest.mark.parametrize("away", [0.0, 3e3, 1e6])
def test_points_are_moved_as_by_the_product_of_the_poses(away, skew) -> None:
    for seed in range(3):
        past, now = some_poses(seed, away, skew)
        xyz = np.random.default_rng(seed).uniform(-80, 80, (200, 3)).astype(np.float32)
        expected = moved_slowly(past, now, xyz)
        found = move_points(xyz, motion_between(past, now))
        assert found.dtype == np.float32
        # Half a step of single precision at 128 m, and what doubles leave of a thousand kilometres.
        assert np.abs(found - expected).max() < 1.2e-5
        # So could not a product in single precision.
        narrow = np.linalg.inv(now.astype(np.float32)) @ past.astype(np.float32)
        if away:
            lost = np.abs((xyz @ narrow[:3, :3].T + narrow[:3, 3]) - expected).max()
            assert lost > 10 * np.abs(found - expected).max()


def test_there_and_back_again() -> None:
    past, now = some_poses(5, 2e3)
    xyz = np.random.default_rng(0).uniform(-80, 80, (500, 3)).astype(np.float32)
    there = move_points(xyz, motion_between(past, now))
    assert np.abs(there - xyz).max() > 1
    assert np.allclose(move_points(there, motion_between(now, past)), xyz, rtol=0, atol=3e-5)


@pytest.mark.parametrize("count", [0, 1, 16384, 40000])
def test_any_number_of_points_in_any_layout(count) -> None:
    """It takes some points at a time; a source may give columns of a wider table."""
    past, now = some_poses(1, 10.0)
    motion = motion_between(past, now)
    rows = np.random.default_rng(0).uniform(-50, 50, (count, 4)).astype(np.float32)
    expected = rows[:, :3].astype(np.float64) @ motion[:, :3].T + motion[:, 3]
    for xyz in (rows[:, :3], rows[:, :3].copy(), np.asfortranarray(rows[:, :3])):
        found = move_points(xyz, motion)
        assert found.shape == (count, 3) and np.allclose(found, expected, rtol=0, atol=1e-5)


def test_points_of_a_past_sweep(make_scan) -> None:
    scan = make_scan(50)
    past, now = some_poses(2, 100.0)
    found = as_past(scan, motion_between(past, now), 0.15)
    assert found.index.tolist() == [-1] * 50 and np.isnan(found.pixels).all() and found.image is None
    assert (
        found.age is not None and found.age.dtype == np.float32 and np.array_equal(found.age, np.full(50, 0.15, "f4"))
    )
    assert found.index.dtype == np.int64 and found.pixels.shape == (50, 2)
    for kept in ("labels", "instances", "intensity"):
        assert np.array_equal(getattr(found, kept), getattr(scan, kept))
    assert scan.age is None and scan.ages.tolist() == [0] * 50


def test_a_damaged_point_stays_one_without_a_warning(make_scan) -> None:
    scan = make_scan(5)
    xyz = scan.xyz.copy()
    xyz[1], xyz[2, 0], xyz[3] = np.nan, np.inf, 3e38
    past, now = some_poses(2, 100.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = as_past(replace(scan, xyz=xyz), motion_between(past, now), 1).xyz
    assert np.isfinite(found).all(axis=1)[[0, 1, 2, 4]].tolist() == [True, False, False, True]
