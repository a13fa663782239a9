"""Points -> voxels at every scale, and the averages that lead from one scale to the next.

Everything here is geometry: computed once per batch from the coordinates, then used by all layers. Scales do not nest
exactly (a coarse index is not the fine one divided), so each scale is voxelised from the points, and what leads from
scale to scale are the distinct (fine voxel, coarse voxel) pairs, weighted by the points they share.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from network.sparse.coordinates import halve, pack, unpack
from network.sparse.layers import KernelMap

MapMaker = Callable[[Tensor, int], KernelMap]


@dataclass(frozen=True)
class Volume:
    """The box that is voxelised.

    Attributes:
        low, high: its corners (x, y, z), metres.
        grid: voxels per axis (x, y, z) at scale 1.
    """

    low: tuple[float, float, float]
    high: tuple[float, float, float]
    grid: tuple[int, int, int]

    @property
    def voxel_size(self) -> tuple[float, ...]:
        """Edge lengths of a scale-1 voxel, metres."""
        return tuple((hi - lo) / g for lo, hi, g in zip(self.low, self.high, self.grid, strict=True))


@dataclass(frozen=True, eq=False)
class Average:
    """A mean over groups of rows: out[target] = sum of weight * features[source] over its entries.

    Attributes:
        source, target: (L,) int64 row numbers of the entries.
        weight: (L,) float32; the weights of one target add up to 1.
        num_targets: rows of the result.
    """

    source: Tensor
    target: Tensor
    weight: Tensor
    num_targets: int

    def __call__(self, features: Tensor) -> Tensor:
        """(rows, C) -> (num_targets, C), summed in at least fp32."""
        wide = torch.promote_types(features.dtype, torch.float32)
        weighted = features.index_select(0, self.source) * self.weight[:, None].to(wide)
        total = weighted.new_zeros(self.num_targets, features.shape[1]).index_add_(0, self.target, weighted)
        return total.to(features.dtype)


@dataclass(frozen=True, eq=False)
class VoxelSet:
    """The distinct voxels of the batch at one scale, in key order.

    Attributes:
        keys: (V,) int64, see `sparse.coordinates`.
        inverse: (P,) int64, the voxel of every point.
        counts: (V,) int64, points per voxel.
        make_map: the sparse backend's `submanifold_map`.
    """

    keys: Tensor
    inverse: Tensor
    counts: Tensor
    make_map: MapMaker

    def __len__(self) -> int:
        return len(self.keys)

    @cached_property
    def kernel_map(self) -> KernelMap:
        """Neighbours under a 3x3x3 kernel, shared by all layers of this scale."""
        return self.make_map(self.keys, 3)

    @cached_property
    def pooling(self) -> Average:
        """Mean over groups of 2x2x2 voxels (equal batch and coordinates // 2), each voxel counted once.

        `pooling.target` is the group of every voxel, so it also leads back: pooled[pooling.target].
        """
        groups, parent, counts = torch.unique(halve(self.keys), return_inverse=True, return_counts=True)
        rows = torch.arange(len(self), device=self.keys.device)
        return Average(rows, parent, 1 / counts.float()[parent], len(groups))

    def mean_of_points(self, values: Tensor) -> Tensor:
        """(P, C) values of the points -> (V, C) means over the points of each voxel, summed in at least fp32."""
        wide = torch.promote_types(values.dtype, torch.float32)
        total = values.new_zeros(len(self), values.shape[1], dtype=wide).index_add_(0, self.inverse, values.to(wide))
        return (total / self.counts[:, None]).to(values.dtype)

    def majority_label(self, labels: Tensor, num_classes: int) -> Tensor:
        """(P,) labels -> (V,) the most frequent label of each voxel's points; 0 votes too, ties go to the lowest."""
        votes = torch.bincount(self.inverse * num_classes + labels, minlength=len(self) * num_classes)
        # argmax does not promise which of equal votes it returns, so the label breaks the tie.
        order = torch.arange(num_classes - 1, -1, -1, device=labels.device)
        return (votes.view(-1, num_classes) * num_classes + order).argmax(dim=1)


@dataclass(frozen=True, eq=False)
class Voxels:
    """A batch of points as voxels at all scales.

    Attributes:
        features: (P, 10) float32 input features of the points.
        base: the voxels at scale 1.
        scales: the voxels at each entry of `scale_list` (equal scales share one object).
        means: for block i, the mean over the points of each voxel of `scales[i]`, of features that live on the voxels
            one scale finer; a fine voxel counts once per point.
        signature: (U, S) int64, the distinct tuples of voxel rows (one per scale) that occur among the points.
        signature_of_point: (P,) int64, the tuple of every point. What depends on the point only through its voxels
            is computed per tuple: on a 64-beam scan a quarter of the points.
    """

    features: Tensor
    base: VoxelSet
    scales: tuple[VoxelSet, ...]
    means: tuple[Average, ...]
    signature: Tensor
    signature_of_point: Tensor

    def finer(self, block: int) -> VoxelSet:
        """The voxels that block `block` works on."""
        return self.base if block == 0 else self.scales[block - 1]


def voxelize(points: Tensor, rows: Tensor, volume: Volume, scale_list: Sequence[int], make_map: MapMaker) -> Voxels:
    """Voxelise a batch at scale 1 and at every scale of `scale_list`.

    Points outside the volume (augmentation moves some out) get voxels of their own beyond the grid: nothing is indexed
    by a grid position, so nothing can go wrong there.

    Args:
        points: (P, 4) float32: x, y, z (m), intensity.
        rows: (P,) int64, scan of each point.
        volume: the box and its grid.
        scale_list: scale of the voxels after each encoder block, for example (2, 4, 8, 16).
        make_map: `submanifold_map` of a sparse backend.
    """
    low, high = points.new_tensor(volume.low), points.new_tensor(volume.high)
    from_low, extent = points[:, :3] - low, high - low
    sets = {}
    for scale in dict.fromkeys([1, *scale_list]):
        cells = points.new_tensor([math.ceil(g / scale) for g in volume.grid])
        # In float32, as published. Inside the volume floor is the published truncation; outside, truncation
        # would fold two cells into one at the low faces.
        sets[scale] = _voxel_set(torch.floor(cells * from_low / extent).long(), rows, make_map)
    base = sets[1]
    scales = tuple(sets[scale] for scale in scale_list)
    means, pair_of_point = [], []
    for fine, coarse in zip((base, *scales[:-1]), scales, strict=True):
        mean, pair = _mean_between(fine, coarse)
        means.append(mean)
        pair_of_point.append(pair)
    # The first scale may repeat; behind its repetitions stand the pairs of the first and the second distinct scale.
    first_pairs = pair_of_point[min(scale_list.count(scale_list[0]), len(pair_of_point) - 1)]
    signature, signature_of_point = _signatures(list(sets.values())[1:], first_pairs)
    columns = [list(sets).index(scale) - 1 for scale in scale_list]
    return Voxels(
        _input_features(points, base, volume), base, scales, tuple(means), signature[:, columns], signature_of_point
    )


def _voxel_set(index: Tensor, rows: Tensor, make_map: MapMaker) -> VoxelSet:
    """The voxels of (P, 3) int64 cell indices (x, y, z)."""
    keys = pack(rows, index[:, 2], index[:, 1], index[:, 0])
    distinct, inverse, counts = torch.unique(keys, return_inverse=True, return_counts=True)
    return VoxelSet(distinct, inverse, counts, make_map)


def _mean_between(fine: VoxelSet, coarse: VoxelSet) -> tuple[Average, Tensor]:
    """The mean that leads from fine to coarse voxels, and each point's (fine, coarse) pair."""
    pairs, pair_of_point, shared = torch.unique(
        fine.inverse * len(coarse) + coarse.inverse, return_inverse=True, return_counts=True
    )
    source = torch.div(pairs, max(len(coarse), 1), rounding_mode="floor")
    target = pairs - source * len(coarse)
    return Average(source, target, shared / coarse.counts[target].float(), len(coarse)), pair_of_point


def _signatures(sets: list[VoxelSet], first_pairs: Tensor) -> tuple[Tensor, Tensor]:
    """Distinct tuples of voxel rows over `sets` (distinct scales, fine to coarse), and the tuple of every point.

    `first_pairs` numbers the (first, second scale) pair of every point, where there are two scales or more.
    """
    if len(sets) == 1:
        return torch.arange(len(sets[0]), device=sets[0].keys.device)[:, None], sets[0].inverse
    tuple_of_point = first_pairs
    for voxels in sets[2:]:
        combined = tuple_of_point * len(voxels) + voxels.inverse
        tuple_of_point = torch.unique(combined, return_inverse=True)[1]
    # Any point of a tuple can say what the tuple is: scatter point numbers, the last one written wins.
    count = int(tuple_of_point.max()) + 1 if len(tuple_of_point) else 0
    points = torch.arange(len(tuple_of_point), device=tuple_of_point.device)
    example = points.new_zeros(count).scatter_(0, tuple_of_point, points)
    return torch.stack([voxels.inverse[example] for voxels in sets], dim=1), tuple_of_point


def _input_features(points: Tensor, base: VoxelSet, volume: Volume) -> Tensor:
    """(P, 10): x, y, z, intensity, offset from the mean of the voxel's points, offset from the voxel's low corner."""
    xyz = points[:, :3]
    _, z, y, x = unpack(base.keys)
    corner = torch.stack([x, y, z], dim=1) * xyz.new_tensor(volume.voxel_size) + xyz.new_tensor(volume.low)
    references = torch.cat([base.mean_of_points(xyz), corner], dim=1)[base.inverse]
    return torch.cat([points, xyz - references[:, :3], xyz - references[:, 3:]], dim=1)
