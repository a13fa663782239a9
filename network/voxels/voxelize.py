"""The voxels of the 3D network of 2DPASS: points -> voxels at every scale, and the means that connect the scales.

Everything here is geometry, computed once per batch from the coordinates and then used by all layers. The scales do not
nest exactly (a coarse index is not the fine index divided), so each scale is voxelised from the points. Two scales are
connected by the distinct (coarse voxel, fine voxel) pairs, weighted by the number of points they share.

The host waits for the device twice per batch: for the numbers of voxels, and for the numbers of pairs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from network.native import grouping
from network.native import voxels as native
from network.ops.constant import constant
from network.ops.distinct import Distinct, Ranking, collect, rank_each
from network.ops.sums import RowSum
from network.sparse.coordinates import LIMIT, halve, pack, unpack
from network.sparse.layers import KernelMap, SparseBackend
from utils.scan.volume import Volume

_ROW_BITS = 32  # a pair of voxel rows is one int64: the coarse row above these bits, the fine row in them


@dataclass(frozen=True, eq=False)
class VoxelSet:
    """The distinct voxels of a batch at one scale, in the order of their keys.

    Attributes:
        points: the keys of the points (see `sparse.coordinates`); the voxels are their distinct values.
        backend: the sparse convolutions.
    """

    points: Distinct
    backend: SparseBackend

    def __len__(self) -> int:
        return len(self.points)

    @property
    def count(self) -> int:
        """The number of voxels V; in an export a symbol, which `len` cannot return."""
        return self.keys.shape[0]

    @property
    def keys(self) -> Tensor:
        """The keys of the voxels, (V,) int64."""
        return self.points.values

    @property
    def inverse(self) -> Tensor:
        """The row of the voxel of each point, (P,) int64."""
        return self.points.inverse

    @cached_property
    def counts(self) -> Tensor:
        """The number of points in each voxel, (V,) int64."""
        return self.points.ends.diff()

    @cached_property
    def mean_of_points(self) -> RowSum:
        """The mean over the points in each voxel: (P, C) -> (V, C)."""
        return RowSum.within(self.points)

    @cached_property
    def kernel_map(self) -> KernelMap:
        """The kernel map of 3x3x3 submanifold convolutions, shared by all layers of this scale."""
        return self.backend.submanifold_map(self.keys, 3)

    def majority_label(self, labels: Tensor, num_classes: int, counted: Tensor | None = None) -> Tensor:
        """Computes the (V,) most frequent of the labels (P,) in each voxel; 0 counts too, a tie goes to the lowest.

        With `counted`, a (P,) bool mask, the labels of the other points do not count; a voxel without any has 0.
        """
        votes = labels.new_zeros(len(self) * num_classes)
        ballots = torch.ones_like(labels) if counted is None else counted.to(labels.dtype)
        votes.scatter_add_(0, self.inverse * num_classes + labels, ballots)
        # argmax may return any of several equal maxima, so the label breaks the tie.
        order = torch.arange(num_classes - 1, -1, -1, device=labels.device)
        return (votes.view(-1, num_classes) * num_classes + order).argmax(dim=1)


@dataclass(frozen=True, eq=False)
class Pool:
    """The maps between voxels and their groups of 2x2x2 (voxels of one scan with equal coordinates // 2).

    Attributes:
        mean: the mean over the voxels of each group, every voxel counted once: (V, C) -> (groups, C).
        back: the map by which each voxel takes the row of its group: (groups, C) -> (V, C).
    """

    mean: RowSum
    back: RowSum


@dataclass(frozen=True, eq=False)
class Voxels:
    """A frozen record of a batch of points as voxels at all S scales.

    Attributes:
        features: (P, 10) float32 input features of the points; (P, 11) with their age.
        base: the voxels at scale 1.
        scales: the voxels at each entry of `scale_list` (equal scales share one object).
        means: for block i, the mean from the voxels one scale finer to those of `scales[i]`: over the points of each
            coarse voxel, so that a fine voxel counts once for each point that they share.
        pools: for block i, the groups of 2x2x2 of the voxels that it works on.
        signature: (U, S) int64, the distinct tuples of voxel rows (one per scale) that occur among the points. What
            depends on a point only through its voxels is computed once per tuple: on a 64-beam scan there is one tuple
            for every four points.
        signature_of_point: the map by which each point takes the row of its tuple: (U, C) -> (P, C).
    """

    features: Tensor
    base: VoxelSet
    scales: tuple[VoxelSet, ...]
    means: tuple[RowSum, ...]
    pools: tuple[Pool, ...]
    signature: Tensor
    signature_of_point: RowSum

    def finer(self, block: int) -> VoxelSet:
        """Returns the voxels that block number `block` works on."""
        return self.base if block == 0 else self.scales[block - 1]

    @cached_property
    def signature_rows(self) -> tuple[RowSum, ...]:
        """The maps, one per scale, by which every tuple takes the row of its voxel: (V_s, C) -> (U, C)."""
        columns = dict(zip(self.scales, self.signature.T.contiguous(), strict=True))  # equal scales share one entry
        first = list(columns)[:2][-1]  # the tuples are sorted by its rows, see `_rank_tuples`
        picks = {at: RowSum.gathering(rows, at.count, ascending=at is first) for at, rows in columns.items()}
        return tuple(picks[at] for at in self.scales)


def voxelize(
    points: Tensor, scan_ids: Tensor, volume: Volume, scale_list: Sequence[int], backend: SparseBackend
) -> Voxels:
    """Voxelises a batch at scale 1 and at every scale of `scale_list`.

    Points outside the volume (augmentation moves some out) get voxels beyond the grid. That is safe: nothing is indexed
    by a position in the grid.

    Args:
        points: (P, 4) float32: x, y, z (metres), intensity; or (P, 5) with the age.
        scan_ids: (P,) int64, number of the scan of each point.
        volume: the box and its grid.
        scale_list: scale of the voxels after each encoder block, for example (2, 4, 8, 16).
        backend: the sparse convolutions.
    """
    keys = _keys_by_scale(points, scan_ids, volume, scale_list)
    distinct = collect(rank_each(keys.values()))
    sets = {scale: VoxelSet(voxels, backend) for scale, voxels in zip(keys, distinct, strict=True)}
    base, scales = sets[1], tuple(sets[scale] for scale in scale_list)
    finer = (base, *scales[:-1])

    # Equal (coarse, fine) couples of scales, and equal sets of voxels that blocks work on, are computed once.
    couples = list(dict.fromkeys(zip(scales, finer, strict=True)))
    grouped = list(dict.fromkeys(finer))
    in_tuples = list(dict.fromkeys(scales))
    related = _relate_natively(couples, grouped, in_tuples) or _relate(couples, grouped, in_tuples)
    means = dict(zip(couples, related.means, strict=True))
    pools = {voxels: _pool(groups) for voxels, groups in zip(grouped, related.groups, strict=True)}
    signature = related.tuples
    example = signature.order[signature.ends[:-1]]  # one point of each tuple: it has the tuple's rows
    return Voxels(
        _input_features(points, base, volume),
        base,
        scales,
        tuple(means[couple] for couple in zip(scales, finer, strict=True)),
        tuple(pools[voxels] for voxels in finer),
        torch.stack([voxels.inverse.index_select(0, example) for voxels in scales], dim=1),
        RowSum.spreading(signature),
    )


def _keys_by_scale(points: Tensor, scan_ids: Tensor, volume: Volume, scale_list: Sequence[int]) -> dict[int, Tensor]:
    """Computes, for scale 1 and each scale of the list, the (P,) keys of the points' voxels."""
    low, high = constant(volume.low, points.device), constant(volume.high, points.device)
    scales, extent = list(dict.fromkeys([1, *scale_list])), high - low
    grids = [constant(tuple(float(math.ceil(g / scale)) for g in volume.grid), points.device) for scale in scales]
    if (found := native.voxel_keys(points, scan_ids, low, extent, grids)) is not None:
        return dict(zip(scales, found, strict=True))
    from_low = points[:, :3] - low
    keys = {}
    for scale, cells in zip(scales, grids, strict=True):
        # In float32, as published. Inside the volume, floor equals the published truncation; outside, truncation would
        # make one cell of two at the low faces. Clamped as floats: converting what is too large for int64 is undefined.
        x, y, z = torch.floor(cells * from_low / extent).clamp(-LIMIT, LIMIT).long().unbind(1)
        keys[scale] = pack(scan_ids, z, y, x)
    return keys


class _Related(NamedTuple):
    """The connections of scales: means of couples, groups of 2x2x2 of the voxels, the points' tuples of voxels."""

    means: list[RowSum]
    groups: list[Distinct]
    tuples: Distinct


def _relate(
    couples: Sequence[tuple[VoxelSet, VoxelSet]], grouped: Sequence[VoxelSet], in_tuples: Sequence[VoxelSet]
) -> _Related:
    """Connects the scales by ranking pairs, groups and tuples.

    Args:
        couples: (coarse, fine) voxels.
        grouped: the voxels whose groups are wanted.
        in_tuples: the distinct voxels of `scales`, in order.
    """
    pairs = [Ranking((coarse.inverse << _ROW_BITS) + fine.inverse) for coarse, fine in couples]
    groups = [Ranking(halve(voxels.keys)) for voxels in grouped]
    tuples = _rank_tuples(in_tuples, dict(zip(couples, pairs, strict=True)))
    found = collect([*pairs, *groups, tuples])
    means = [_mean_between(*couple, of_couple) for couple, of_couple in zip(couples, found, strict=False)]
    return _Related(means, found[len(couples) : -1], found[-1])


def _relate_natively(
    couples: Sequence[tuple[VoxelSet, VoxelSet]], grouped: Sequence[VoxelSet], in_tuples: Sequence[VoxelSet]
) -> _Related | None:
    """Computes the same as `_relate` with less to sort; None where PyTorch has to do it."""
    second, others = in_tuples[:2][-1], [*in_tuples[:2][:-1], *in_tuples[2:]]
    tuples = grouping.tuples(second.points, [voxels.inverse for voxels in others])
    means = grouping.shared_means([(coarse.points, fine.points) for coarse, fine in couples])
    if tuples is None or means is None:
        return None
    numbers = torch.arange(len(tuples.ends) - 1)
    sums = [RowSum(*mean, len(fine)) for mean, (_, fine) in zip(means, couples, strict=True)]
    groups = collect(rank_each([halve(voxels.keys) for voxels in grouped]))
    return _Related(sums, groups, Distinct(numbers, tuples.inverse, tuples.order, tuples.ends))


def _mean_between(coarse: VoxelSet, fine: VoxelSet, pairs: Distinct) -> RowSum:
    """Returns the mean that leads from fine to coarse voxels, weighted by the points that they share."""
    target = pairs.values >> _ROW_BITS
    source = pairs.values & ((1 << _ROW_BITS) - 1)
    ends = torch.searchsorted(target, torch.arange(coarse.count + 1, device=target.device))
    return RowSum(source, ends, pairs.ends.diff() / coarse.counts.index_select(0, target).float(), fine.count)


def _pool(groups: Distinct) -> Pool:
    return Pool(RowSum.within(groups), RowSum.spreading(groups))


def _rank_tuples(scales: Sequence[VoxelSet], pairs: dict[tuple[VoxelSet, VoxelSet], Ranking]) -> Ranking:
    """Ranks the points' tuples of voxel rows over `scales` (distinct, fine to coarse).

    The pairs (row at the second scale, row at the first scale) are ranked already, and a pair's rank stands for both
    rows. So the tuples are sorted by their row at the second scale, if there is one.
    """
    if len(scales) == 1:
        return Ranking(scales[0].inverse)
    ranking = pairs[scales[1], scales[0]]
    number, size = ranking.inverse, ranking.order.shape[0]
    for voxels in scales[2:]:
        # What does not fit into an int64 is ranked first; in an export, where sizes have no values, always.
        if torch.compiler.is_exporting() or size * voxels.count >= 1 << 63:
            number, size = Ranking(number).inverse, number.shape[0]
        number, size = number * voxels.count + voxels.inverse, size * voxels.count
    return Ranking(number)


def _input_features(points: Tensor, base: VoxelSet, volume: Volume) -> Tensor:
    """Computes (P, 10): x, y, z, intensity, offset from the mean of the voxel's points, offset from its low corner.

    The age, if there is one, comes last: (P, 11). So the weights of a network without it are those of one with it.
    """
    voxel_size, low = constant(volume.voxel_size, points.device), constant(volume.low, points.device)
    if (found := native.input_features(points, base.points, base.keys, low, voxel_size)) is not None:
        return found
    xyz = points[:, :3]
    _, z, y, x = unpack(base.keys)
    corner = torch.stack([x, y, z], dim=1) * voxel_size + low
    references = torch.cat([base.mean_of_points(xyz), corner], dim=1).index_select(0, base.inverse)
    return torch.cat([points[:, :4], xyz - references[:, :3], xyz - references[:, 3:], points[:, 4:]], dim=1)
