"""A copy of a network for evaluation alone, with less to compute: weights are cast once, norms are folded."""

from __future__ import annotations

import copy

import torch
from torch import nn

from network.models.segmentation_network import SegmentationNetwork
from network.sparse.layers import NormOfFew


def freeze(network: SegmentationNetwork, dtype: torch.dtype | None) -> SegmentationNetwork:
    """Returns a copy of the part of a network that evaluation uses.

    Args:
        network: the network, in evaluation mode; it is not changed, and later changes of it do not reach the copy.
        dtype: type of autocast, in which the weights of linear layers are kept; None: as they are.
    """
    with torch.inference_mode(False), torch.no_grad():  # inference tensors have no version, see `SparseConvNorm`
        frozen = copy.deepcopy(network.evaluated()).eval().requires_grad_(False)
        for module in [*frozen.modules()]:
            if type(module) is nn.Sequential:
                _fold_norms(module)
        for module in frozen.modules():
            if dtype is not None and isinstance(module, nn.Linear):
                module.to(dtype)
    return frozen


def _fold_norms(layers: nn.Sequential) -> None:
    """Folds every norm that stands before a linear layer into that layer, in fp64."""
    for number in range(len(layers) - 1):
        norm, linear = layers[number], layers[number + 1]
        if not (isinstance(norm, NormOfFew) and isinstance(linear, nn.Linear)):
            continue
        assert norm.running_mean is not None and norm.running_var is not None
        scale = norm.weight.double() * torch.rsqrt(norm.running_var.double() + norm.eps)
        shift = norm.bias.double() - norm.running_mean.double() * scale
        weight = linear.weight.double()
        bias = weight @ shift
        if linear.bias is not None:
            bias = bias + linear.bias.double()
        linear.weight = nn.Parameter((weight * scale).to(linear.weight.dtype), requires_grad=False)
        linear.bias = nn.Parameter(bias.to(linear.weight.dtype), requires_grad=False)
        layers[number] = nn.Identity()
