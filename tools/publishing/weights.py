"""The weights of a published file, and what its metadata say: all that a test needs, and nothing else."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from network.assemble import load_for_test
from network.weights.configuration import Tested
from network.weights.description import DESCRIPTION, describe
from network.weights.loading import has_image_branch, own_weights
from network.weights.published_folder import IMAGES
from tools.publishing.neutral import without_paths
from utils.errors import UserError
from utils.labels import LabelMap
from utils.paths import resolve_path

_TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def rounded(weights: Mapping[str, Tensor], dtype: str | None, name: object) -> dict[str, Tensor]:
    """Converts matrices and kernels to another type; vectors, among them the statistics of BatchNorm, stay.

    Args:
        weights: by name.
        dtype: "fp32", "bf16" or "fp16"; None: all stay.
        name: of the checkpoint, for messages.

    Raises:
        UserError: a value is too large for the type.
    """
    if dtype is None:
        return dict(weights)
    kind = _TYPES[dtype]
    chosen = {
        key: tensor.to(kind) if tensor.is_floating_point() and (tensor.ndim > 1 or dtype == "fp32") else tensor
        for key, tensor in weights.items()
    }
    if large := [key for key, tensor in chosen.items() if not bool(torch.isfinite(tensor).all())]:
        raise UserError(f"{name}: tensor {large[0]} has values too large for --dtype {dtype}; take bf16 or fp32")
    return chosen


def is_exact(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> bool:
    """Returns whether a conversion has changed no value."""
    return all(torch.equal(tensor.double(), after[name].double()) for name, tensor in before.items())


def digest_of(weights: Mapping[str, Tensor]) -> str:
    """Computes the SHA-256 of names, shapes and values, which does not depend on the types that hold the values."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(f"{name} {list(weights[name].shape)}\n".encode())
        digest.update(weights[name].double().contiguous().numpy().tobytes())
    return digest.hexdigest()


def read_weights(tested: Tested) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Reads a checkpoint that is to be published.

    Returns:
        The tensors that a test needs, of 2DPASS those of its 3D network, and the metadata of the published file, apart
        from its origin and its card.

    Raises:
        UserError: the checkpoint is damaged, or of another network than its config says.
    """
    network, content = load_for_test(tested.config, tested.path, tested.content)
    label_map = tested.label_map
    if label_map is None:
        label_map = LabelMap.load(resolve_path(tested.config.dataset_params.label_mapping))
    ours = tested.description
    statistics, began = (None, "") if ours is None else (ours.statistics, ours.began)
    return own_weights(network, content, tested.path), {
        "geometry": network.geometry(),
        DESCRIPTION: describe(without_paths(tested.config), label_map, statistics, began),
        IMAGES: has_image_branch(content, tested.path),
    }
