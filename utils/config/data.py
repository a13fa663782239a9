"""The `dataset_params` of a configuration, one section class per kind of data set, and its loaders."""

from __future__ import annotations

import difflib
import math
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, ValidationInfo
from pydantic import field_validator as check

from utils.config.fields import (
    Multiple16,
    NotNegative,
    PastSweeps,
    PointCount,
    PositiveInt,
    PositiveShare,
    Section,
    Share,
    Step,
    Text,
    Triple,
    list_of,
)
from utils.config.loaders import TrainingLoader, ValidationLoader
from utils.config.mixing import MixingParams
from utils.corruptions import DRAWN

CORRUPTIONS = tuple(DRAWN)
"""The names that `corruption_aug` may hold; `dataloader.augment.weather` has their functions."""


class CorruptionAugmentation(Section):
    """Training scans with weather, noise, or beams missing."""

    chance: Share = Field(default=0.5, description="Probability that a training scan is corrupted.")
    corruptions: Annotated[tuple[Text, ...], list_of()] = Field(
        description=f"Names to draw one from, at a random severity; possible are {', '.join(CORRUPTIONS)}."
    )

    @check("corruptions")
    @classmethod
    def _corruptions_are_known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if not names:
            raise ValueError(f"must name at least one of {', '.join(CORRUPTIONS)}")
        for name in names:
            if name not in CORRUPTIONS:
                nearest = difflib.get_close_matches(name.lower(), CORRUPTIONS, n=1, cutoff=0)[0]
                raise ValueError(f"must hold names of corruptions, found {name!r}, did you mean {nearest}?")
        return names


class DatasetParams(Section):
    """The keys of every kind of data set: its files, its labels and its loaders. The kinds are the classes below."""

    fixed: ClassVar[dict[str, str]] = {}  # keys for which this kind of data set allows one value only

    training_size: PositiveInt | None = Field(
        default=None,
        description=(
            "Number of training scans, for the length of the schedules that advance with every step "
            "(CosineAnnealingWarmRestarts, CosineAnnealingWarmup, OneCycleLR), before label_fraction; null: the scans "
            "are counted, as with --debug."
        ),
    )
    label_fraction: PositiveShare | None = Field(
        default=None,
        description=(
            "Share of the training scans that are trained on, above 0; null: all. They are chosen evenly along all "
            "sequences, at least one, whatever --seed is, a smaller share out of a larger one, and are listed in "
            "training_scans.txt of the run. The past scans of a chosen one give their points, and their labels if they "
            "are chosen, too."
        ),
    )
    dataset_type: str = Field(description="Content of an item; each kind of data set has its own names.")
    pc_dataset_type: Text = Field(
        description="Name of the data set; it decides how its files lie on disk: SemanticKITTI, nuScenes, or another "
        "one of dataloader/catalogue.py."
    )
    version: Literal["v1.0-trainval", "v1.0-mini"] | None = Field(
        default=None,
        description=(
            "nuScenes: the tables to train and validate on; null: v1.0-trainval. --debug takes v1.0-mini, and "
            "--submit_to_server v1.0-test."
        ),
    )
    collate_type: Literal["collate_fn_default", "collate_fn_voxel"] = Field(
        default="collate_fn_default", description="How scans are batched; it follows from dataset_type."
    )
    ignore_label: Annotated[int, Field(ge=-(10**9), le=10**9)] = Field(
        default=0, description="The learning id left out of loss and mIoU; it must be 0."
    )
    label_mapping: Text = Field(
        description="YAML of label ids and names; its path is relative to the current folder or the repository."
    )
    past_scans: PastSweeps = Field(
        default=0,
        description="Scans before the current one, by frame number, whose points are added to it; 0: none. It needs "
        "poses.txt and calib.txt of the sequences, and model_params.input_dims 5. Not for nuScenes.",
    )
    past_sweeps: PastSweeps = Field(
        default=0,
        description="nuScenes: sweeps before the key frame whose points are added to it; 0: none. It needs "
        "model_params.input_dims 5.",
    )
    past_labels: bool = Field(
        default=True,
        description="Train on the labels of past points, too; false: on those of the current scan alone.",
    )
    past_predictions: Text | None = Field(
        default=None,
        description="Folder of an earlier prediction, sequences/<sequence>/predictions/<frame>.label, by whose classes "
        "points of past_scans are thinned out; null: all are kept. For SemanticKITTI.",
    )
    past_steps: Annotated[tuple[Step, ...], list_of()] | None = Field(
        default=None,
        description="With past_predictions, a step for each learning id: a past point of that class is kept if the "
        "step divides its age in scans; 0: never. null: the usual steps of SemanticKITTI's classes.",
    )
    seg_labelweights: Annotated[tuple[PointCount, ...], list_of()] | None = Field(
        default=None, description="Points of each class, for the class weights of the cross-entropy; null: no weights."
    )
    corruption_aug: CorruptionAugmentation | None = Field(
        default=None, description="Corruption of training scans; null: none."
    )
    mixing: MixingParams | None = Field(
        default=None, description="Mixing of training scans with points of other training scans; null: none."
    )
    train_data_loader: TrainingLoader = Field(description="The loader of the training scans.")
    val_data_loader: ValidationLoader = Field(description="The loader of validation and test.")

    @check("pc_dataset_type", "collate_type")  # after dataset_type, in the order of the fields
    @classmethod
    def _fits_the_kind(cls, found: str, info: ValidationInfo) -> str:
        wanted = cls.fixed.get(str(info.field_name), found)
        if found != wanted:
            raise ValueError(f"must be {wanted} for dataset_type {info.data.get('dataset_type')}, found {found}")
        return found

    @check("version")
    @classmethod
    def _nuscenes_has_versions(cls, version: str | None, info: ValidationInfo) -> str | None:
        found = info.data.get("pc_dataset_type", "nuScenes")
        if version is not None and found != "nuScenes":
            raise ValueError(f"is for pc_dataset_type nuScenes, remove it from {found}, found {version}")
        return version

    @check("past_scans", "past_sweeps")
    @classmethod
    def _data_sets_have_either(cls, number: int, info: ValidationInfo) -> int:
        """Refuses the key of the other data set."""
        of_nuscenes = info.field_name == "past_sweeps"
        name = info.data.get("pc_dataset_type")
        if number and name is not None and (name == "nuScenes") != of_nuscenes:
            other = "past_scans" if of_nuscenes else "past_sweeps"
            raise ValueError(f"is not for pc_dataset_type {name}, set {other} in its place, found {number}")
        return number

    @check("past_predictions", "past_steps")  # after past_scans, in the order of the fields
    @classmethod
    def _there_is_something_to_thin(cls, found: Any, info: ValidationInfo) -> Any:
        """Refuses what would have no effect."""
        if found is None:
            return found
        name = info.data.get("pc_dataset_type", "SemanticKITTI")
        if name != "SemanticKITTI":
            raise ValueError(f"is for pc_dataset_type SemanticKITTI, remove it: past sweeps of {name} are not thinned")
        if info.data.get("past_scans") == 0:
            raise ValueError("is set, but past_scans is 0: there are no past points to thin out, set it to null")
        if info.field_name == "past_steps" and info.data.get("past_predictions", "") is None:
            raise ValueError("is set, but past_predictions is null: nothing says the class of a past point, add that")
        return found

    @check("past_steps")
    @classmethod
    def _steps_keep_something(cls, steps: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if steps is not None and not any(steps):
            raise ValueError("must be above 0 for some class, found 0 for all: set past_scans to 0 for no past points")
        return steps

    @property
    def past(self) -> int:
        """The number of earlier sweeps whose points are added to a scan."""
        return self.past_scans or self.past_sweeps

    @property
    def past_key(self) -> str:
        """The key that asks for earlier sweeps of this data set."""
        return "past_sweeps" if self.pc_dataset_type == "nuScenes" else "past_scans"

    @property
    def bounds(self) -> tuple[Triple, Triple]:
        """The corners of the box whose points go through the network, metres; the voxel models take all points."""
        return (-math.inf, -math.inf, -math.inf), (math.inf, math.inf, math.inf)

    @check("ignore_label")
    @classmethod
    def _zero_is_ignored(cls, found: int) -> int:
        if found != 0:
            raise ValueError(
                f"must be 0, found {found}: what is left out of loss and mIoU has the learning id 0, so send its raw "
                "ids to 0 in learning_map of the file that label_mapping names"
            )
        return found

    @check("seg_labelweights")
    @classmethod
    def _classes_have_points(cls, counts: tuple[float, ...] | None) -> tuple[float, ...] | None:
        empty = [number for number, count in enumerate(counts or ()) if number > 0 and count == 0]
        if empty:
            raise ValueError(f"must be above 0 for every class but the ignored class 0, found 0 for class {empty[0]}")
        return counts


MIX_SEMKITTI = "point_image_dataset_mix_semkitti"


class PointImageDataset(DatasetParams):
    """The keys that the data sets with points of a volume and a camera image share."""

    color_jitter: Annotated[tuple[NotNegative, NotNegative, NotNegative], list_of(3)] | None = Field(
        default=None,
        description="Strength of the brightness, contrast and saturation jitter of training images; null: none.",
    )
    flip2d: Share = Field(default=0.5, description="Probability of a horizontal flip of a training image.")
    image_normalizer: Annotated[tuple[Triple, Triple], list_of(2)] | None = Field(
        default=None, description="Mean and standard deviation of the RGB channels, on a 0..1 scale; null: none."
    )
    teacher_cache: Text | None = Field(
        default=None,
        description="Folder in which the features of a frozen teacher (model_params.backbone_2d) are kept, one file "
        "for each training image; what is missing is computed before the first step. null: they are computed at every "
        "step.",
    )
    max_volume_space: Triple = Field(description="Upper corner x, y, z of the voxel volume, metres.")
    min_volume_space: Triple = Field(description="Lower corner x, y, z of the voxel volume, metres.")

    @property
    def bounds(self) -> tuple[Triple, Triple]:
        """The corners of the volume, metres."""
        return self.min_volume_space, self.max_volume_space

    @check("image_normalizer")
    @classmethod
    def _deviations_divide(cls, found: tuple[Any, Any] | None) -> tuple[Any, Any] | None:
        if found is not None and min(found[1]) <= 0:
            raise ValueError(f"must hold standard deviations above 0, found {list(found[1])}")
        return found

    @check("min_volume_space")  # after max_volume_space, in the order of the fields
    @classmethod
    def _volume_is_not_empty(cls, low: Triple, info: ValidationInfo) -> Triple:
        high = info.data.get("max_volume_space", (float("inf"),) * 3)
        if any(a >= b for a, b in zip(low, high, strict=True)):
            raise ValueError(f"must lie below max_volume_space {list(high)} on every axis, found {list(low)}")
        return low


class SemanticKITTIImages(PointImageDataset):
    """SemanticKITTI, with a crop of the left colour camera."""

    fixed: ClassVar[dict[str, str]] = {"pc_dataset_type": "SemanticKITTI", "collate_type": "collate_fn_default"}

    dataset_type: Literal["point_image_dataset_semkitti", "point_image_dataset_mix_semkitti"] = Field(
        description="Points with their camera image; `mix` also pastes the instances of a second training scan."
    )
    bottom_crop: Annotated[tuple[Multiple16, Multiple16], list_of(2)] | None = Field(
        default=None,
        description="Width and height in pixels of the training crop, cut from the bottom of the image; needed by "
        "model_params.backbone_2d resnet34, and by no other.",
    )

    @check("mixing")
    @classmethod
    def _mixing_is_said_once(cls, mixing: MixingParams | None, info: ValidationInfo) -> MixingParams | None:
        if mixing is not None and info.data.get("dataset_type") == MIX_SEMKITTI:
            raise ValueError(
                f"and dataset_type {MIX_SEMKITTI}, which means mixing: {{instance_mix: {{chance: 1}}}}, exclude each "
                "other; take dataset_type point_image_dataset_semkitti, and instance_mix if it is wanted"
            )
        return mixing


class NuScenesImages(PointImageDataset):
    """nuScenes, with one of its six cameras."""

    fixed: ClassVar[dict[str, str]] = {"pc_dataset_type": "nuScenes", "collate_type": "collate_fn_default"}

    dataset_type: Literal["point_image_dataset_nus"] = Field(description="Points with the image of a random camera.")
    resize: Annotated[tuple[Multiple16, Multiple16], list_of(2)] = Field(
        description="Width and height in pixels to which the camera image is resized."
    )


class VoxelDataset(DatasetParams):
    """Points alone, of the whole sweep, for the voxel models."""

    fixed: ClassVar[dict[str, str]] = {"collate_type": "collate_fn_voxel"}

    dataset_type: Literal["voxel_dataset"] = Field(description="Points without images, not cropped to a volume.")
    collate_type: Literal["collate_fn_default", "collate_fn_voxel"] = Field(
        default="collate_fn_voxel", description="How scans are batched; it follows from dataset_type."
    )
