"""The data loaders: one of the training scans, one of the scans that are validated or tested."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field, ValidationInfo
from pydantic import field_validator as check

from utils.config.fields import Section, Text
from utils.config.kinds import IdleKeysAllowed


class LoaderParams(Section):
    """The keys of both loaders: where the scans lie, and how they are batched."""

    data_path: Text = Field(
        description="Folder of the sequences (00, 01, ...), or of the nuScenes tables (v1.0-trainval, ...)."
    )
    batch_size: Annotated[int, Field(gt=0, le=4096)] = Field(description="Scans per batch and device.")
    num_workers: Annotated[int, Field(ge=0, le=1024)] = Field(
        default=0, description="Loader processes per device; 0: none. With --debug there are none."
    )


class TrainingLoader(LoaderParams):
    """The loader of the training scans."""

    shuffle: bool = Field(description="Visit the scans in random order.")
    rotate_aug: bool = Field(default=False, description="Rotate about z by U(0, 360) degrees.")
    flip_aug: bool = Field(default=False, description="Flip x, y, both or none.")
    scale_aug: bool = Field(default=False, description="Scale x and y by U(0.95, 1.05).")
    scale_z_aug: bool = Field(
        default=False,
        description="With scale_aug: scale z by the same factor, so that the beams keep their elevation; the published "
        "code scales x and y alone.",
    )
    transform_aug: bool = Field(default=False, description="Translate by N(0, 0.1) metres per axis.")
    dropout_aug: bool = Field(default=False, description="Drop a random share U(0, 0.2) of the points.")

    @check("scale_z_aug")  # after scale_aug, in the order of the fields
    @classmethod
    def _is_part_of_scaling(cls, wanted: bool, info: ValidationInfo) -> bool:
        if wanted and not info.data.get("scale_aug", True):
            raise ValueError("is true, but scale_aug is false: nothing is scaled, set that to true or this to false")
        return wanted


class ValidationLoader(LoaderParams, IdleKeysAllowed):
    """The loader of the scans that are validated or tested: as they are and in order (votes: --num_vote)."""

    other: ClassVar[type[Section]] = TrainingLoader
    remark: ClassVar[str] = (
        "since scans are validated and tested as they are and in order; set {it} to false, or remove {it}"
    )
