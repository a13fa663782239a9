"""The backend "auto" uses Triton on a CUDA device where its kernels compute correctly, and plain PyTorch elsewhere.

The choice is made once per process and device, by comparing the kernels there with plain PyTorch. `warm_up`, which is
called before training and evaluation, compares the kernels of the network's layers; without it, some usual layers are
compared when the first kernel map is made. spconv is never chosen: its wheels depend on the CUDA version.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable

import torch
from torch import Tensor

from network.sparse import torch_backend
from network.sparse.layers import KernelMap, Layer, SparseBackend

# The layers to compare if a network is not warmed up: the narrowest and the most usual ones.
_SOME_LAYERS: tuple[Layer, ...] = ((27, 4, 32), (27, 64, 64), (8, 64, 64))
_chosen: dict[torch.device, SparseBackend] = {}


def submanifold_map(keys: Tensor, kernel_size: int) -> KernelMap:
    """Builds the map of a submanifold convolution with the backend of the keys' device; see `SparseBackend`."""
    return choose(keys.device).submanifold_map(keys, kernel_size)


def halving_map(keys: Tensor, parent: Tensor, num_coarse: int) -> KernelMap:
    """Builds the map of a convolution of size 2, stride 2 with the backend of the keys' device; see `SparseBackend`."""
    return choose(keys.device).halving_map(keys, parent, num_coarse)


def warm_up(device: torch.device, dtype: torch.dtype, layers: Iterable[Layer], training: bool) -> None:
    """Compiles, tunes and checks the kernels of the layers on the device; wrong kernels are not used from then on.

    Args:
        device: where the layers will run.
        dtype: type in which they will compute.
        layers: the layers of the network.
        training: whether gradients will be needed.
    """
    device = _numbered(device)
    if _chosen.get(device) is not torch_backend.BACKEND:
        _chosen[device] = _find(device, (dtype,), tuple(layers), training)


def choose(device: torch.device) -> SparseBackend:
    """Returns the backend for a device, after a first check of the kernels there."""
    device = _numbered(device)
    if device not in _chosen:
        _chosen[device] = _find(device, (torch.float32, torch.bfloat16), _SOME_LAYERS, True)
    return _chosen[device]


def _numbered(device: torch.device) -> torch.device:
    """Returns the device with its number, as tensors name it."""
    return torch.empty(0, device=device).device if device.index is None else device


def _find(
    device: torch.device, dtypes: tuple[torch.dtype, ...], layers: tuple[Layer, ...], training: bool
) -> SparseBackend:
    """Returns Triton if its kernels are right for these layers and types, else plain PyTorch, and warns."""
    if device.type != "cuda":
        return torch_backend.BACKEND
    try:
        from network.sparse import triton_backend
    except ImportError:
        return _plain(device, "triton is not installed")
    if not triton_backend.is_available(device):
        return _plain(device, "the kernels need a GPU of compute capability 8.0 or later")
    for dtype in dtypes:
        if (reason := triton_backend.why_not(device, dtype, layers, training)) is not None:
            return _plain(device, reason)
    return triton_backend.BACKEND


def _plain(device: torch.device, why: str) -> SparseBackend:
    warnings.warn(f"sparse convolutions on {device} run without Triton, which is slower: {why}", RuntimeWarning)
    return torch_backend.BACKEND


BACKEND = SparseBackend("auto", submanifold_map, halving_map, warm_up)
