"""What of a scan is augmented, and how much."""

from __future__ import annotations

from dataclasses import dataclass

from dataloader.augment.weather import CorruptionOptions


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
