from __future__ import annotations

import numpy as np
import pytest

from utils.scan.nearest import nearest_inside

LOW, HIGH = (-50, -50, -4), (50, 50, 2)


@pytest.mark.parametrize("seed", range(4))
def test_donor_is_the_nearest_point_inside(seed):
    rng = np.random.default_rng(seed)
    spread = [(30, 30, 2), (60, 20, 3), (5, 90, 1), (51, 51, 2.1)][seed]
    xyz = (rng.standard_normal((3000, 3)) * spread).astype(np.float32)
    inside = ((xyz > LOW) & (xyz < HIGH)).all(axis=1)
    donor = nearest_inside(xyz, inside)
    points = xyz[inside].astype(np.float64)
    assert 0 < len(points) < len(xyz)
    assert np.array_equal(donor[inside], np.arange(len(points)))
    for row in np.flatnonzero(~inside):
        distance = np.linalg.norm(points - xyz[row], axis=1)
        assert distance[donor[row]] == pytest.approx(distance.min(), rel=1e-9)


def test_donor_of_a_single_point_outside():
    """A single point outside must find its donor within its own reach."""
    rng = np.random.default_rng(0)
    for _ in range(300):
        xyz = rng.uniform(-50, 50, (int(rng.integers(2, 60)), 3)).astype(np.float32)
        xyz[-1, rng.integers(2)] += rng.choice([-101, 101])
        inside = np.arange(len(xyz)) < len(xyz) - 1
        distance = np.linalg.norm(xyz[:-1].astype(np.float64) - xyz[-1], axis=1)
        assert nearest_inside(xyz, inside)[-1] == distance.argmin()


def test_donor_in_extreme_cases():
    one = np.array([[1, 1, 0], [99, 1, 0], [-1e30, 0, 0], [np.nan, 0, 0]], dtype=np.float32)
    assert nearest_inside(one, np.array([True, False, False, False])).tolist() == [0, 0, 0, 0]
    assert nearest_inside(one, np.ones(4, bool)).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("seed", range(20))
def test_donor_where_few_points_lie_far_apart(seed):
    """Clusters are seen from near and far, so that reach and grid have every size."""
    rng = np.random.default_rng(seed)
    centres = rng.uniform(-1, 1, (6, 3)) * 10.0 ** rng.uniform(-1, 5, (6, 1))
    xyz = (centres[rng.integers(6, size=2000)] + rng.normal(0, 0.5, (2000, 3))).astype(np.float32)
    inside = xyz[:, rng.integers(3)] < np.float32(rng.uniform(-1, 1))
    inside[:2] = True, False
    donor = nearest_inside(xyz, inside)
    points = xyz[inside].astype(np.float64)
    for row in np.flatnonzero(~inside):
        distance = np.linalg.norm(points - xyz[row], axis=1)
        assert distance[donor[row]] == pytest.approx(distance.min(), rel=1e-9)
