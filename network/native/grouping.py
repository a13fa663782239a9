"""The points that voxels of several scales share, counted on a CPU."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import lru_cache
from itertools import chain
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from network.native.library import Library, library


class Grouped(Protocol):
    """Points by the voxel that holds them; see `network.ops.distinct.Distinct`. All are int64."""

    @property
    def inverse(self) -> Tensor:
        """The voxel of each point, (P,)."""
        ...

    @property
    def order(self) -> Tensor:
        """The points, voxel after voxel, (P,)."""
        ...

    @property
    def ends(self) -> Tensor:
        """The place in `order` where the points of each voxel begin, and the end, (V + 1,)."""
        ...

    def __len__(self) -> int: ...


class SharedMean(NamedTuple):
    """The mean from fine to coarse voxels over the points of each coarse voxel.

    Attributes:
        source: (L,) int64, the fine voxels that share points with each coarse one; ascending.
        ends: (T + 1,) int64: coarse voxel t has the entries ends[t] .. ends[t + 1] - 1.
        weight: (L,) float32, the share of the coarse voxel's points.
    """

    source: Tensor
    ends: Tensor
    weight: Tensor


def shared_means(couples: Sequence[tuple[Grouped, Grouped]]) -> list[SharedMean] | None:
    """Finds the means of (coarse, fine) couples of scales of the same points; None where PyTorch has to do it."""
    lib = library() if all(_fits(one) for one in chain(*couples)) else None
    if lib is None:
        return None
    found, addresses, sizes, kept = [], [], [], []
    for coarse, fine in couples:
        points = len(fine.order)
        numbers, rows = torch.empty(points, dtype=torch.int64), torch.empty(points, dtype=torch.int32)
        mean = SharedMean(torch.empty_like(numbers), numbers.new_empty(len(coarse) + 1), torch.empty(points))
        tensors = (fine.order, fine.ends, coarse.inverse, coarse.ends, numbers, rows, *mean)
        contiguous = [tensor.contiguous() for tensor in tensors]
        addresses += [tensor.data_ptr() for tensor in contiguous]
        sizes += [len(fine), len(coarse)]
        found.append(mean)
        kept.append(contiguous)
    table, numbers = (ctypes.c_void_p * len(addresses))(*addresses), (ctypes.c_int64 * len(sizes))(*sizes)
    _functions(lib).means(len(couples), table, numbers, torch.get_num_threads())
    return [SharedMean(source[: int(ends[-1])], ends, weight[: int(ends[-1])]) for source, ends, weight in found]


class Tuples(NamedTuple):
    """The U distinct tuples of the P points; all int64.

    Attributes:
        inverse: (P,), number of the tuple of each point.
        order: (P,), the points by tuple; those of a tuple ascend.
        ends: (U + 1,): tuple u has the points order[ends[u] : ends[u + 1]].
    """

    inverse: Tensor
    order: Tensor
    ends: Tensor


def tuples(first: Grouped, others: Sequence[Tensor]) -> Tuples | None:
    """Ranks the tuples of voxels (one per scale) of each point; None where PyTorch has to do it.

    Args:
        first: the points by the voxels of the scale that the tuples are sorted by.
        others: for each further scale, in the order in which they are sorted by, the (P,) int64 voxel of each point.
    """
    lib = library() if _fits(first) else None
    if lib is None:
        return None
    others, ends, parts = [rows.contiguous() for rows in others], first.ends.contiguous(), torch.get_num_threads()
    order, inverse = first.order.clone(), torch.empty_like(first.order)
    starts, found = order.new_empty(len(order) + 1), order.new_empty(parts)
    columns = (ctypes.c_void_p * len(others))(*(rows.data_ptr() for rows in others))
    points = (order.data_ptr(), len(order), inverse.data_ptr(), starts.data_ptr(), found.data_ptr(), parts)
    number = _functions(lib).tuples(ends.data_ptr(), len(first), columns, len(others), *points)
    return Tuples(inverse, order, starts[: number + 1])


def _fits(points: Grouped) -> bool:
    if points.order.device.type != "cpu" or library() is None:
        return False
    return len(points.order) < 1 << 31 and points.order.dtype == points.ends.dtype == torch.int64


class _Functions(NamedTuple):
    means: Any
    tuples: Any


@lru_cache(maxsize=1)
def _functions(lib: Library) -> _Functions:
    address, size, number = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int
    table, sizes = ctypes.POINTER(address), ctypes.POINTER(size)
    points = (address, size, address, address, address, number)
    return _Functions(
        lib.function("native_shared_means", size, table, sizes, number),
        lib.function("native_tuples", address, size, table, size, *points, returns=size),
    )
