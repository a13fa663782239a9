"""Augmentation of the points: small functions (Scan, rng) -> Scan (2DPASS, ECCV 2022, section 4.1 and its released
configs). Rotation, flip, scale and translation change xyz only: the pixels were taken from the scan as measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dataloader.corruptions.augment import CorruptionOptions
from utils.structures import Scan

_TRANSLATION_STD = 0.1  # metres
_SCALE = (0.95, 1.05)
_MAX_DROP = 0.2


@dataclass(frozen=True)
class AugmentOptions:
    """What to do to a training item.

    Attributes:
        rotate: about z by U(0, 360) degrees (`rotate_aug`).
        flip: x, y, both or none (`flip_aug`).
        scale: x and y by one factor U(0.95, 1.05) (`scale_aug`).
        translate: by N(0, 0.1) m per axis (`transform_aug`).
        dropout: a share U(0, 0.2) of the points is dropped (`dropout_aug`).
        mix_instances: append the instances of a second random scan (`point_image_dataset_mix_semkitti`).
        bottom_crop: (width, height) of the image crop; None leaves the image as it is.
        color_jitter: strength of brightness, contrast and saturation jitter; None for none.
        flip2d: chance of a horizontal flip of the image.
        corruption: weather, noise or another sensor, in some of the scans (`corruption_aug`); None for none.
    """

    rotate: bool = False
    flip: bool = False
    scale: bool = False
    translate: bool = False
    dropout: bool = False
    mix_instances: bool = False
    bottom_crop: tuple[int, int] | None = None
    color_jitter: tuple[float, float, float] | None = None
    flip2d: float = 0.0
    corruption: CorruptionOptions | None = None


def in_volume(xyz: NDArray[np.float32], low: Sequence[float], high: Sequence[float]) -> NDArray[np.bool_]:
    """(N,) bool: low < xyz < high on every axis. Strictly: a point at `high` has no voxel. Never true of NaN.

    Args:
        xyz: (N, 3) float32, metres.
        low, high: 3 numbers each, metres.
    """
    inside = np.ones(len(xyz), dtype=bool)
    for axis in range(3):
        column = xyz[:, axis]
        inside &= (column > np.float32(low[axis])) & (column < np.float32(high[axis]))
    return inside


def crop_to_volume(scan: Scan, low: Sequence[float], high: Sequence[float]) -> Scan:
    """The points with low < xyz < high (metres); maybe none."""
    return scan.select(in_volume(scan.xyz, low, high))


def drop_points(scan: Scan, rng: np.random.Generator) -> Scan:
    """Without a random share U(0, 0.2) of the points; they are gone, not overwritten.

    The draw is per point, so in a scan of a few points it may hit all of them: then all stay.
    """
    kept = rng.random(len(scan)) >= rng.uniform(0.0, _MAX_DROP)
    return scan.select(kept) if kept.any() else scan


def _rotation_z(angle: float) -> NDArray[np.float32]:
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]], dtype=np.float32)


def rotate_z(scan: Scan, rng: np.random.Generator) -> Scan:
    """Rotated about the z axis by U(0, 360) degrees."""
    return replace(scan, xyz=scan.xyz @ _rotation_z(rng.uniform(0.0, 2 * np.pi)).T)


def flip(scan: Scan, rng: np.random.Generator) -> Scan:
    """Mirrored in x, in y, in both or in none, with equal chance."""
    choice = int(rng.integers(4))
    signs = np.array([-1 if choice & 1 else 1, -1 if choice & 2 else 1, 1], dtype=np.float32)
    return replace(scan, xyz=scan.xyz * signs)


def scale(scan: Scan, rng: np.random.Generator) -> Scan:
    """x and y times one factor U(0.95, 1.05); heights stay."""
    factor = rng.uniform(*_SCALE)
    return replace(scan, xyz=scan.xyz * np.array([factor, factor, 1], dtype=np.float32))


def translate(scan: Scan, rng: np.random.Generator) -> Scan:
    """Moved by N(0, 0.1) m per axis."""
    return replace(scan, xyz=scan.xyz + rng.normal(0.0, _TRANSLATION_STD, 3).astype(np.float32))


def augment_points(scan: Scan, options: AugmentOptions, rng: np.random.Generator) -> Scan:
    """Rotation, flip, scale and translation, those that `options` asks for, in this order."""
    steps = (
        (options.rotate, rotate_z),
        (options.flip, flip),
        (options.scale, scale),
        (options.translate, translate),
    )
    for wanted, step in steps:
        if wanted:
            scan = step(scan, rng)
    return scan


def mix_instances(scan: Scan, other: Scan) -> Scan:
    """`scan` with every point of `other` that has an instance id appended; the image stays that of `scan`.

    Appended points have no pixel and index -1: they are in neither the image nor the file of `scan`.
    """
    chosen = other.select(other.instances != 0)
    foreign = replace(
        chosen,
        index=np.full(len(chosen), -1, dtype=np.int64),
        pixels=np.full((len(chosen), 2), np.nan, dtype=np.float32),
    )
    return Scan.concatenate([scan, foreign])


def random_views(num_vote: int, rng: np.random.Generator) -> NDArray[np.float32] | None:
    """Affine maps of the views of test-time augmentation: rotation about z and translation as in training.

    Args:
        num_vote: number of views V.
        rng: source of angles and translations.

    Returns:
        (V, 3, 4) float32 [rotation | translation in metres]; None for one view, which is the scan as it is.

    Raises:
        ValueError: `num_vote` is below 1.
    """
    if num_vote < 1:
        raise ValueError(f"num_vote must be at least 1, not {num_vote}")
    if num_vote == 1:
        return None
    views = np.empty((num_vote, 3, 4), dtype=np.float32)
    for view in views:
        view[:, :3] = _rotation_z(rng.uniform(0.0, 2 * np.pi))
        view[:, 3] = rng.normal(0.0, _TRANSLATION_STD, 3)
    return views
