"""Augmentation of the points of a training scan (2DPASS, ECCV 2022, section 4.1 and its released configs).

Rotation, flip, scale and translation change xyz only: the pixels of the points stay those of the scan as measured. Each
is a small function from a random generator to an affine map; the product of the maps moves the points once.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from dataloader.augment.options import AugmentOptions
from utils.scan.moving import move
from utils.scan.records import Scan
from utils.scan.views import TRANSLATION_STD, rotation_z

Affine = NDArray[np.float64]
"""(3, 4) [matrix | translation in metres]."""

_SCALE = (0.95, 1.05)
_MAX_DROP = 0.2


def drop_points(points: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.bool_]:
    """Drops a random share U(0, 0.2) of some points: returns the mask (N,) of those that stay.

    Each point is drawn for itself, so of a few points the draw may drop all: then all stay.

    Args:
        points: (N,) bool mask of the points.
        rng: source of the share and of the draws, one for each point of the mask.
    """
    count = int(np.count_nonzero(points))
    kept = rng.random(count, dtype=np.float32) >= rng.uniform(0.0, _MAX_DROP)
    if not kept.any():
        return points
    if count == len(points):
        return kept
    rest = np.zeros_like(points)
    rest[points] = kept
    return rest


def rotation(rng: np.random.Generator) -> Affine:
    """Draws a rotation about the z axis by U(0, 360) degrees."""
    return _linear(rotation_z(rng.uniform(0.0, 2 * np.pi)))


def mirroring(rng: np.random.Generator) -> Affine:
    """Draws a mirroring in x, in y, in both or in none, with equal chance."""
    choice = int(rng.integers(4))
    return _linear(np.diag([-1.0 if choice & 1 else 1.0, -1.0 if choice & 2 else 1.0, 1.0]))


def scaling(rng: np.random.Generator) -> Affine:
    """Draws a scaling of x and y by one factor U(0.95, 1.05); heights do not change."""
    factor = rng.uniform(*_SCALE)
    return _linear(np.diag([factor, factor, 1.0]))


def scaling_all(rng: np.random.Generator) -> Affine:
    """Draws a scaling of x, y and z by one factor U(0.95, 1.05)."""
    return _linear(np.diag([rng.uniform(*_SCALE)] * 3))


def translation(rng: np.random.Generator) -> Affine:
    """Draws a translation by N(0, 0.1) metres per axis."""
    affine = np.eye(3, 4)
    affine[:, 3] = rng.normal(0.0, TRANSLATION_STD, 3)
    return affine


def _linear(matrix: NDArray[np.float64]) -> Affine:
    return np.column_stack([matrix, np.zeros(3)])


def moved(scan: Scan, affine: Affine) -> Scan:
    """Moves every point x to `affine` @ (x, 1); the other columns of the scan do not change."""
    xyz = np.empty_like(scan.xyz)
    move(scan.xyz, affine.astype(np.float32), xyz)
    return replace(scan, xyz=xyz)


def augment_points(scan: Scan, options: AugmentOptions, rng: np.random.Generator) -> Scan:
    """Applies rotation, flip, scale and translation, as far as `options` asks for them, in this order."""
    steps = (
        (options.rotate, rotation),
        (options.flip, mirroring),
        (options.scale, scaling_all if options.scale_z else scaling),
        (options.translate, translation),
    )
    total = np.eye(4)
    for wanted, step in steps:
        if wanted:
            total = np.vstack([step(rng), [0.0, 0.0, 0.0, 1.0]]) @ total
    return scan if np.array_equal(total, np.eye(4)) else moved(scan, total[:3])
