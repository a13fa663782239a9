"""Translation of tensor names and layouts from published checkpoints (2DPASS, MinkowskiNet, SPVCNN) to ours."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from utils.errors import UserError

# (released name, our name); `#` stands for a number that stays the same. The first match counts. "block#" is what
# `_from_zero` makes of a published number.
_RENAMES = [
    ("model_3d.voxel_3d_generator.PPmodel.0.", "network_3d.embed_points."),
    ("model_3d.voxel_3d_generator.PPmodel.2.", "network_3d.embed_voxels."),
    ("model_3d.spv_enc.#.v_enc.#.layers_in.0.", "network_3d.encoder.#.voxel_branch.#.shortcut."),
    ("model_3d.spv_enc.#.v_enc.#.layers_in.1.", "network_3d.encoder.#.voxel_branch.#.shortcut.norm."),
    ("model_3d.spv_enc.#.v_enc.#.layers.0.", "network_3d.encoder.#.voxel_branch.#.conv1."),
    ("model_3d.spv_enc.#.v_enc.#.layers.1.", "network_3d.encoder.#.voxel_branch.#.conv1.norm."),
    ("model_3d.spv_enc.#.v_enc.#.layers.3.", "network_3d.encoder.#.voxel_branch.#.conv2."),
    ("model_3d.spv_enc.#.v_enc.#.layers.4.", "network_3d.encoder.#.voxel_branch.#.conv2.norm."),
    ("model_3d.spv_enc.#.p_enc.PPmodel.#.", "network_3d.encoder.#.pooled_mlp.#."),
    ("model_3d.spv_enc.#.p_enc.layer_in.0.", "network_3d.encoder.#.identity."),
    ("model_3d.spv_enc.#.p_enc.layer_out.0.", "network_3d.encoder.#.merge."),
    ("model_3d.spv_enc.#.p_enc.layer_out.2.", "network_3d.encoder.#.output."),
    ("model_3d.classifier.0.", "network_3d.head."),
    ("model_3d.classifier.2.", "network_3d.classifier."),
    ("model_2d.deconv_layer1.#.", "image_branch.decoders.2.#."),
    ("model_2d.deconv_layer2.#.", "image_branch.decoders.4.#."),
    ("model_2d.deconv_layer3.#.", "image_branch.decoders.8.#."),
    ("model_2d.deconv_layer4.#.", "image_branch.decoders.16.#."),
    ("model_2d.", "image_branch."),
    # leaners and fcs2 have equal shapes: a swap would go unnoticed until the scores are read
    ("fusion.leaners.#.0.", "distillation.blocks.#.learner."),
    ("fusion.fcs1.#.0.", "distillation.blocks.#.fuse."),
    ("fusion.fcs2.#.0.", "distillation.blocks.#.gate."),
    ("fusion.multihead_3d_classifier.#.", "distillation.blocks.#.predict_3d."),
    ("fusion.multihead_fuse_classifier.#.", "distillation.blocks.#.predict_fused."),
    ("fusion.classifier.", "distillation.classifier."),
    # the voxel models; a residual block is net.0 conv, .1 norm, .3 conv, .4 norm, beside downsample.0 conv, .1 norm
    ("stem.0.", "stem.conv1."),
    ("stem.1.", "stem.conv1.norm."),
    ("stem.3.", "stem.conv2."),
    ("stem.4.", "stem.conv2.norm."),
    ("stage#.0.net.0.", "stage#.reduce."),
    ("stage#.0.net.1.", "stage#.reduce.norm."),
    ("stage#.block#.net.0.", "stage#.blocks.#.conv1."),
    ("stage#.block#.net.1.", "stage#.blocks.#.conv1.norm."),
    ("stage#.block#.net.3.", "stage#.blocks.#.conv2."),
    ("stage#.block#.net.4.", "stage#.blocks.#.conv2.norm."),
    ("stage#.block#.downsample.0.", "stage#.blocks.#.shortcut."),
    ("stage#.block#.downsample.1.", "stage#.blocks.#.shortcut.norm."),
    ("up#.0.net.0.", "up#.expand."),
    ("up#.0.net.1.", "up#.expand.norm."),
    ("up#.1.#.net.0.", "up#.blocks.#.conv1."),
    ("up#.1.#.net.1.", "up#.blocks.#.conv1.norm."),
    ("up#.1.#.net.3.", "up#.blocks.#.conv2."),
    ("up#.1.#.net.4.", "up#.blocks.#.conv2.norm."),
    ("up#.1.#.downsample.0.", "up#.blocks.#.shortcut."),
    ("up#.1.#.downsample.1.", "up#.blocks.#.shortcut.norm."),
    ("classifier.0.", "classifier."),
    ("point_transforms.0.", "point_mlp1."),
    ("point_transforms.1.", "point_mlp2."),
    ("point_transforms.2.", "point_mlp3."),
]
_PATTERNS = [(re.compile(re.escape(theirs).replace(r"\#", r"(\d+)")), ours) for theirs, ours in _RENAMES]
_BLOCK = re.compile(r"^(stage[0-9]\.)([1-9][0-9]{0,2})\.")
_OLDER_NORM = "bn."  # in older versions of torchsparse BatchNorm was a module around torch's
_LOSS_BUFFERS = re.compile(r"criterion|ce_loss")


def our_name(released: str) -> str | None:
    """Returns our name of a released tensor; None for the buffers of the losses, which follow from the config.

    Raises:
        KeyError: no published model has a tensor of this name.
    """
    if _LOSS_BUFFERS.search(released):
        return None
    counted = _from_zero(released)
    for pattern, ours in _PATTERNS:
        if match := pattern.match(counted):
            rest = counted[match.end() :].removeprefix(_OLDER_NORM if ours.endswith(".norm.") else "")
            rest = "weight" if rest == "kernel" else rest
            return ours.replace("#", "{}").format(*match.groups()) + rest
    raise KeyError(released)


def _from_zero(released: str) -> str:
    """Counts the blocks of a published stage down from 0: the first part there is its strided convolution."""
    return _BLOCK.sub(lambda match: f"{match[1]}block{int(match[2]) - 1}.", released, count=1)


def our_layout(released: str, tensor: Tensor) -> Tensor:
    """Returns a sparse kernel as (kernel volume, in, out) with the offsets z slowest; any other tensor unchanged.

    Released kernels are [out, kz, ky, kx, in] (2DPASS, spconv 2.x), or "kernel" [offsets, in, out] with the offsets z
    slowest at size 3 but x slowest at size 2, and [in, out] at size 1 (the voxel models, torchsparse 1.4).
    """
    if tensor.dim() == 5:
        return tensor.permute(1, 2, 3, 4, 0).flatten(0, 2)
    if not released.endswith(".kernel"):
        return tensor
    if tensor.dim() == 2:
        return tensor[None]
    if tensor.dim() == 3 and len(tensor) == 8:
        return tensor.unflatten(0, (2, 2, 2)).transpose(0, 2).flatten(0, 2)
    return tensor


def is_released(state: Mapping[str, Any]) -> bool:
    """Returns whether a state dict has the names of a published model."""
    return any(name.startswith("model_3d.") or name == "stem.0.kernel" for name in state)


def translate(state: Mapping[str, Tensor], path: str | Path) -> dict[str, Tensor]:
    """Translates a released state dict to our names and layouts.

    Raises:
        UserError: a name is not of a known published model, or two names are of the same tensor.
    """
    translated = {}
    for name, tensor in state.items():
        try:
            ours = our_name(name)
        except KeyError:
            raise UserError(
                f"{path}: tensor {name[:80]!r} is not of a published 2DPASS, MinkowskiNet or SPVCNN; is it a "
                "checkpoint of another model?"
            ) from None
        if ours in translated:
            raise UserError(f"{path}: holds the tensor {name[:80]!r} twice, under an older name as well; remove one")
        if ours is not None:
            translated[ours] = our_layout(name, tensor)
    return translated
