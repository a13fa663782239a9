"""Tensor names and layouts of published checkpoints, and ours."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from utils.errors import UserError

# (released name, ours); `#` is a number kept as it is. First match wins.
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
]
_PATTERNS = [(re.compile(re.escape(theirs).replace(r"\#", r"(\d+)")), ours) for theirs, ours in _RENAMES]
_LOSS_BUFFERS = re.compile(r"criterion|ce_loss")


def our_name(released: str) -> str | None:
    """Our canonical name of a released tensor; None for the buffers of the losses, which follow from the config.

    Raises:
        KeyError: not a released name.
    """
    if _LOSS_BUFFERS.search(released):
        return None
    for pattern, ours in _PATTERNS:
        if match := pattern.match(released):
            return ours.replace("#", "{}").format(*match.groups()) + released[match.end() :]
    raise KeyError(released)


def our_layout(name: str, tensor: Tensor) -> Tensor:
    """Sparse kernels [out, kz, ky, kx, in] (spconv 2.x) -> (kernel volume, in, out); other tensors as they are."""
    if tensor.dim() != 5:
        return tensor
    return tensor.permute(1, 2, 3, 4, 0).reshape(-1, tensor.shape[4], tensor.shape[0])


def is_released(state: Mapping[str, Any]) -> bool:
    """Whether a state dict has the names of a published model."""
    return any(name.startswith("model_3d.") for name in state)


def translate(state: Mapping[str, Tensor], path: str | Path) -> dict[str, Tensor]:
    """A released state dict under our canonical names and layouts.

    Raises:
        UserError: a name is not of a known published model.
    """
    translated = {}
    for name, tensor in state.items():
        try:
            ours = our_name(name)
        except KeyError:
            raise UserError(
                f"{path}: tensor {name!r} is not of a published 2DPASS model; is it a checkpoint of another model?"
            ) from None
        if ours is not None:
            translated[ours] = our_layout(name, tensor)
    return translated
