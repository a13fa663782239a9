"""The `model_params` of a configuration, one section class per family of networks."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AliasChoices, Field, ValidationInfo
from pydantic import field_validator as check
from pydantic import model_validator as check_all

from utils.config.fields import Channels, Classes, Section, list_of

MAX_EDGE = 32000  # voxels along an axis: coordinates are packed into 16 bits, sign and neighbours included
TRAINED_TEACHER = "resnet34"  # the backbone of the image branch that is trained along; the others are frozen
IMAGE_SCALES = (2, 4, 8, 16)  # the strides of ResNet-34's layer1..layer4, where the image branch has a map

MAX_BLOCKS = 64  # of a stage; the deepest published U-Net of this kind has 23

Edge = Annotated[int, Field(gt=0, le=MAX_EDGE)]
Blocks = Annotated[int, Field(gt=0, le=MAX_BLOCKS)]
InputDims = Literal[4, 5]
Backbone2D = Literal[
    "resnet34", "dinov2-small", "dinov2-base", "dinov2-large", "dinov3-vits16", "dinov3-vitb16", "dinov3-vitl16"
]
Backend = Literal["auto", "torch", "native", "triton", "spconv", "spconv-triton"]
_INPUT_DIMS = "Numbers per point: 4, x, y, z and intensity; or 5 with the age, for past_scans and past_sweeps."
_NUM_CLASSES = "Classes K, the ignored class 0 among them."
_SPARSE_BACKEND = (
    "Backend of the sparse convolutions; auto: triton (kernels of this project) on a GPU where they work, native (C++, "
    "compiled on first use) on a CPU where it works, else torch."
)


class ModelParams(Section):
    """2DPASS: the network on voxels of several scales, and the image branch that teaches it."""

    model_architecture: Literal["arch_2dpass"] = Field(description="The network to build.")
    input_dims: InputDims = Field(default=4, description=_INPUT_DIMS)
    spatial_shape: Annotated[tuple[Edge, Edge, Edge], list_of(3)] = Field(
        description="Voxels of the scale-1 grid along x, y and z, at most 32000 each."
    )
    scale_list: Annotated[tuple[Channels, ...], list_of(), Field(min_length=1)] = Field(
        description="Voxel scale of each encoder block, non-decreasing; each is 2, 4, 8 or 16."
    )
    hiden_size: Annotated[int, Field(gt=0, le=4096, multiple_of=2)] = Field(
        description="Channels C of every encoder block."
    )
    num_classes: Classes = Field(description=_NUM_CLASSES)
    backbone_2d: Backbone2D = Field(
        default=TRAINED_TEACHER,
        description="Backbone of the image branch: resnet34, trained along, as published; or a vision foundation model "
        "that stays as it is (DINOv2, DINOv3; small, base, large), with trained heads: it needs transformers and the "
        "model's weights from the Hugging Face hub, and sees the whole image.",
    )
    pretrained2d: bool = Field(
        default=False,
        description="Start the image backbone from ImageNet weights; not where --checkpoint gives the weights. For "
        "resnet34.",
    )
    sparse_backend: Backend = Field(default="auto", description=_SPARSE_BACKEND)

    @property
    def frozen_teacher(self) -> bool:
        """True where the backbone of the image branch stays as it is, and sees the whole image undisturbed."""
        return self.backbone_2d != TRAINED_TEACHER

    @check("pretrained2d")
    @classmethod
    def _frozen_backbones_are_trained_already(cls, found: bool, info: ValidationInfo) -> bool:
        backbone = info.data.get("backbone_2d", TRAINED_TEACHER)
        if found and backbone != TRAINED_TEACHER:
            raise ValueError(
                f"must be false for backbone_2d {backbone}, which comes with weights of its own: ImageNet's are for "
                f"{TRAINED_TEACHER}"
            )
        return found

    @check("scale_list")
    @classmethod
    def _scales_have_image_maps(cls, scales: tuple[int, ...]) -> tuple[int, ...]:
        if any(scale not in IMAGE_SCALES for scale in scales):
            raise ValueError(f"must hold only {', '.join(map(str, IMAGE_SCALES))}, found {list(scales)}")
        if list(scales) != sorted(scales):
            raise ValueError(f"must not decrease, found {list(scales)}")
        return scales


class VoxelModelParams(Section):
    """MinkowskiNet and SPVCNN: a U-Net on voxels of one size; SPVCNN adds a branch on points."""

    model_architecture: Literal["minkowskinet", "spvcnn"] = Field(description="The network to build.")
    input_dims: InputDims = Field(default=4, description=_INPUT_DIMS)
    voxel_size: Annotated[float, Field(ge=0.01, le=10)] = Field(description="Edge of a voxel, metres.")
    cr: Annotated[float, Field(gt=0, le=64)] = Field(
        description="Channel ratio: a layer of layer_num c has int(cr * c) channels."
    )
    layer_num: Annotated[tuple[Channels, ...], list_of(9)] = Field(
        description="Nine widths, to be multiplied by cr: of the stem, of the four stages down, of the four stages up."
    )
    layer_blocks: Annotated[tuple[Blocks, ...], list_of(8)] = Field(
        default=(2, 2, 2, 2, 2, 2, 2, 2),
        description="Eight numbers of residual blocks: of the four stages down, of the four stages up; MinkUNet34 has "
        "2, 3, 4, 6, 2, 2, 2, 2.",
    )
    num_classes: Classes = Field(
        validation_alias=AliasChoices("num_classes", "num_class"),
        description=_NUM_CLASSES + " The published voxel configurations call it num_class, which is read as well.",
    )
    sparse_backend: Backend = Field(default="auto", description=_SPARSE_BACKEND)

    @check_all(mode="before")
    @classmethod
    def _one_number_of_classes(cls, raw: Any) -> Any:
        """Merges the two spellings of the number of classes; raises a ValueError if they differ."""
        if not isinstance(raw, dict) or not {"num_class", "num_classes"} <= set(raw):
            return raw
        ours, published = raw["num_classes"], raw["num_class"]
        if ours != published:
            raise ValueError(f"has num_classes {ours} and num_class {published} for one thing, remove one of them")
        return {key: value for key, value in raw.items() if key != "num_class"}

    @check("layer_num")
    @classmethod
    def _layers_have_channels(cls, widths: tuple[int, ...], info: ValidationInfo) -> tuple[int, ...]:
        ratio = info.data.get("cr", 1.0)
        if int(ratio * min(widths)) < 1:
            raise ValueError(f"must leave at least one channel per layer at cr {ratio:g}, found {list(widths)}")
        return widths
