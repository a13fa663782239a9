"""The ranks of numbers on a CPU: a stable radix sort, and what follows from it, in one call."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from network.native.library import Library, library


class Ranks(NamedTuple):
    """The ranks of the N numbers of a list, of which V are distinct; all int64.

    Attributes:
        order: (N,), the indices that sort the list; equal numbers keep their order.
        inverse: (N,), the rank of every number among the distinct ones.
        values: (V,), the distinct numbers, sorted.
        ends: (V + 1,): distinct number v stands at order[ends[v] : ends[v + 1]].
    """

    order: Tensor
    inverse: Tensor
    values: Tensor
    ends: Tensor


def rank(lists: Sequence[Tensor]) -> list[Ranks] | None:
    """Ranks lists of int64 numbers, one list per thread at a time; None where PyTorch has to do it."""
    lib = library() if all(numbers.device.type == "cpu" for numbers in lists) else None
    if lib is None or any(len(numbers) >= 1 << 31 for numbers in lists):
        return None
    lists = [numbers.contiguous() for numbers in lists]
    # Without knowing how many numbers are distinct: what is not used of a column is cut off, and never touched.
    columns = [[numbers.new_empty(len(numbers) + (name == "ends")) for numbers in lists] for name in Ranks._fields]
    sizes = (ctypes.c_int64 * len(lists))()
    order, inverse, values, ends = columns
    counts = (ctypes.c_int64 * len(lists))(*map(len, lists))
    addresses = [(ctypes.c_void_p * len(lists))(*(t.data_ptr() for t in column)) for column in (lists, *columns)]
    _function(lib)(len(lists), addresses[0], counts, *addresses[1:], sizes, torch.get_num_threads())
    found = zip(order, inverse, values, ends, sizes, strict=True)
    return [Ranks(o, i, v[:size], e[: size + 1]) for o, i, v, e, size in found]


@lru_cache(maxsize=1)
def _function(lib: Library) -> Any:
    table, numbers = ctypes.POINTER(ctypes.c_void_p), ctypes.POINTER(ctypes.c_int64)
    kinds = (ctypes.c_int64, table, numbers, table, table, table, table, numbers, ctypes.c_int)
    return lib.function("native_rank", *kinds)
