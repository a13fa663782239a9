from __future__ import annotations

import numpy as np
import pytest

from utils.scan.views import move_to_view, random_views


def test_views_are_rotations_about_z_and_small_moves():
    views = random_views(200, np.random.default_rng(0))
    assert views is not None and views.shape == (200, 3, 4) and views.dtype == np.float32
    rotations = views[:, :, :3].astype(np.float64)
    assert np.allclose(rotations @ rotations.transpose(0, 2, 1), np.eye(3), atol=1e-6)
    assert np.allclose(np.linalg.det(rotations), 1) and np.array_equal(rotations[:, 2], np.tile([0, 0, 1], (200, 1)))
    assert abs(views[:, :, 3].std() - 0.1) < 0.02
    assert abs(rotations[:, 0, 0].mean()) < 0.15


def test_one_vote_is_the_scan_as_it_is():
    assert random_views(1, np.random.default_rng(0)) is None
    with pytest.raises(ValueError):
        random_views(0, np.random.default_rng(0))


@pytest.mark.parametrize("count", [0, 1, 40_000])
def test_points_in_a_view_are_the_product_with_its_map(count) -> None:
    rng = np.random.default_rng(0)
    points = rng.uniform(-50, 50, (count, 5)).astype(np.float32)
    views = random_views(3, rng)
    assert views is not None
    for view in (*views, rng.normal(size=(3, 4)).astype(np.float32)):
        moved = np.full_like(points, np.nan)
        move_to_view(points, view, moved)
        exact = points[:, :3].astype(np.float64) @ view[:, :3].T.astype(np.float64) + view[:, 3]
        assert np.allclose(moved[:, :3], exact, rtol=0, atol=4e-5)
        assert np.array_equal(moved[:, 3:], points[:, 3:])
