"""Weights in the order in which the C++ reads them, made at each call in training and kept in evaluation."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from network.native.changes import state_of
from network.native.library import Library, library, pointer

TYPES = {torch.float32: 0, torch.bfloat16: 1}
"""The types of numbers that the C++ computes with, and their numbers there."""


@dataclass(frozen=True, eq=False)
class _Kept:
    """A packed weight, and what it was made of and for: state of the weight, its order, the CPU's instructions."""

    state: tuple[Any, ...]
    weight: Tensor
    packed: Tensor


_kept: WeakIdKeyDictionary = WeakIdKeyDictionary()  # weight -> type -> _Kept


def packed(weight: Tensor, dtype: torch.dtype, transposed: bool = False) -> Tensor:
    """Packs a weight to be multiplied with features of type `dtype`.

    Where no gradients are computed, the result is kept until the weight changes. A change through `.data` cannot be
    noticed: call `forget` after it.

    Args:
        weight: (K, C_in, C_out) of any strides, fp32 or bf16, or a (C_in, C_out) matrix.
        dtype: fp32 or bf16.
        transposed: whether the weight is (C_out, C_in) instead, as that of a linear layer.
    """
    if torch.is_grad_enabled() or weight.is_inference():  # an inference tensor has no version
        return _pack(weight, dtype, transposed)
    of_weight: dict[torch.dtype, _Kept] = _kept.get(weight) or {}
    _kept[weight] = of_weight
    order = (weight.shape, weight.stride(), transposed)
    state = (*state_of([weight]), *order, _functions(_loaded())[2]())
    kept = of_weight.get(dtype)
    if kept is None or kept.state != state:
        kept = of_weight[dtype] = _Kept(state, weight.detach(), _pack(weight, dtype, transposed))
    return kept.packed


def forget(weight: Tensor) -> None:
    """Drops what is kept of a weight."""
    _kept.pop(weight, None)


def _pack(weight: Tensor, dtype: torch.dtype, transposed: bool) -> Tensor:
    weight = (weight.mT if transposed else weight).detach()
    if weight.dtype not in TYPES:
        weight = weight.to(dtype)
    size, pack, _ = _functions(_loaded())
    *_, rows, columns = weight.shape
    matrices = len(weight) if weight.dim() == 3 else 1
    kind = TYPES[dtype]
    result = torch.empty(size(kind, matrices, rows, columns), dtype=torch.uint8)
    shape = (ctypes.c_int64 * 3)(matrices, rows, columns)
    strides = (ctypes.c_int64 * 3)(weight.stride(0), *weight.stride()[-2:])
    pack(pointer(weight), TYPES[weight.dtype], shape, strides, kind, pointer(result), torch.get_num_threads())
    return result


def _loaded() -> Library:
    loaded = library()
    assert loaded is not None
    return loaded


@lru_cache(maxsize=1)
def _functions(loaded: Library) -> tuple[Any, Any, Any]:
    number, address = ctypes.c_int64, ctypes.c_void_p
    return (
        loaded.function("native_packed_bytes", *[number] * 4, returns=number),
        loaded.function("native_pack", address, number, address, address, number, address, number),
        loaded.function("native_isa", returns=ctypes.c_int32),
    )
