"""Points under affine maps, against products in double precision."""

from __future__ import annotations

import numpy as np
import pytest

from utils.scan.moving import move
from utils.scan.views import rotation_z

PLAIN = np.diag([1.0, 1.0, 1.0])
MATRICES = {
    "turn": rotation_z(2.0),
    "turn and scale": rotation_z(2.0) @ np.diag([1.04, 1.04, 1.0]),
    "mirrored in x": np.diag([-1.0, 1.0, 1.0]) @ rotation_z(0.7),
    "mirrored in y": rotation_z(4.0) @ np.diag([0.96, -0.96, 1.0]),
    "only moved": PLAIN,
    "flat": np.diag([0.0, 0.0, 1.0]),
    "unequal scales": np.diag([1.0, 2.0, 1.0]),
    "heights": np.diag([1.0, 1.0, 2.0]),
    "sheared by height": PLAIN + np.eye(3, k=2),
    "tilted": PLAIN + 0.1 * np.eye(3, k=-2),
    "any": np.random.default_rng(1).normal(size=(3, 3)),
}


@pytest.mark.parametrize("matrix", MATRICES.values(), ids=MATRICES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_map_moves_points_of_any_layout(matrix, dtype) -> None:
    rows = np.random.default_rng(0).uniform(-50, 50, (40_000, 5)).astype(np.float32)
    affine = np.column_stack([matrix, [0.3, -2.0, 0.1]]).astype(dtype)
    expected = rows[:, :3].astype(np.float64) @ affine[:, :3].T.astype(np.float64) + affine[:, 3]
    for points in (rows[:, :3], rows[:, :3].copy(), np.asfortranarray(rows[:, :3]), rows[:1, :3], rows[:0, :3]):
        for moved in (np.empty_like(points), np.empty((len(points), 4), np.float32)[:, :3]):
            move(points, affine, moved)
            assert np.allclose(moved, expected[: len(points)], rtol=0, atol=4e-5)
