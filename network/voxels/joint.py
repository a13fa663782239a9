"""The voxels of the 3D network with few operations, as a GPU needs it: two sorts, and sizes that can be fixed.

The results are those of `voxelize`, to the last bit. Tensors of all scales are computed as one wherever that is
possible. With fixed sizes (`ops.together.Filling`) the host waits for nothing; the batch must then end with padding.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from network.ops.constant import constant
from network.ops.distinct import Distinct, Ranking
from network.ops.sums import RowSum
from network.ops.together import SPREAD, Finish, Found, JointRanking, Reading
from network.sparse.coordinates import BIAS, LIMIT, STEP_X, STEP_Y
from network.sparse.layers import SparseBackend
from network.voxels.voxelize import Pool, Voxels, VoxelSet
from utils.scan.volume import Volume

_SCAN = 48  # the bits of a key from here on are the number of the scan
_ROW_BITS = 32  # a pair of voxel rows is one int64: the coarse row above these bits, the fine row in them
_SAME_GROUP = ~(1 | STEP_X | STEP_Y)  # without its lowest bit, a coordinate is the same in a group of 2x2x2


@dataclass(frozen=True)
class Plan:
    """A frozen record of which lists of keys, pairs, groups and tuples a list of scales needs.

    Attributes:
        scales: the distinct scales, scale 1 first; list k holds the keys at scales[k].
        blocks: for each block, the number of the list of its coarse voxels.
    """

    scales: tuple[int, ...]
    blocks: tuple[int, ...]

    @staticmethod
    def of(scale_list: Sequence[int]) -> Plan | None:
        """Returns the plan; None if some block leads back to a scale that came earlier."""
        scales = tuple(dict.fromkeys([1, *scale_list]))
        blocks = tuple(scales.index(scale) for scale in scale_list)
        steps = {coarse - fine for coarse, fine in zip(blocks, (0, *blocks[:-1]), strict=True)}
        return Plan(scales, blocks) if steps <= {0, 1} else None

    @property
    def couples(self) -> int:
        """The number of couples of scales: list k + 1 is the coarse side of couple k, list k the fine one."""
        return len(self.scales) - 1

    @property
    def finer(self) -> tuple[int, ...]:
        """The number of the list of the fine voxels of each block."""
        return (0, *self.blocks[:-1])

    @property
    def grouped(self) -> int:
        """The number of lists whose voxels are put into groups: the first so many."""
        return max(self.finer) + 1

    @property
    def in_tuples(self) -> tuple[int, ...]:
        """The numbers of the lists whose rows make up a tuple, fine to coarse."""
        return tuple(dict.fromkeys(self.blocks))


def voxelize_jointly(
    points: Tensor,
    scan_ids: Tensor,
    num_scans: int,
    volume: Volume,
    plan: Plan,
    backend: SparseBackend,
    finish: Finish | None = None,
) -> Voxels:
    """Voxelises a batch at scale 1 and at every scale of the plan; see `voxelize.voxelize`.

    Args:
        points: (P, 4) or (P, 5) float32.
        scan_ids: (P,) int64, number of the scan of each point, below `num_scans`.
        num_scans: number of scans, with that of the padding.
        volume: the box and its grid.
        plan: the scales.
        backend: the sparse convolutions.
        finish: how the numbers of voxels and so on become known; None: the host reads them.
    """
    finish, numbering = finish or Reading(), _Numbering(len(plan.scales), num_scans, len(points))
    cells, keys = _keys(points, scan_ids, volume, plan.scales, numbering)
    ranking = JointRanking(keys.view(-1), [len(points)] * len(plan.scales))
    found = finish(ranking)
    values = found.values(found.slots[-1], step=2 * STEP_Y)
    of_lists = torch._foreach_sub(found.cut(values), numbering.scan_bases)
    sets = [VoxelSet(found.distinct(k, found.stacked[k], keys), backend) for k, keys in enumerate(of_lists)]

    groups = found.cut(values[: found.slots[plan.grouped]] & _SAME_GROUP)[: plan.grouped]
    pairs, tuples = _pairs_and_tuples(found, plan, numbering)
    lengths = [len(points)] * plan.couples + [len(rows) for rows in groups]
    parts = [pairs.view(-1), *groups]
    if tuples is not None:
        second = JointRanking(torch.cat([*parts, tuples]), [*lengths, len(points)])
        related = of_tuples = finish(second)
    else:
        second = JointRanking(torch.cat(parts), lengths)
        related = finish(second)
        of_tuples = finish(JointRanking(_tuples_of_pairs(found.stacked, second, found, plan), [len(points)]))

    means = _means(found, related, plan)
    pools, signature = _pools_and_tuples(related, of_tuples, plan)
    return Voxels(
        _input_features(points, cells, sets[0], volume),
        sets[0],
        tuple(sets[k] for k in plan.blocks),
        tuple(
            means[fine] if coarse > fine else _same(found, coarse)
            for coarse, fine in zip(plan.blocks, plan.finer, strict=True)
        ),
        tuple(pools[k] for k in plan.finer),
        _rows(found.stacked, of_tuples.examples(len(of_tuples.sizes) - 1), plan).T,
        RowSum.spreading(signature),
    )


def padding(count: int, columns: int, volume: Volume, plan: Plan) -> Tensor | None:
    """Makes points of a scan that pads a batch to a fixed size: `SPREAD` in one place, at all scales.

    No two places are neighbours at any scale, so that they cost little.

    Returns:
        (count, columns) float32; None if there is not enough space for so many.
    """
    apart = 2 * max(plan.scales)  # cells of scale 1
    along = LIMIT // apart
    place = torch.arange(count, device="cpu") // SPREAD
    if count > SPREAD * along * along:
        return None
    points = torch.zeros(count, columns, device="cpu")
    for axis, number in enumerate((place % along, place // along)):
        points[:, axis] = volume.low[axis] + (number + 0.25) * apart * volume.voxel_size[axis]
    points[:, 2] = volume.low[2]
    return points


class _Numbering:
    """The ranges of numbers in which the lists of a batch lie, so that several lists can be sorted as one.

    From low to high: the pairs; the keys of each scale, and their groups; the tuples.
    """

    def __init__(self, num_lists: int, num_scans: int, num_points: int) -> None:
        # A power of two, so that there are few different numbers, which are kept on the device.
        above_pairs = 1 << (num_lists * (num_points + 1) >> (_SCAN - _ROW_BITS)).bit_length()
        self.scan_bases = [(above_pairs + k * num_scans) << _SCAN for k in range(num_lists)]
        self.of_tuples = (above_pairs + num_lists * num_scans) << _SCAN

    @property
    def fits(self) -> bool:
        """True if the keys fit into an int64."""
        return self.of_tuples < 1 << 62


def fits(plan: Plan, num_scans: int, num_points: int) -> bool:
    """Returns whether a batch can be voxelised jointly: it has points, and its lists together fit into an int64."""
    return num_points > 0 and _Numbering(len(plan.scales), num_scans, num_points).fits


def _keys(
    points: Tensor, scan_ids: Tensor, volume: Volume, scales: Sequence[int], numbering: _Numbering
) -> tuple[Tensor, Tensor]:
    """Computes the (S, P, 3) float32 cells of the points at all scales, and their (S, P) keys.

    In float32, as published; see `voxelize._keys_by_scale`.
    """
    device = points.device
    low = constant(volume.low, device)
    corners = np.array([volume.low, volume.high], dtype=np.float32)
    extent = constant(tuple((corners[1] - corners[0]).tolist()), device)
    grid = [float(math.ceil(g / scale)) for scale in scales for g in volume.grid]
    cells = (constant(tuple(grid), device).view(-1, 1, 3) * (points[:, :3] - low)).div_(extent).floor_()
    cells = cells.clamp_(-LIMIT, LIMIT)
    bias = BIAS * (STEP_X + STEP_Y + 1)
    bases = constant(tuple(base + bias for base in numbering.scan_bases), device, torch.int64)
    keys = torch.add(bases[:, None], scan_ids, alpha=1 << _SCAN)
    steps = constant((STEP_X, STEP_Y, 1), device, torch.int64)
    return cells, keys.add_(cells.long().mul_(steps).sum(2))


def _pairs_and_tuples(found: Found, plan: Plan, numbering: _Numbering) -> tuple[Tensor, Tensor | None]:
    """Numbers the pairs and the tuples of the points.

    Returns:
        (couples, P) pairs: the slot of the coarse voxel, and the row of the fine one. (P,) tuples of voxel rows, None
        if they do not fit; the second scale counts most, see `Voxels.signature_rows`.
    """
    rows = found.stacked
    pairs = torch.add(rows[:-1], rows[1:], alpha=1 << _ROW_BITS)
    lists, bases = [*pairs.unbind()], [slot << _ROW_BITS for slot in found.slots[1 : len(found.sizes)]]
    first, *others = plan.in_tuples
    order = [*others[:1], first, *others[1:]]
    tuples = None
    if numbering.of_tuples + math.prod(found.sizes[k] for k in order) < 1 << 63:
        tuples, step = rows[order[-1]], found.sizes[order[-1]]
        for k in reversed(order[:-1]):
            tuples, step = torch.add(tuples, rows[k], alpha=step), step * found.sizes[k]
        if len(order) > 1:
            lists, bases = [*lists, tuples], [*bases, numbering.of_tuples]
        else:  # they are the rows of the only scale, which are needed as they are
            tuples = tuples + numbering.of_tuples
    if lists:
        torch._foreach_add_(lists, bases)
    return pairs, tuples


def _tuples_of_pairs(inverses: Tensor, second: JointRanking, found: Found, plan: Plan) -> Tensor:
    """Computes the (P,) tuples from the ranks of the pairs at the first two scales, which are ranked already."""
    _, of_second, *others = plan.in_tuples
    number, size = second.inverse(of_second - 1), inverses.shape[1]
    for k in others:
        if size * found.sizes[k] >= 1 << 63:
            number, size = Ranking(number).inverse, inverses.shape[1]
        number, size = torch.add(inverses[k], number, alpha=found.sizes[k]), size * found.sizes[k]
    return number


def _means(found: Found, related: Found, plan: Plan) -> list[RowSum]:
    """Returns for each couple the mean from fine to coarse voxels, weighted by the points that they share."""
    if not plan.couples:
        return []
    end = related.slots[plan.couples]
    pairs = related.values(end, step=1 << _ROW_BITS)
    target = pairs >> _ROW_BITS
    counts = found.counts
    if related.excess is not None:  # pairs that are not there must not go on into the voxels of the next scale
        last = [slot + size - 1 for slot, size in zip(found.slots[1:], found.sizes[1:], strict=False)]
        torch._foreach_clamp_max_(_between(target, related.slots[: plan.couples + 1]), last)
        counts = counts.clamp(min=1)
    weights = related.counts[:end] / counts.index_select(0, target)
    pairs = pairs & ((1 << _ROW_BITS) - 1)
    sources = _between(pairs, related.slots[: plan.couples + 1])
    begins = torch.searchsorted(target, found.slot[found.slots[1] : len(found.begins)])
    ends = torch._foreach_sub(found.cut(begins, ends=True, first=1), related.slots[: plan.couples])
    weighted = _between(weights, related.slots[: plan.couples + 1])
    means = [
        RowSum(source, end, weight, found.sizes[fine])
        for fine, (source, end, weight) in enumerate(zip(sources, ends, weighted, strict=True))
    ]
    _prepare_narrow(means, ends, weights, pairs, related.slots[: plan.couples + 1])
    return means


def _prepare_narrow(
    means: Sequence[RowSum], ends: Sequence[Tensor], weights: Tensor, sources: Tensor, bounds: Sequence[int]
) -> None:
    """Prepares the means for rows in the type of autocast, all at once; see `RowSum.weighted_bags`."""
    dtype = torch.get_autocast_dtype(weights.device.type) if torch.is_autocast_enabled(weights.device.type) else None
    if dtype is None or weights.device.type == "cpu" or dtype.itemsize >= weights.dtype.itemsize:
        return
    both = torch.empty((len(weights), 2), dtype=dtype, device=weights.device)
    both[:, 0].copy_(weights)
    torch.sub(weights, both[:, 0], out=both[:, 1])
    twice = sources[:, None].expand(-1, 2).reshape(-1)
    doubled = torch._foreach_mul([*ends], 2)
    for mean, its_ends, (begin, end) in zip(means, doubled, pairwise(bounds), strict=True):
        mean.keep_weighted(dtype, (twice[2 * begin : 2 * end], its_ends, both.view(-1)[2 * begin : 2 * end]))


def _between(joint: Tensor, bounds: Sequence[int]) -> list[Tensor]:
    return [joint[begin:end] for begin, end in pairwise(bounds)]


def _same(found: Found, number: int) -> RowSum:
    """Returns the mean from the voxels of a scale to themselves."""
    size = found.sizes[number]
    return RowSum.gathering(found.slot[:size], size, ascending=True)


def _pools_and_tuples(related: Found, of_tuples: Found, plan: Plan) -> tuple[list[Pool], Distinct]:
    """Returns the groups of every list that has some, and the tuples, which are the last list of `of_tuples`."""
    numbers, last = range(plan.couples, plan.couples + plan.grouped), len(of_tuples.sizes) - 1
    groups = [related.distinct(number, related.inverses[number]) for number in numbers]
    pools = [Pool(RowSum.within(group), RowSum.spreading(group)) for group in groups]
    return pools, of_tuples.distinct(last, of_tuples.inverses[last])


def _rows(inverses: Tensor, points: Tensor, plan: Plan) -> Tensor:
    """Computes the rows of the voxels of some points (U,) at the scale of each of the S blocks, (S, U) int64."""
    first = plan.blocks[0]
    rows = inverses[first:].index_select(1, points)
    return rows if len(rows) == len(plan.blocks) else torch.stack([rows[k - first] for k in plan.blocks])


def _input_features(points: Tensor, cells: Tensor, base: VoxelSet, volume: Volume) -> Tensor:
    """Computes the (P, 10) or (P, 11) features of `voxelize._input_features`, from the (S, P, 3) cells."""
    xyz = points[:, :3]
    corner = cells[0] * constant(volume.voxel_size, points.device) + constant(volume.low, points.device)
    mean = base.mean_of_points(points).index_select(0, base.inverse)[:, :3]
    return torch.cat([points[:, :4], xyz - mean, xyz - corner, points[:, 4:]], dim=1)
