"""A copy of a network for evaluation alone, whose weights are cast once."""

from __future__ import annotations

import copy

import torch
from torch import nn

from network.models.segmentation_network import SegmentationNetwork
from network.ops.mlp import MLP


def freeze(network: SegmentationNetwork, dtype: torch.dtype | None) -> SegmentationNetwork:
    """Returns a copy of the part of a network that evaluation uses.

    Args:
        network: the network, in evaluation mode; it is not changed, and later changes of it do not reach the copy.
        dtype: type of autocast, in which the weights of linear layers are kept; None: as they are.
    """
    with torch.inference_mode(False), torch.no_grad():  # inference tensors have no version, see `SparseConvNorm`
        frozen = copy.deepcopy(network.evaluated()).eval().requires_grad_(False)
        chains = [module for module in frozen.modules() if isinstance(module, MLP)]  # fold and cast themselves
        theirs = {layer for chain in chains for layer in chain}
        for module in frozen.modules():
            if dtype is not None and isinstance(module, nn.Linear) and module not in theirs:
                module.to(dtype)
    return frozen
