"""Every key a configuration file may hold: its type, its default and what it does.

The key names are those of the published 2DPASS configurations, so that the YAML beside a published checkpoint loads
as it is; spellings such as `hiden_size` are therefore part of the format. Values are strict: `8` is an integer, `"8"`
and `8.0` are not, `true` is no number; an integer is accepted where a number is asked for. Records are frozen.

Another data set or architecture is another section class here, joined by `|` at the field of `Config`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo
from pydantic import field_validator as check
from pydantic import model_validator as check_all

MAX_EDGE = 32000  # voxels along an axis: coordinates are packed into 16 bits, sign and neighbours included
IMAGE_SCALES = (2, 4, 8, 16)  # the strides of ResNet-34's layer1..layer4, where the image branch has a map


def _only(value: int) -> AfterValidator:
    """The format knows the key, this program one value of it: refuse the others rather than ignore them."""

    def verify(found: int) -> int:
        if found != value:
            raise ValueError(f"must be {value}, found {found}: no other value is supported")
        return found

    return AfterValidator(verify)


def _list_of(length: int | None = None) -> BeforeValidator:
    """A YAML list as a tuple (so that records stay frozen), of `length` entries when that is given."""

    def convert(found: Any) -> Any:
        if not isinstance(found, list | tuple):
            return found  # pydantic says what is wrong with it
        if length is not None and len(found) != length:
            raise ValueError(f"must have {length} entries, found {len(found)}")
        return tuple(found)

    return BeforeValidator(convert)


PositiveInt = Annotated[int, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Edge = Annotated[int, Field(gt=0, le=MAX_EDGE)]
Multiple16 = Annotated[int, Field(gt=0, multiple_of=16)]
Text = Annotated[str, Field(min_length=1)]
Triple = Annotated[tuple[float, float, float], _list_of(3)]


class Section(BaseModel):
    """One mapping of the YAML: frozen, strict, and closed to keys it does not know."""

    model_config = ConfigDict(
        strict=True, frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True, protected_namespaces=()
    )


class ModelParams(Section):
    """The network."""

    model_architecture: Literal["arch_2dpass"] = Field(description="The network to build.")
    input_dims: Annotated[int, _only(4)] = Field(default=4, description="Numbers per point: x, y, z, intensity.")
    spatial_shape: Annotated[tuple[Edge, Edge, Edge], _list_of(3)] = Field(
        description="Voxels of the scale-1 grid along x, y and z, at most 32000 each."
    )
    scale_list: Annotated[tuple[int, ...], _list_of(), Field(min_length=1)] = Field(
        description="Voxel scale of each encoder block, non-decreasing; each is 2, 4, 8 or 16."
    )
    hiden_size: Annotated[int, Field(gt=0, multiple_of=2)] = Field(description="Channels C of every encoder block.")
    num_classes: Annotated[int, Field(gt=1)] = Field(description="Classes K, the ignored class 0 among them.")
    backbone_2d: Literal["resnet34"] = Field(default="resnet34", description="Backbone of the image branch.")
    pretrained2d: bool = Field(default=False, description="Start the image backbone from ImageNet weights.")
    sparse_backend: Literal["auto", "torch", "spconv"] = Field(
        default="auto", description="Sparse convolutions: plain PyTorch, spconv, or the fastest at hand."
    )

    @check("scale_list")
    @classmethod
    def _scales_have_image_maps(cls, scales: tuple[int, ...]) -> tuple[int, ...]:
        if any(scale not in IMAGE_SCALES for scale in scales):
            raise ValueError(f"must hold only {', '.join(map(str, IMAGE_SCALES))}, found {list(scales)}")
        if list(scales) != sorted(scales):
            raise ValueError(f"must not decrease, found {list(scales)}")
        return scales


class LoaderParams(Section):
    """One data loader: where its scans lie, how they are batched and augmented."""

    data_path: Text = Field(description="Folder of the sequences (00, 01, ...).")
    batch_size: PositiveInt = Field(description="Scans per batch and device.")
    shuffle: bool = Field(description="Visit the scans in random order.")
    num_workers: Annotated[int, Field(ge=0)] = Field(default=0, description="Loader processes; 0: none.")
    rotate_aug: bool = Field(default=False, description="Rotate about z by U(0, 360) degrees.")
    flip_aug: bool = Field(default=False, description="Flip x, y, both or none.")
    scale_aug: bool = Field(default=False, description="Scale x and y by U(0.95, 1.05).")
    transform_aug: bool = Field(default=False, description="Translate by N(0, 0.1) metres per axis.")
    dropout_aug: bool = Field(default=False, description="Drop a random share U(0, 0.2) of the points.")


class DatasetParams(Section):
    """The data: its volume, its labels, its images and its loaders."""

    training_size: PositiveInt | None = Field(
        default=None, description="Training scans, for the length of the learning-rate schedule; null: counted."
    )
    dataset_type: Literal["point_image_dataset_semkitti", "point_image_dataset_mix_semkitti"] = Field(
        description="Points with their camera image; `mix` also pastes the instances of a second training scan."
    )
    pc_dataset_type: Literal["SemanticKITTI"] = Field(description="Layout of the files on disk.")
    collate_type: Literal["collate_fn_default"] = Field(default="collate_fn_default", description="How scans batch.")
    ignore_label: Annotated[int, _only(0)] = Field(default=0, description="The learning id left out of loss and mIoU.")
    label_mapping: Text = Field(description="YAML of label ids and names, from here or from the repository root.")
    bottom_crop: Annotated[tuple[Multiple16, Multiple16], _list_of(2)] = Field(
        description="Width and height in pixels of the training crop, cut from the bottom of the image."
    )
    color_jitter: Annotated[tuple[NotNegative, NotNegative, NotNegative], _list_of(3)] | None = Field(
        default=None, description="Strength of the brightness, contrast and saturation jitter; null: none."
    )
    flip2d: Share = Field(default=0.5, description="Chance of a horizontal image flip in training.")
    image_normalizer: Annotated[tuple[Triple, Triple], _list_of(2)] | None = Field(
        default=None, description="Mean and standard deviation of the RGB channels, on a 0..1 scale; null: none."
    )
    max_volume_space: Triple = Field(description="Upper corner x, y, z of the voxel volume, metres.")
    min_volume_space: Triple = Field(description="Lower corner x, y, z of the voxel volume, metres.")
    seg_labelweights: Annotated[tuple[NotNegative, ...], _list_of()] | None = Field(
        default=None, description="Points of each class, for the class weights of the cross-entropy; null: no weights."
    )
    train_data_loader: LoaderParams = Field(description="The loader of the training scans.")
    val_data_loader: LoaderParams = Field(description="The loader of validation and test.")

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

    @check("seg_labelweights")
    @classmethod
    def _classes_have_points(cls, counts: tuple[float, ...] | None) -> tuple[float, ...] | None:
        empty = [number for number, count in enumerate(counts or ()) if number > 0 and count == 0]
        if empty:
            raise ValueError(f"must be above 0 for every class but the ignored class 0, found 0 for class {empty[0]}")
        return counts


class TrainParams(Section):
    """Optimisation and the weights of the losses."""

    max_num_epochs: PositiveInt = Field(description="Epochs.")
    learning_rate: Annotated[float, Field(gt=0)] = Field(description="Peak learning rate.")
    optimizer: Literal["SGD", "Adam"] = Field(description="The optimiser.")
    lr_scheduler: Literal["StepLR", "ReduceLROnPlateau", "CosineAnnealingLR", "CosineAnnealingWarmRestarts"] = Field(
        description="Schedule of the learning rate; CosineAnnealingWarmRestarts is a per-step cosine after a warm-up."
    )
    momentum: Annotated[float, Field(ge=0, lt=1)] = Field(default=0.9, description="Momentum of SGD.")
    nesterov: bool = Field(default=True, description="Nesterov momentum, for SGD.")
    weight_decay: NotNegative = Field(default=1e-4, description="L2 penalty on the weights.")
    lambda_seg2d: NotNegative = Field(default=1.0, description="Weight of the segmentation loss of the fused branch.")
    lambda_xm: NotNegative = Field(default=0.05, description="Weight of the distillation (KL) loss.")
    lambda_lovasz: NotNegative = Field(default=0.1, description="Weight of Lovasz-Softmax in the loss of the 3D head.")
    trainval: bool = Field(default=False, description="Train on the validation sequences too.")
    decay_step: PositiveInt | None = Field(
        default=None, description="Epochs per decay (StepLR), or of patience (ReduceLROnPlateau)."
    )
    decay_rate: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        default=None, description="Factor of each decay (StepLR, ReduceLROnPlateau)."
    )
    swa_epoch_start: Share = Field(default=0.75, description="Share of the epochs after which --SWA averages weights.")
    gradient_clip_norm: Annotated[float, Field(gt=0)] = Field(default=1.0, description="Largest gradient norm.")
    sync_batchnorm: bool = Field(default=False, description="Share batch statistics between devices.")

    @check("nesterov")
    @classmethod
    def _nesterov_has_momentum(cls, nesterov: bool, info: ValidationInfo) -> bool:
        if nesterov and info.data.get("optimizer") == "SGD" and info.data.get("momentum") == 0:
            raise ValueError("must be false where momentum is 0")
        return nesterov

    @check("decay_step", "decay_rate")
    @classmethod
    def _decay_is_set(cls, value: float | None, info: ValidationInfo) -> float | None:
        scheduler = info.data.get("lr_scheduler")
        if value is None and scheduler in ("StepLR", "ReduceLROnPlateau"):
            raise ValueError(f"must be set for lr_scheduler {scheduler}")
        return value


class Config(Section):
    """A whole configuration file."""

    format_version: Annotated[int, _only(1)] = Field(default=1, description="Version of this vocabulary.")
    model_params: ModelParams = Field(description="The network.")
    dataset_params: DatasetParams = Field(description="The data.")
    train_params: TrainParams = Field(description="Optimisation.")

    @check_all(mode="after")
    def _one_weight_per_class(self) -> Config:
        weights, classes = self.dataset_params.seg_labelweights, self.model_params.num_classes
        if weights is not None and len(weights) != classes:
            raise ValueError(
                f"dataset_params.seg_labelweights must have {classes} entries (model_params.num_classes), "
                f"found {len(weights)}"
            )
        return self


def known_keys(section: type[BaseModel] = Config, prefix: str = "") -> list[str]:
    """Every key of the vocabulary, dotted ("train_params.momentum"), sections before their keys."""
    keys: list[str] = []
    for name, field in section.model_fields.items():
        keys.append(prefix + name)
        for kind in get_args(field.annotation) or (field.annotation,):  # one section class, or several joined by |
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                keys += known_keys(kind, f"{prefix}{name}.")
    return list(dict.fromkeys(keys))
