"""The pairs of neighbouring voxels on a CPU: found by walking along the sorted keys."""

from __future__ import annotations

import ctypes
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from network.native.library import Library, library

_LISTS = {2: 8, 3: 13}  # kernel size -> lists of pairs that are searched; the other 13 of size 3 are mirror images


class PairLists(NamedTuple):
    """The pairs of the K offsets of a kernel, offset after offset; in an offset both rows ascend.

    Attributes:
        inputs, outputs: (M,) int32, rows of the voxels.
        ends: (K + 1,) int64: offset k has the pairs ends[k] .. ends[k + 1] - 1.
    """

    inputs: Tensor
    outputs: Tensor
    ends: Tensor


def neighbour_pairs(keys: Tensor, kernel_size: int) -> PairLists | None:
    """Finds the pairs of a submanifold convolution of size 2 or 3; None where PyTorch has to do it.

    Args:
        keys: (V,) int64 sorted distinct keys, see `network.sparse.coordinates`.
        kernel_size: 2 or 3. With 3 the centre has no pairs.
    """
    lib = library() if _fits(keys) else None
    if lib is None:
        return None
    keys, parts, lists = keys.contiguous(), torch.get_num_threads(), _LISTS[kernel_size]
    # A stretch for each list and part of the rows. What is not used of them is never touched.
    here, there = torch.empty(2, lists * (len(keys) + parts), dtype=torch.int32)
    found, ends = torch.empty(parts * lists, dtype=torch.int64), torch.empty(kernel_size**3 + 1, dtype=torch.int64)
    shape = (len(keys), kernel_size, here.data_ptr(), there.data_ptr(), parts, found.data_ptr(), ends.data_ptr())
    _functions(lib).find(keys.data_ptr(), *shape)
    inputs, outputs = torch.empty(2, int(ends[-1]), dtype=torch.int32)
    _functions(lib).join(*shape, inputs.data_ptr(), outputs.data_ptr())
    return PairLists(inputs, outputs, ends)


def halving_pairs(keys: Tensor, parent: Tensor) -> PairLists | None:
    """Lists the pairs of a convolution of size 2, stride 2; None where PyTorch has to do it.

    Args:
        keys: (V,) int64 sorted distinct keys of the input voxels.
        parent: (V,) int64, row of the output voxel that holds each input voxel.
    """
    lib = library() if _fits(keys) else None
    if lib is None:
        return None
    keys, parent = keys.contiguous(), parent.contiguous()
    (inputs, outputs), ends = torch.empty(2, len(keys), dtype=torch.int32), torch.empty(9, dtype=torch.int64)
    tensors = (inputs.data_ptr(), outputs.data_ptr(), ends.data_ptr())
    _functions(lib).halve(keys.data_ptr(), parent.data_ptr(), len(keys), *tensors)
    return PairLists(inputs, outputs, ends)


def _fits(keys: Tensor) -> bool:
    return keys.device.type == "cpu" and library() is not None and len(keys) < 1 << 31


class _Functions(NamedTuple):
    find: Any
    join: Any
    halve: Any


@lru_cache(maxsize=1)
def _functions(lib: Library) -> _Functions:
    address, size, number = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int
    shape = (size, number, address, address, number, address, address)
    return _Functions(
        lib.function("native_find_neighbours", address, *shape),
        lib.function("native_join_neighbours", *shape, address, address),
        lib.function("native_halving_map", address, address, size, address, address, address),
    )
