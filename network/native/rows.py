"""Weighted sums of rows on a CPU: gathered, multiplied and added in one go, in fp32 with fp32 weights."""

from __future__ import annotations

import ctypes
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from network.native.library import Library, library, pointer

_NARROW = {torch.float32: 0, torch.bfloat16: 1}
_SHORT = {torch.int64: 0, torch.int32: 1}


def sum_rows(
    rows: Tensor,
    source: Tensor,
    ends: Tensor | None = None,
    weight: Tensor | None = None,
    shares: Tensor | None = None,
    mean: bool = False,
    add_to: Tensor | None = None,
) -> Tensor | None:
    """Computes out[t] = sum of weight * rows[source] over the entries of each target; None where PyTorch has to do it.

    The sums are added up in fp32, in the order of the entries, and rounded once.

    Args:
        rows: (R, C) fp32 or bf16; other types are for PyTorch.
        source: (L,) int64 or int32, row that each entry takes.
        ends: (T + 1,) int64 or int32: target t has the entries ends[t] .. ends[t + 1] - 1; None: the entry t alone.
        weight: (L,) fp32, only with `ends`; None: every weight is 1, or with `mean` 1 / the number of entries.
        shares: (R,) fp32, the weight of every entry that takes this row; only without `ends`.
        mean: whether the entries of a target are averaged.
        add_to: (T, C) of the type of the rows, contiguous: the sums are added to it, and it is returned.

    Returns:
        (T, C) in the type of the rows.
    """
    lib = library() if rows.device.type == "cpu" and rows.dtype in _NARROW else None
    if lib is None:
        return None
    rows, source = rows.contiguous(), source.contiguous()
    weight, shares = (None if t is None else t.float().contiguous() for t in (weight, shares))
    ends = None if ends is None else ends.long().contiguous()
    targets = len(source) if ends is None else len(ends) - 1
    out = rows.new_empty(targets, rows.shape[1]) if add_to is None else add_to
    assert out.shape == (targets, rows.shape[1]) and out.dtype == rows.dtype and out.is_contiguous()
    _functions(lib).sum(
        *(rows.data_ptr(), _NARROW[rows.dtype], rows.shape[1]),
        *(source.data_ptr(), _SHORT[source.dtype], len(source)),
        *(pointer(ends), pointer(weight), pointer(shares), int(mean)),
        *(targets, out.data_ptr(), int(add_to is not None), torch.get_num_threads()),
    )
    return out


def group_rows(group: Tensor, num_groups: int) -> tuple[Tensor, Tensor] | None:
    """Sorts rows by their group, without comparing them; None where PyTorch has to do it.

    Args:
        group: (N,) integers from 0 to num_groups - 1, the group of each row.
        num_groups: number of groups.

    Returns:
        (N,) order of the rows and (num_groups + 1,) ends: group g has the rows order[ends[g] : ends[g + 1]], ascending.
        Both are int64.
    """
    lib = library() if group.device.type == "cpu" else None
    if lib is None:
        return None
    group = group.long().contiguous()
    order, ends = torch.empty_like(group), group.new_empty(num_groups + 1)
    _functions(lib).group(group.data_ptr(), len(group), num_groups, order.data_ptr(), ends.data_ptr())
    return order, ends


class _Functions(NamedTuple):
    sum: Any
    group: Any


@lru_cache(maxsize=1)
def _functions(lib: Library) -> _Functions:
    address, size, number = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int
    rows, source = (address, number, size), (address, number, size)
    weights, out = (address, address, address, number), (size, address, number, number)
    return _Functions(
        lib.function("native_sum_rows", *rows, *source, *weights, *out),
        lib.function("native_group_rows", address, size, size, address, address),
    )
