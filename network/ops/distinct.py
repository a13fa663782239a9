"""The distinct values of tensors, in sorted order, found with as little waiting for a GPU as possible.

The number of distinct values depends on the data, and the host must know it before it can allocate the next tensors. So
a `Ranking` computes everything that does not need this number, and `collect` reads the numbers of many rankings at
once. This is the only place where a step waits for the GPU.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from network.native import ranking as native


class Ranking:
    """A ranking of the values of a tensor.

    Attributes:
        inverse: (N,) int64, the rank of every value among the distinct values.
        order: (N,) int64, the indices that sort the values; equal values keep their order.
        size: scalar int64 tensor on the device, the number of distinct values.
    """

    def __init__(self, values: Tensor, known: native.Ranks | None = None) -> None:
        """Ranks the values.

        Args:
            values: (N,) int64.
            known: their ranks, where they are known.
        """
        self._ranks = known or next(iter(native.rank([values]) or ()), None)
        if self._ranks is not None:
            self.order, self.inverse = self._ranks.order, self._ranks.inverse
            self.size = torch.tensor(len(self._ranks.values))
            return
        self._sorted, self.order = values.sort(stable=True)
        self._first = torch.ones_like(values, dtype=torch.bool)  # whether a sorted value is the first of its kind
        torch.ne(self._sorted[1:], self._sorted[:-1], out=self._first[1:])
        ranks = self._first.cumsum(0)
        self.size = ranks[-1:].sum()  # 0 if there are no values
        self.inverse = torch.empty_like(ranks).scatter_(0, self.order, ranks - 1)

    def finish(self, size: int) -> Distinct:
        """Returns the distinct values; `size` is their number, `self.size` as read by the host."""
        if self._ranks is not None:
            return Distinct(self._ranks.values, self.inverse, self.order, self._ranks.ends)
        begins = torch.nonzero_static(self._first, size=size)[:, 0]
        ends = torch.cat([begins, begins.new_full((1,), self.order.shape[0])])
        return Distinct(self._sorted.index_select(0, begins), self.inverse, self.order, ends)


@dataclass(frozen=True, eq=False)
class Distinct:
    """A frozen record of the distinct values of a tensor, and of where they occur.

    Attributes:
        values: (V,) int64, sorted.
        inverse: (N,) int64: tensor[i] is values[inverse[i]].
        order: (N,) int64, the indices that sort the tensor; those of equal values ascend.
        ends: (V + 1,) int64: value v occurs at order[ends[v] : ends[v + 1]].
    """

    values: Tensor
    inverse: Tensor
    order: Tensor
    ends: Tensor

    def __len__(self) -> int:
        return len(self.values)


def rank_each(lists: Iterable[Tensor]) -> list[Ranking]:
    """Ranks the values of each of some (N,) int64 tensors; on a CPU, each thread ranks one at a time."""
    lists = list(lists)
    ranks = native.rank(lists) or [None] * len(lists)
    return [Ranking(*each) for each in zip(lists, ranks, strict=True)]


def collect(rankings: Iterable[Ranking]) -> list[Distinct]:
    """Returns the distinct values of each ranking; the host waits only once, for the numbers of all of them."""
    rankings = list(rankings)
    if not rankings:
        return []
    sizes = torch.stack([ranking.size for ranking in rankings]).tolist()
    if torch.compiler.is_exporting():
        for size in sizes:
            torch._check(size >= 1)
            torch._check(size < 1 << 31)
    return [ranking.finish(size) for ranking, size in zip(rankings, sizes, strict=True)]
