"""The backend "auto": Triton on a CUDA device on which its kernels are right, and plain PyTorch everywhere else.

Which one it is, is decided when the first map is made on a device, once per process. spconv is never chosen by itself:
its wheels depend on the CUDA version.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from functools import lru_cache

import torch
from torch import Tensor

from network.sparse import torch_backend
from network.sparse.layers import KernelMap, SparseBackend


def submanifold_map(keys: Tensor, kernel_size: int) -> KernelMap:
    """That of the backend for the keys' device."""
    return choose(keys.device).submanifold_map(keys, kernel_size)


def halving_map(keys: Tensor, parent: Tensor, num_coarse: int) -> KernelMap:
    """That of the backend for the keys' device."""
    return choose(keys.device).halving_map(keys, parent, num_coarse)


def warm_up(device: torch.device, dtype: torch.dtype, layers: Iterable[tuple[int, int, int]], training: bool) -> None:
    """That of the backend for the device."""
    choose(device).warm_up(device, dtype, layers, training)


@lru_cache
def choose(device: torch.device) -> SparseBackend:
    """The backend for a device; the first call on a CUDA device tries Triton's kernels there, against plain PyTorch."""
    if device.type != "cuda":
        return torch_backend.BACKEND
    try:
        from network.sparse import triton_backend
    except ImportError:
        return _plain(device, "triton is not installed")
    if not triton_backend.is_available(device):
        return _plain(device, "the kernels need a GPU of compute capability 8.0 or later")
    if not triton_backend.self_check(device):  # which warns of what is wrong
        return torch_backend.BACKEND
    return triton_backend.BACKEND


def _plain(device: torch.device, why: str) -> SparseBackend:
    warnings.warn(f"sparse convolutions on {device} run without Triton, which is slower: {why}", RuntimeWarning)
    return torch_backend.BACKEND


BACKEND = SparseBackend("auto", submanifold_map, halving_map, warm_up)
