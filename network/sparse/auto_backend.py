"""The backend "auto": Triton on a CUDA device on which its kernels are right, and plain PyTorch everywhere else.

Which one it is, is decided once per process and device, by trying the kernels there against plain PyTorch: those of the
network's layers when it is warmed up, as it is before training and evaluation; else some, when the first map is made.
spconv is never chosen by itself: its wheels depend on the CUDA version.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable

import torch
from torch import Tensor

from network.sparse import torch_backend
from network.sparse.layers import KernelMap, Layer, SparseBackend

# Of networks that are not warmed up: the narrowest and the most usual.
_SOME_LAYERS: tuple[Layer, ...] = ((27, 4, 32), (27, 64, 64), (8, 64, 64))
_chosen: dict[torch.device, SparseBackend] = {}


def submanifold_map(keys: Tensor, kernel_size: int) -> KernelMap:
    """That of the backend for the keys' device."""
    return choose(keys.device).submanifold_map(keys, kernel_size)


def halving_map(keys: Tensor, parent: Tensor, num_coarse: int) -> KernelMap:
    """That of the backend for the keys' device."""
    return choose(keys.device).halving_map(keys, parent, num_coarse)


def warm_up(device: torch.device, dtype: torch.dtype, layers: Iterable[Layer], training: bool) -> None:
    """Compiles, tunes and checks what these layers need on the device; what is wrong is not used from then on."""
    device = _numbered(device)
    if _chosen.get(device) is not torch_backend.BACKEND:
        _chosen[device] = _find(device, (dtype,), tuple(layers), training)


def choose(device: torch.device) -> SparseBackend:
    """The backend for a device."""
    device = _numbered(device)
    if device not in _chosen:
        _chosen[device] = _find(device, (torch.float32, torch.bfloat16), _SOME_LAYERS, True)
    return _chosen[device]


def _numbered(device: torch.device) -> torch.device:
    """The device as tensors name it: with its number."""
    return torch.empty(0, device=device).device if device.index is None else device


def _find(
    device: torch.device, dtypes: tuple[torch.dtype, ...], layers: tuple[Layer, ...], training: bool
) -> SparseBackend:
    """Triton if it runs on the device and is right in these layers and types; else plain PyTorch, with a warning."""
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
