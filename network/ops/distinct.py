"""The distinct values of tensors, in sorted order, found without the host waiting for a GPU.

How many distinct values there are is data, and the host must know it before it can allocate what comes next. So a
`Ranking` is all that can be computed without that number, and `collect` asks for the numbers of many rankings at once:
the one place where a step waits for the GPU.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor


class Ranking:
    """The values of a tensor, ranked.

    Attributes:
        inverse: (N,) int64, the rank of every value among the distinct ones.
        order: (N,) int64, which values come in which order; equal values in the order in which they were.
    """

    def __init__(self, values: Tensor) -> None:
        """
        Args:
            values: (N,) int64.
        """
        self._sorted, self.order = values.sort(stable=True)
        self._first = torch.ones_like(values, dtype=torch.bool)  # of its kind, in the sorted order
        torch.ne(self._sorted[1:], self._sorted[:-1], out=self._first[1:])
        ranks = self._first.cumsum(0)
        self.size = ranks[-1:].sum()  # of nothing: 0
        self.inverse = torch.empty_like(ranks).scatter_(0, self.order, ranks - 1)

    def finish(self, size: int) -> Distinct:
        """With the number of distinct values, which is `self.size`."""
        begins = torch.nonzero_static(self._first, size=size)[:, 0]
        ends = torch.cat([begins, begins.new_full((1,), len(self.order))])
        return Distinct(self._sorted.index_select(0, begins), self.inverse, self.order, ends)


@dataclass(frozen=True, eq=False)
class Distinct:
    """The distinct values of a tensor.

    Attributes:
        values: (V,) int64, sorted.
        inverse: (N,) int64, where in `values` every value of the tensor is.
        order: (N,) int64, the places of the tensor, those of equal values together, ascending.
        ends: (V + 1,) int64: those of value v are order[ends[v] : ends[v + 1]].
    """

    values: Tensor
    inverse: Tensor
    order: Tensor
    ends: Tensor

    def __len__(self) -> int:
        return len(self.values)


def collect(rankings: Iterable[Ranking]) -> list[Distinct]:
    """The distinct values of each; the host reads how many there are, once for all of them."""
    rankings = list(rankings)
    if not rankings:
        return []
    sizes = torch.stack([ranking.size for ranking in rankings]).tolist()
    return [ranking.finish(size) for ranking, size in zip(rankings, sizes, strict=True)]
