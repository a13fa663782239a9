"""The backend "auto" uses Triton on a CUDA device and C++ on a CPU where they compute correctly, else plain PyTorch.

What is compiled is compared with plain PyTorch: once per process and CUDA device, and once per machine for a CPU.
`warm_up`, which is called before training and evaluation, compares the network's layers; without it, some usual layers
are compared when the first kernel map is made. spconv is never chosen: its wheels depend on the CUDA version.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable

import torch
from torch import Tensor

from network.native.library import library
from network.sparse import native_backend, torch_backend
from network.sparse.layers import KernelMap, Layer, SparseBackend

# The layers to compare if a network is not warmed up: the narrowest and the most usual ones.
_SOME_LAYERS: tuple[Layer, ...] = ((27, 4, 32), (27, 64, 64), (8, 64, 64))
_SOME_TYPES = (torch.float32, torch.bfloat16)
_checked_cpu = False
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
    global _checked_cpu
    if device.type == "cpu":
        native_backend.warm_up(device, dtype, layers, training)
        _checked_cpu = True
        return
    device = _numbered(device)
    if _chosen.get(device) is not torch_backend.BACKEND:
        _chosen[device] = _find(device, (dtype,), tuple(layers), training)


def choose(device: torch.device) -> SparseBackend:
    """Returns the backend for a device, after a first check of the kernels there."""
    if device.type == "cpu":
        return _on_cpu()
    device = _numbered(device)
    if device not in _chosen:
        _chosen[device] = _find(device, _SOME_TYPES, _SOME_LAYERS, True)
    return _chosen[device]


def _on_cpu() -> SparseBackend:
    """Returns the native backend if there is a library; it is not remembered, since that can be switched off."""
    global _checked_cpu
    if not _checked_cpu and library() is not None:
        for dtype in _SOME_TYPES:
            native_backend.warm_up(torch.device("cpu"), dtype, _SOME_LAYERS, True)
        _checked_cpu = True
    return torch_backend.BACKEND if library() is None else native_backend.BACKEND


def _numbered(device: torch.device) -> torch.device:
    """Returns the device with its number, as tensors name it."""
    return torch.empty(0, device=device).device if device.index is None else device


def _find(
    device: torch.device, dtypes: tuple[torch.dtype, ...], layers: tuple[Layer, ...], training: bool
) -> SparseBackend:
    """Returns Triton if its kernels are right for these layers and types, else plain PyTorch, and warns."""
    if device.type != "cuda":
        return torch_backend.BACKEND  # a device that nobody has tried
    try:
        from network.sparse import triton_backend
    except ImportError:
        return _plain(device, "triton is not installed")
    if (reason := triton_backend.unsupported(device)) is not None:
        return _plain(device, f"it {reason}")
    for dtype in dtypes:
        if (reason := triton_backend.why_not(device, dtype, layers, training)) is not None:
            return _plain(device, reason)
    return triton_backend.BACKEND


def _plain(device: torch.device, why: str) -> SparseBackend:
    warnings.warn(f"sparse convolutions on {device} run without Triton, which is slower: {why}", RuntimeWarning)
    return torch_backend.BACKEND


BACKEND = SparseBackend("auto", submanifold_map, halving_map, warm_up)
