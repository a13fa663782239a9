"""Weighted sums of rows: how features get from points to voxels, from scale to scale, and back to the points.

They are computed as the embeddings of bags are (`torch.embedding_bag`), and so are their gradients: every result is
written once, without atomic additions and without a gathered copy of the features. On a CPU that is several times as
fast as `index_add`; on a GPU it is deterministic besides.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from network.distinct import Distinct


@dataclass(frozen=True, eq=False)
class Average:
    """out[t] = sum over the entries of t of weight * features[source].

    Attributes:
        source: (L,) row of the features of every entry; the entries of a target stand together.
        ends: (T + 1,) the entries of target t are ends[t] .. ends[t + 1] - 1; None: every target has one, its own.
        weight: (L,) float32, or None: every weight is 1.
        num_sources: rows of the features.
    """

    source: Tensor
    ends: Tensor | None
    weight: Tensor | None
    num_sources: int

    def __len__(self) -> int:
        return len(self.source) if self.ends is None else len(self.ends) - 1

    def __call__(self, features: Tensor) -> Tensor:
        """(num_sources, C) -> (T, C) in the features' type, summed in at least fp32."""
        result = _WeightedSum.apply(features, self)
        assert isinstance(result, Tensor)
        return result

    @staticmethod
    def within(groups: Distinct) -> Average:
        """The mean over the rows of each group: (N, C) -> (V, C)."""
        counts = groups.ends.diff()
        weight = (1 / counts.float()).repeat_interleave(counts, output_size=len(groups.order))
        return Average(groups.order, groups.ends, weight, len(groups.order))

    @staticmethod
    def grouping(group: Tensor, num_groups: int) -> Average:
        """The mean over the rows of each group: (N, C) -> (num_groups, C); `group` (N,) is that of each row."""
        sorted_groups, order = group.sort(stable=True)
        ends = torch.searchsorted(sorted_groups, torch.arange(num_groups + 1, device=group.device))
        weight = 1 / ends.diff().clamp(min=1).float()
        return Average(order, ends, weight.index_select(0, sorted_groups), len(group))

    @staticmethod
    def picking(rows: Tensor, num_sources: int) -> Average:
        """The rows themselves: (num_sources, C) -> (R, C), features[rows]."""
        return Average(rows, None, None, num_sources)

    @cached_property
    def transposed(self) -> Average:
        """The same entries by source: what the gradient of the features is."""
        source, entry = self.source.sort(stable=True)
        ends = torch.searchsorted(source, torch.arange(self.num_sources + 1, device=source.device))
        target = entry
        if self.ends is not None:
            numbers = torch.arange(len(self), device=source.device)
            target = numbers.repeat_interleave(self.ends.diff(), output_size=len(source))[entry]
        return Average(target, ends, None if self.weight is None else self.weight.index_select(0, entry), len(self))

    @cached_property
    def bags(self) -> tuple[Tensor, Tensor]:
        """`source` and `ends` for `torch.embedding_bag`, in half the bytes."""
        assert self.ends is not None
        return self.source.int(), self.ends.int()


class _WeightedSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, average: Average) -> Tensor:
        ctx.average = average
        return _weighted_sum(features, average)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, None]:
        return _weighted_sum(grad_outputs[0], ctx.average.transposed), None


def _weighted_sum(features: Tensor, average: Average) -> Tensor:
    if average.ends is None:
        return features.index_select(0, average.source)
    if len(average.source) == 0:
        return features.new_zeros(len(average), features.shape[1])
    weight = None if average.weight is None else average.weight.to(features.dtype)
    return sum_bags(features.contiguous(), *average.bags, weight)


def sum_bags(rows: Tensor, source: Tensor, ends: Tensor, weight: Tensor | None = None) -> Tensor:
    """out[t] = sum of weight * rows[source] over the entries ends[t] .. ends[t + 1] - 1, in at least fp32; no gradient.

    Args:
        rows: (R, C), contiguous.
        source, ends: (L,) and (T + 1,) int32.
        weight: (L,) in the type of the rows, or None for 1.

    Returns:
        (T, C) in the type of the rows.
    """
    # Detached: embedding_bag would prepare for its own gradient.
    bags = torch.embedding_bag(rows.detach(), source, ends, mode=0, per_sample_weights=weight, include_last_offset=True)
    return bags[0]
