"""Weighted sums of rows carry features from points to voxels, from scale to scale, and back to the points.

On a CPU native code computes the sums and their gradients (`network.native.rows`). Without it, and on a GPU,
`torch.embedding_bag` does: every result is written once, without atomic additions and without a gathered copy of the
features. On a CPU that is several times as fast as `index_add`; on a GPU it is also deterministic.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from network.native import rows as native
from network.ops.distinct import Distinct


@dataclass(frozen=True, eq=False)
class RowSum:
    """A weighted sum of rows as a linear map: out[t] = sum over the L entries of target t of weight * features[source].

    Attributes:
        source: (L,) int64, row of the features that each entry takes; the entries of a target stand together.
        ends: (T + 1,) int64: target t has the entries ends[t] .. ends[t + 1] - 1. None: target t has the entry t alone.
        weight: (L,) float32, or None: every weight is 1 or, with `mean`, 1 / the number of entries of its target.
        num_sources: number of rows of the features.
        mean: whether the entries of a target are averaged; see `weight`.
        shares: (num_sources,) float32 or None: the weight of every entry that takes this source. Only where `ends` and
            `weight` are None.
        transpose: makes `transposed` without a sort, where that is possible.
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
        """Computes (T, C) sums of (num_sources, C) features in their type, added in at least fp32 and rounded once."""
        result = _WeightedSum.apply(features, self)
        assert isinstance(result, Tensor)
        return result

    @staticmethod
    def within(groups: Distinct) -> RowSum:
        """Returns the mean over the rows of each group: (N, C) -> (V, C)."""
        return _mean(groups.order, groups.ends, groups.inverse)

    @staticmethod
    def grouping(group: Tensor, num_groups: int) -> RowSum:
        """Returns the mean over the rows of each group: (N, C) -> (num_groups, C).

        Args:
            group: (N,) int64, number of the group of each row.
            num_groups: number of groups.
        """
        return _mean(*_sorted_by(group, num_groups), group)

    @staticmethod
    def spreading(groups: Distinct) -> RowSum:
        """Returns the map by which each row takes the row of its group: (V, C) -> (N, C)."""

        def transpose() -> RowSum:
            return RowSum(groups.order, groups.ends, None, groups.inverse.shape[0])

        return RowSum(groups.inverse, None, None, groups.values.shape[0], transpose=transpose)

    @staticmethod
    def gathering(rows: Tensor, num_sources: int, ascending: bool = False) -> RowSum:
        """Returns the map features[rows]: (num_sources, C) -> (R, C).

        Args:
            rows: (R,) int64.
            num_sources: number of rows of the features.
            ascending: whether `rows` ascend, which saves a sort.
        """

        def transpose() -> RowSum:
            ends = _ends(rows, num_sources)
            return RowSum(torch.arange(len(rows), device=rows.device), ends, None, len(rows))

        return RowSum(rows, None, None, num_sources, transpose=transpose if ascending else None)

    @cached_property
    def transposed(self) -> RowSum:
        """The transposed map, (T, C) -> (num_sources, C), which computes the gradient of the features."""
        if self.transpose is not None:
            return self.transpose()
        entry, ends = _sorted_by(self.source, self.num_sources)
        target = entry
        if self.ends is not None:
            numbers = torch.arange(len(self), device=entry.device)
            target = numbers.repeat_interleave(self.ends.diff(), output_size=len(entry))[entry]
        weight = None if self.weights is None else self.weights.index_select(0, entry)
        return RowSum(target, ends, weight, len(self))

    @cached_property
    def weights(self) -> Tensor | None:
        """The (L,) float32 weights of the entries; None if every weight is 1."""
        if self.shares is not None:
            return self.shares.index_select(0, self.source)
        if not self.mean:
            return self.weight
        assert self.ends is not None
        return _shares(self.ends).repeat_interleave(self.ends.diff(), output_size=self.source.shape[0])

    @cached_property
    def bags(self) -> tuple[Tensor, Tensor]:
        """The tensors `source` and `ends` for `torch.embedding_bag`: as int32 on a CPU, where that is faster."""
        assert self.ends is not None
        if self.source.device.type != "cpu":
            return self.source, self.ends
        return self.source.int(), self.ends.int()

    def keep_weighted(self, dtype: torch.dtype, bags: tuple[Tensor, Tensor, Tensor]) -> None:
        """Keeps the `weighted_bags` of a type of rows, made elsewhere."""
        self._weighted[dtype] = bags

    def weighted_bags(self, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
        """Returns `bags` and weights in the type of the rows, which `torch.embedding_bag` requires.

        Rounded to bf16, the weights of a mean would add up to 0.997 to 1.003. So in a narrow type every entry comes
        twice: with its rounded weight and with the rounding error. The products are added up in fp32.
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
    """Returns the mean over the rows order[ends[v] : ends[v + 1]] of each group v; row i is in group[i]."""

    def transpose() -> RowSum:
        return RowSum(group, None, None, len(ends) - 1, shares=_shares(ends))

    return RowSum(order, ends, None, order.shape[0], mean=True, transpose=transpose)


def _shares(ends: Tensor) -> Tensor:
    """Computes (T,) 1 / the number of entries of each target."""
    return 1 / ends.diff().clamp(min=1).float()


def _sorted_by(group: Tensor, num_groups: int) -> tuple[Tensor, Tensor]:
    """Sorts rows by their group: group g has the rows order[ends[g] : ends[g + 1]], ascending."""
    if (found := native.group_rows(group, num_groups)) is not None:
        return found
    # As int32: a GPU sorts by a few bits at a time, so half the bits take half as long.
    sorted_groups, order = group.int().sort(stable=True)
    return order, _ends(sorted_groups, num_groups)


def _ends(sorted_groups: Tensor, num_groups: int) -> Tensor:
    """Finds (num_groups + 1,) where the rows of each group end; those of the first one begin at 0."""
    numbers = torch.arange(num_groups + 1, dtype=sorted_groups.dtype, device=sorted_groups.device)
    return torch.searchsorted(sorted_groups, numbers)


class _WeightedSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, row_sum: RowSum) -> Tensor:
        ctx.row_sum = row_sum
        return _weighted_sum(features, row_sum)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, None]:
        return _weighted_sum(grad_outputs[0], ctx.row_sum.transposed), None


def _weighted_sum(features: Tensor, row_sum: RowSum) -> Tensor:
    of = row_sum
    if torch.compiler.is_exporting():  # numbers of rows have no values then
        return _plain_sum(features, row_sum)
    assert len(features) == of.num_sources  # native code does not look where it reads
    found = native.sum_rows(features, of.source, of.ends, of.weight, of.shares, of.mean)
    return _plain_sum(features, row_sum) if found is None else found


def _plain_sum(features: Tensor, row_sum: RowSum) -> Tensor:
    if row_sum.ends is None:
        if row_sum.shares is not None:
            features = torch.mul(features, row_sum.shares[:, None], out=features.new_empty(features.shape))
        return features.index_select(0, row_sum.source)
    if not torch.compiler.is_exporting() and len(row_sum.source) == 0:
        return features.new_zeros(len(row_sum), features.shape[1])
    # embedding_bag's own mean divides before it rounds on a GPU. On a CPU it rounds first and takes ten times as long,
    # so there a mean is computed as a weighted sum.
    divided = row_sum.mean and features.device.type != "cpu"
    if divided or row_sum.weights is None:
        return sum_bags(features.contiguous(), *row_sum.bags, mean=divided)
    return sum_bags(features.contiguous(), *row_sum.weighted_bags(features.dtype))


def sum_bags(rows: Tensor, source: Tensor, ends: Tensor, weight: Tensor | None = None, mean: bool = False) -> Tensor:
    """Computes out[t] = sum of weight * rows[source] over the entries ends[t] .. ends[t + 1] - 1, without a gradient.

    The sums are added up in at least fp32.

    Args:
        rows: (R, C), contiguous.
        source, ends: (L,) and (T + 1,) int32, or int64 both.
        weight: (L,) in the type of the rows, or None if every weight is 1.
        mean: whether to divide by the number of entries.

    Returns:
        (T, C) in the type of the rows.
    """
    mode = 1 if mean else 0
    # Detached, or embedding_bag would prepare for its own gradient.
    bags = torch.embedding_bag(
        rows.detach(), source, ends, mode=mode, per_sample_weights=weight, include_last_offset=True
    )
    return bags[0]
