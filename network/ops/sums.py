"""Weighted sums of rows: how features get from points to voxels, from scale to scale, and back to the points.

They are computed as the embeddings of bags are (`torch.embedding_bag`), and so are their gradients: every result is
written once, without atomic additions and without a gathered copy of the features. On a CPU that is several times as
fast as `index_add`; on a GPU it is deterministic besides.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from network.ops.distinct import Distinct


@dataclass(frozen=True, eq=False)
class RowSum:
    """out[t] = sum over the entries of t of weight * features[source].

    Attributes:
        source: (L,) row of the features of every entry; the entries of a target stand together.
        ends: (T + 1,) the entries of target t are ends[t] .. ends[t + 1] - 1; None: every target has one, its own.
        weight: (L,) float32, or None: every weight is 1, or for a `mean` 1 / the number of entries of its target.
        num_sources: rows of the features.
        mean: see `weight`.
        shares: (num_sources,) float32: of an average with neither `ends` nor `weight`, the weight of all entries of a
            source.
        transpose: makes `transposed`, where that is known without a sort.
    """

    source: Tensor
    ends: Tensor | None
    weight: Tensor | None
    num_sources: int
    mean: bool = False
    shares: Tensor | None = None
    transpose: Callable[[], RowSum] | None = None
    _weighted: dict[torch.dtype, tuple[Tensor, Tensor, Tensor]] = field(default_factory=dict, init=False)

    def __len__(self) -> int:
        return len(self.source) if self.ends is None else len(self.ends) - 1

    def __call__(self, features: Tensor) -> Tensor:
        """(num_sources, C) -> (T, C) in the features' type, summed and weighted in at least fp32 and rounded once."""
        result = _WeightedSum.apply(features, self)
        assert isinstance(result, Tensor)
        return result

    @staticmethod
    def within(groups: Distinct) -> RowSum:
        """The mean over the rows of each group: (N, C) -> (V, C)."""
        return _mean(groups.order, groups.ends, groups.inverse)

    @staticmethod
    def grouping(group: Tensor, num_groups: int) -> RowSum:
        """The mean over the rows of each group: (N, C) -> (num_groups, C); `group` (N,) is that of each row."""
        sorted_groups, order = group.sort(stable=True)
        ends = torch.searchsorted(sorted_groups, torch.arange(num_groups + 1, device=group.device))
        return _mean(order, ends, group)

    @staticmethod
    def spreading(groups: Distinct) -> RowSum:
        """Each row takes that of its group: (V, C) -> (N, C)."""

        def transpose() -> RowSum:
            return RowSum(groups.order, groups.ends, None, len(groups.inverse))

        return RowSum(groups.inverse, None, None, len(groups), transpose=transpose)

    @staticmethod
    def gathering(rows: Tensor, num_sources: int, ascending: bool = False) -> RowSum:
        """The rows themselves: (num_sources, C) -> (R, C), features[rows]; `ascending` if these are."""

        def transpose() -> RowSum:
            return _by_source(rows, torch.arange(len(rows), device=rows.device), num_sources)

        return RowSum(rows, None, None, num_sources, transpose=transpose if ascending else None)

    @cached_property
    def transposed(self) -> RowSum:
        """The same entries by source: what the gradient of the features is."""
        if self.transpose is not None:
            return self.transpose()
        source, entry = self.source.sort(stable=True)
        target = entry
        if self.ends is not None:
            numbers = torch.arange(len(self), device=source.device)
            target = numbers.repeat_interleave(self.ends.diff(), output_size=len(source))[entry]
        weight = None if self.weights is None else self.weights.index_select(0, entry)
        return replace(_by_source(source, target, self.num_sources), weight=weight, num_sources=len(self))

    @cached_property
    def weights(self) -> Tensor | None:
        """(L,) float32 of every entry, however they are given; None: every weight is 1."""
        if self.shares is not None:
            return self.shares.index_select(0, self.source)
        if not self.mean:
            return self.weight
        assert self.ends is not None
        return _shares(self.ends).repeat_interleave(self.ends.diff(), output_size=len(self.source))

    @cached_property
    def bags(self) -> tuple[Tensor, Tensor]:
        """`source` and `ends` for `torch.embedding_bag`, in half the bytes."""
        assert self.ends is not None
        return self.source.int(), self.ends.int()

    def weighted_bags(self, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
        """`bags` with weights in the type of the rows, which `torch.embedding_bag` wants.

        Rounded to bf16 the weights of a mean would add up to 0.997 to 1.003. So in a narrow type every entry comes
        twice, with its weight and with what rounding took from that: products are added up in fp32.
        """
        if dtype not in self._weighted:
            (source, ends), weights = self.bags, self.weights
            assert weights is not None
            rounded = weights.to(dtype)
            if dtype.itemsize < weights.dtype.itemsize:
                rounded = torch.stack([rounded, (weights - rounded).to(dtype)], dim=1).view(-1)
                source, ends = source[:, None].expand(-1, 2).reshape(-1), 2 * ends
            self._weighted[dtype] = source, ends, rounded
        return self._weighted[dtype]


def _mean(order: Tensor, ends: Tensor, group: Tensor) -> RowSum:
    """The mean over the rows order[ends[v] : ends[v + 1]] of each group v; `group` (N,) is that of each row."""

    def transpose() -> RowSum:
        return RowSum(group, None, None, len(ends) - 1, shares=_shares(ends))

    return RowSum(order, ends, None, len(order), mean=True, transpose=transpose)


def _shares(ends: Tensor) -> Tensor:
    """(T,) 1 / the number of entries of each target."""
    return 1 / ends.diff().clamp(min=1).float()


def _by_source(source: Tensor, target: Tensor, num_sources: int) -> RowSum:
    """The transpose of entries that ascend by source; every target has one."""
    ends = torch.searchsorted(source, torch.arange(num_sources + 1, device=source.device))
    return RowSum(target, ends, None, len(target))


class _WeightedSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, average: RowSum) -> Tensor:
        ctx.average = average
        return _weighted_sum(features, average)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, None]:
        return _weighted_sum(grad_outputs[0], ctx.average.transposed), None


def _weighted_sum(features: Tensor, average: RowSum) -> Tensor:
    if average.ends is None:
        if average.shares is not None:
            features = torch.mul(features, average.shares[:, None], out=features.new_empty(features.shape))
        return features.index_select(0, average.source)
    if len(average.source) == 0:
        return features.new_zeros(len(average), features.shape[1])
    # A GPU divides the sum before it rounds it. A CPU does so afterwards, and takes ten times as long: there a mean is
    # a sum with weights.
    divided = average.mean and features.device.type != "cpu"
    if divided or average.weights is None:
        return sum_bags(features.contiguous(), *average.bags, mean=divided)
    return sum_bags(features.contiguous(), *average.weighted_bags(features.dtype))


def sum_bags(rows: Tensor, source: Tensor, ends: Tensor, weight: Tensor | None = None, mean: bool = False) -> Tensor:
    """out[t] = sum of weight * rows[source] over the entries ends[t] .. ends[t + 1] - 1, in at least fp32; no gradient.

    Args:
        rows: (R, C), contiguous.
        source, ends: (L,) and (T + 1,) int32.
        weight: (L,) in the type of the rows, or None for 1.
        mean: divide by the number of entries.

    Returns:
        (T, C) in the type of the rows.
    """
    mode = 1 if mean else 0
    # Detached: embedding_bag would prepare for its own gradient.
    bags = torch.embedding_bag(
        rows.detach(), source, ends, mode=mode, per_sample_weights=weight, include_last_offset=True
    )
    return bags[0]
