"""The options of augmentation: which steps are applied to a training scan, and how strongly."""

from __future__ import annotations

from dataclasses import dataclass

from dataloader.augment.mixing import Mixing
from dataloader.augment.weather import CorruptionOptions


@dataclass(frozen=True)
class AugmentOptions:
    """A frozen record of the augmentation of training items.

    Attributes:
        rotate: rotate about z by U(0, 360) degrees (`rotate_aug`).
        flip: mirror x, y, both or none (`flip_aug`).
        scale: multiply x and y by one factor U(0.95, 1.05) (`scale_aug`).
        scale_z: multiply z by that factor, too (`scale_z_aug`).
        translate: move by N(0, 0.1) metres per axis (`transform_aug`).
        dropout: drop a share U(0, 0.2) of the points (`dropout_aug`).
        mixing: mix in points of other scans (`mixing`, or `point_image_dataset_mix_semkitti`); None for none.
        bottom_crop: (width, height) of the image crop, pixels; None leaves the image as it is.
        color_jitter: strength of the brightness, contrast and saturation jitter; None for none.
        flip2d: probability of a horizontal flip of the image, 0..1.
        corruption: apply weather, noise or another sensor to some of the scans (`corruption_aug`); None for none.
        past_labels: train on the labels of past sweeps, too.
    """

    rotate: bool = False
    flip: bool = False
    scale: bool = False
    translate: bool = False
    dropout: bool = False
    mixing: Mixing | None = None
    bottom_crop: tuple[int, int] | None = None
    color_jitter: tuple[float, float, float] | None = None
    flip2d: float = 0.0
    corruption: CorruptionOptions | None = None
    past_labels: bool = True
    scale_z: bool = False
