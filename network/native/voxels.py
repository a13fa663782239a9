"""Keys and input features of points on a CPU, in one pass over them; computed as PyTorch does, to the last bit."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from network.native.grouping import Grouped
from network.native.library import Library, library


def voxel_keys(points: Tensor, scan_ids: Tensor, low: Tensor, extent: Tensor, cells: Sequence[Tensor]) -> Tensor | None:
    """Computes the (S, P) int64 keys of the points at S scales; None where PyTorch has to do it.

    Args:
        points: (P, 4 or more) float32, of which the first three are x, y, z.
        scan_ids: (P,) int64.
        low, extent: (3,) float32, the low corner and the edges of the volume.
        cells: for each scale (3,) float32, the number of cells along each axis.
    """
    lib = library() if _fits(points) else None
    if lib is None:
        return None
    points, scan_ids, grid = points.contiguous(), scan_ids.contiguous(), torch.stack([*cells]).contiguous()
    keys = scan_ids.new_empty(len(cells), len(points))
    of_points = (points.data_ptr(), points.shape[1], scan_ids.data_ptr(), len(points))
    box = (low.data_ptr(), extent.data_ptr(), grid.data_ptr(), len(cells))
    _functions(lib).keys(*of_points, *box, keys.data_ptr(), torch.get_num_threads())
    return keys


def input_features(points: Tensor, voxels: Grouped, keys: Tensor, low: Tensor, voxel_size: Tensor) -> Tensor | None:
    """Computes the (P, 10 or more) input features of the points; None where PyTorch has to do it.

    Args:
        points: (P, 4 or more) float32.
        voxels: the points by their voxel.
        keys: (V,) int64, the keys of the voxels.
        low, voxel_size: (3,) float32, the low corner of the volume and the edges of a voxel.
    """
    fit = _fits(points) and voxels.order.dtype == voxels.ends.dtype == torch.int64
    lib = library() if fit else None
    if lib is None:
        return None
    points = points.contiguous()
    count, columns = points.shape
    out, references = points.new_empty(count, columns + 6), points.new_empty(len(voxels), 6)
    grouped = [tensor.contiguous() for tensor in (voxels.order, voxels.ends, voxels.inverse, keys)]
    numbers = [tensor.data_ptr() for tensor in (low, voxel_size, references, out)]
    addresses = [tensor.data_ptr() for tensor in grouped]
    _functions(lib).features(
        points.data_ptr(), columns, count, *addresses, len(voxels), *numbers, torch.get_num_threads()
    )
    return out


def halved_keys(keys: Tensor) -> Tensor | None:
    """Computes the keys (V,) of floor(coordinate / 2) on every axis; None where PyTorch has to do it."""
    lib = library() if keys.device.type == "cpu" else None
    if lib is None:
        return None
    keys = keys.contiguous()
    out = torch.empty_like(keys)
    _functions(lib).halve(keys.data_ptr(), len(keys), out.data_ptr())
    return out


def _fits(points: Tensor) -> bool:
    return points.device.type == "cpu" and points.dtype == torch.float32


class _Functions(NamedTuple):
    keys: Any
    features: Any
    halve: Any


@lru_cache(maxsize=1)
def _functions(lib: Library) -> _Functions:
    address, size, number = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int
    four, points = (address,) * 4, (address, size, size)
    return _Functions(
        lib.function("native_voxel_keys", address, size, address, size, *four[:3], size, address, number),
        lib.function("native_input_features", *points, *four, size, *four, number),
        lib.function("native_halve_keys", address, size, address),
    )
