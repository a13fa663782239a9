"""Trilinear interpolation between the levels of a pyramid of voxels, on a CPU."""

from __future__ import annotations

import ctypes
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from network.native.library import Library, library
from network.native.neighbours import neighbour_pairs


class Entries(NamedTuple):
    """The entries of a weighted sum of rows.

    Attributes:
        source: (L,) int32, coarse rows.
        ends: (V0 + 1,) int64: finest voxel v has the entries ends[v] .. ends[v + 1] - 1, at most 8.
        weight: (L,) float32, above 0; those of a voxel add up to 1.
    """

    source: Tensor
    ends: Tensor
    weight: Tensor


def trilinear(keys: Tensor, inverse: Tensor, level: int, coarse_keys: Tensor) -> Entries | None:
    """Finds the voxels between which each finest voxel lies, and their weights; None where PyTorch has to do it.

    Args:
        keys: (V0,) int64 keys of the finest voxels.
        inverse: (V0,) int64, row of the coarse voxel that holds each.
        level: number of times that the coarse voxels are halved.
        coarse_keys: (V,) int64 sorted distinct keys of the coarse voxels.
    """
    pairs = neighbour_pairs(coarse_keys, 2)
    lib = None if pairs is None else library()
    if lib is None or pairs is None:
        return None
    keys, inverse, threads = keys.contiguous(), inverse.contiguous(), torch.get_num_threads()
    around, ends = torch.empty(len(coarse_keys), 8, dtype=torch.int32), keys.new_empty(len(keys) + 1)
    functions, addresses = _functions(lib), [tensor.data_ptr() for tensor in pairs]
    functions.corners(*addresses, len(coarse_keys), around.data_ptr())
    of_voxels = (keys.data_ptr(), inverse.data_ptr(), len(keys), level, around.data_ptr(), ends.data_ptr())
    functions.ends(*of_voxels, threads)
    source, weight = torch.empty(int(ends[-1]), dtype=torch.int32), torch.empty(int(ends[-1]))
    functions.entries(*of_voxels, source.data_ptr(), weight.data_ptr(), threads)
    return Entries(source, ends, weight)


class _Functions(NamedTuple):
    corners: Any
    ends: Any
    entries: Any


@lru_cache(maxsize=1)
def _functions(lib: Library) -> _Functions:
    address, size, number = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int
    voxels = (address, address, size, number, address, address)
    return _Functions(
        lib.function("native_corners", address, address, address, size, address),
        lib.function("native_interpolation_ends", *voxels, number),
        lib.function("native_interpolation_entries", *voxels, address, address, number),
    )
