"""Test-time augmentation (TTA): the affine maps that rotate and move a scan for each vote."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from utils.scan.moving import move

TRANSLATION_STD = 0.1
"""Standard deviation of the random translation along each axis, metres; in training, too."""


def random_views(num_vote: int, rng: np.random.Generator) -> NDArray[np.float32] | None:
    """Draws the affine maps of test-time augmentation: rotation about z and translation as in training.

    Args:
        num_vote: number of views V, at least 1.
        rng: source of angles and translations.

    Returns:
        (V, 3, 4) float32 [rotation | translation in metres]; None for one view, which is the unchanged scan.

    Raises:
        ValueError: `num_vote` is below 1.
    """
    if num_vote < 1:
        raise ValueError(f"num_vote must be at least 1, not {num_vote}")
    if num_vote == 1:
        return None
    views = np.empty((num_vote, 3, 4), dtype=np.float32)
    for view in views:
        view[:, :3] = rotation_z(rng.uniform(0.0, 2 * np.pi))
        view[:, 3] = rng.normal(0.0, TRANSLATION_STD, 3)
    return views


def move_to_view(points: NDArray[np.float32], view: NDArray[np.float32], moved: NDArray[np.float32]) -> None:
    """Writes points as a view has them into `moved`: x, y, z by its map, further columns as they are.

    Args:
        points: (N, 3 or more): x, y, z (metres), then what stays.
        view: (3, 4) [rotation | translation in metres].
        moved: (N, as many) receives the points.
    """
    move(points[:, :3], view, moved[:, :3])
    moved[:, 3:] = points[:, 3:]


def rotation_z(angle: float) -> NDArray[np.float64]:
    """Returns the (3, 3) matrix of a rotation about the z axis by `angle`, radians."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])
