"""The kinds of `dataset_params.mixing`: training scans with points of other training scans.

A new kind is a section class here, a key of `MixingParams`, and a class of `dataloader.augment.mixing`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field, ValidationInfo
from pydantic import field_validator as check
from pydantic import model_validator as check_all

from utils.config.fields import Section, Share, Text, list_of

Chance = Annotated[float, Field(gt=0, le=1)]
Bands = Annotated[int, Field(ge=2, le=64)]
Elevation = Annotated[float, Field(ge=-90, le=90)]

_CHANCE = "Probability that a training item is mixed in this way."
_ROUNDING = 1e-9


class MixingKind(Section):
    """The key that all kinds of mixing share."""

    chance: Chance = Field(description=_CHANCE)


class LaserMixParams(MixingKind):
    """LaserMix (Kong et al., CVPR 2023): bands of elevation come from the scan and from another one by turns."""

    bands: Annotated[tuple[Bands, ...], list_of()] = Field(
        default=(3, 4, 5, 6), description="Numbers of bands to draw one from."
    )
    pitch: Annotated[tuple[Elevation, Elevation], list_of(2)] | None = Field(
        default=None,
        description="Lowest and highest elevation of the bands, degrees; null: those of the sensor. Points beyond lie "
        "in the outermost bands.",
    )

    @check("bands")
    @classmethod
    def _there_are_bands(cls, bands: tuple[int, ...]) -> tuple[int, ...]:
        if not bands:
            raise ValueError("must hold at least one number of bands, such as [3, 4, 5, 6]")
        return bands

    @check("pitch")
    @classmethod
    def _pitch_ascends(cls, pitch: tuple[float, float] | None) -> tuple[float, float] | None:
        if pitch is not None and not pitch[1] - pitch[0] >= 1:
            raise ValueError(f"must hold the lowest elevation, then a higher one, in degrees, found {list(pitch)}")
        return pitch


class PolarMixParams(MixingKind):
    """PolarMix (Xiao et al., NeurIPS 2022): a half turn of another scan, and its things at three places."""

    swap_chance: Share = Field(default=0.5, description="Probability that a half turn comes from the other scan.")
    paste_chance: Share = Field(
        default=1.0,
        description="Probability that the things of the other scan are added, as is and turned twice.",
    )

    @check("paste_chance")  # after swap_chance, in the order of the fields
    @classmethod
    def _does_something(cls, paste: float, info: ValidationInfo) -> float:
        if paste == 0 and info.data.get("swap_chance") == 0:
            raise ValueError("must be above 0 where swap_chance is 0, or nothing is mixed")
        return paste


class InstancePasteParams(MixingKind):
    """Objects of rare classes, cut out of the training scans once, where there is room for them."""

    database: Text = Field(
        default="./dataset/cache/objects",
        description="Folder for the objects, which are cut out before the first training on the same scans.",
    )
    objects: Annotated[int, Field(gt=0, le=100)] = Field(
        default=5, description="Largest number of objects for an item; 1 up to this many are drawn."
    )
    classes: Annotated[tuple[Text, ...], list_of()] | None = Field(
        default=None,
        description="Names of the classes to paste; null: the rare ones, which have fewer points than things have on "
        "average. A class is drawn by the inverse of its number of points.",
    )
    objects_per_class: Annotated[int, Field(gt=0, le=100_000)] = Field(
        default=500, description="Objects of each class that are kept; fewer where these have 400,000 points already."
    )

    @check("classes")
    @classmethod
    def _there_are_classes(cls, classes: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if classes == ():
            raise ValueError("must name at least one class; null: the rare ones")
        return classes


class InstanceMixParams(MixingKind):
    """The instances of another scan, which is augmented by draws of its own, as published with 2DPASS."""


class MixingParams(Section):
    """The kinds of mixing that are applied to a training item."""

    choose: Literal["one_of", "each"] = Field(
        default="one_of",
        description="one_of: at most one kind per item, each with its chance, which sum to 1 at most; each: every kind "
        "with its own chance, in the order laser_mix, polar_mix, instance_paste, instance_mix.",
    )
    laser_mix: LaserMixParams | None = Field(default=None, description="LaserMix; null: none.")
    polar_mix: PolarMixParams | None = Field(default=None, description="PolarMix; null: none.")
    instance_paste: InstancePasteParams | None = Field(
        default=None, description="Objects of rare classes, of all training scans; null: none."
    )
    instance_mix: InstanceMixParams | None = Field(
        default=None,
        description="Instances of another scan; chance 1 is what dataset_type point_image_dataset_mix_semkitti does. "
        "Not for nuScenes, whose scans have no instance ids.",
    )

    @check_all(mode="after")
    def _chances_fit(self) -> MixingParams:
        kinds = dict(self.kinds())
        if not kinds:
            raise ValueError(f"names no kind; name some of {', '.join(KINDS)}, or set it to null")
        total = sum(kind.chance for kind in kinds.values())
        if self.choose == "one_of" and total > 1 + _ROUNDING:
            raise ValueError(
                f"has chances of {' + '.join(f'{kind.chance:g}' for kind in kinds.values())} = {total:g}, which must "
                "not exceed 1 where choose is one_of; lower them, or take choose: each"
            )
        return self

    def kinds(self) -> Iterator[tuple[str, MixingKind]]:
        """Yields the kinds that are asked for, with their names, in the order in which they are applied."""
        for name in KINDS:
            if (kind := getattr(self, name)) is not None:
                yield name, kind


KINDS = tuple(name for name in MixingParams.model_fields if name != "choose")
"""The names of the kinds, in the order in which they are applied."""
