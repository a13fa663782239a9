"""The voxels of a U-Net: voxels of a fixed size, and coarser levels, each of half the resolution of the one before.

Unlike in `voxelize`, the levels nest: a coarse voxel is 2 x 2 x 2 finer ones. The V0 finest voxels are also the
"points" of SPVCNN's point branch: one point per voxel, at the voxel's integer coordinates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from network.native import interpolation
from network.ops.constant import constant
from network.ops.distinct import collect, rank_each
from network.ops.sums import RowSum
from network.sparse.coordinates import LIMIT, STEP_X, STEP_Y, halve, pack, unpack
from network.sparse.layers import KernelMap, SparseBackend
from utils.scan.records import Batch

_SAMPLE = 4096  # points that are enough to find the middle of a scan
_FARTHEST = 2.0**40  # cells; converting a float beyond the range of int64 is undefined
_MISSING = 1e-8  # added to the sum of trilinear weights: a point without neighbours must not divide by zero


@dataclass(frozen=True, eq=False)
class Level:
    """The voxels of one stride, in the order of their keys.

    Attributes:
        keys: (V,) int64, see `sparse.coordinates`.
        inverse: (V0,) int64, row of the voxel that holds each finest voxel.
        backend: the sparse convolutions.
    """

    keys: Tensor
    inverse: Tensor
    backend: SparseBackend

    def __len__(self) -> int:
        return len(self.keys)

    @cached_property
    def kernel_map(self) -> KernelMap:
        """The kernel map of 3x3x3 submanifold convolutions, shared by all layers of this level."""
        return self.backend.submanifold_map(self.keys, 3)

    @cached_property
    def mean_of_points(self) -> RowSum:
        """The mean over the finest voxels in each voxel: (V0, C) -> (V, C)."""
        return RowSum.grouping(self.inverse, self.keys.shape[0])


@dataclass(frozen=True, eq=False)
class Pyramid:
    """A frozen record of a batch of points as voxels of several levels.

    Attributes:
        features: (V0, 4) float32: x, y, z (metres) and intensity of the first point, in file order, of a finest voxel;
            (V0, 5) with its age. The points of past sweeps come after those of the scan.
        first: (V0,) int64, row of that first point.
        inverse: (P,) int64, row of the finest voxel of each point.
        levels: the voxels at strides 1, 2, 4, ...; the "points" of each level are the finest voxels.
        down: the kernel maps of the convolutions of size 2 and stride 2 from level i to level i + 1.
    """

    features: Tensor
    first: Tensor
    inverse: Tensor
    levels: tuple[Level, ...]
    down: tuple[KernelMap, ...]

    @cached_property
    def up(self) -> tuple[KernelMap, ...]:
        """The kernel maps from level i + 1 back to level i: `down` transposed."""
        return tuple(pairs.transposed() for pairs in self.down)

    def trilinear(self, level: int) -> RowSum:
        """Returns the trilinear interpolation of features from `level` to the finest voxels: (V, C) -> (V0, C).

        Of the 8 voxels around a finest voxel only those that exist count; their weights add up to 1 (Tang et al., ECCV
        2020, section 3.1).
        """
        stride, keys = 1 << level, self.levels[level].keys
        finest, inverse = self.levels[0].keys, self.levels[level].inverse
        if (entries := interpolation.trilinear(finest, inverse, level, keys)) is not None:
            return RowSum(*entries, keys.shape[0])
        batch, *position = unpack(finest)
        base = [torch.div(axis, stride, rounding_mode="floor") for axis in position]
        shares = [(axis - low * stride) / stride for axis, low in zip(position, base, strict=True)]
        origin = pack(batch, *base)
        of_z, of_y, of_x = ((1 - share, share) for share in shares)
        corners, weights = [], []
        for dy, dx in ((0, 0), (0, 1), (1, 0), (1, 1)):
            wanted = origin + (dy * STEP_Y + dx * STEP_X)
            row = torch.searchsorted(keys, wanted)
            for dz in (0, 1):  # the next voxel in z has the next key, if it exists
                corner = row.clamp(max=keys.shape[0] - 1)
                there = keys[corner] == wanted + dz
                corners.append(corner)
                weights.append(of_z[dz] * of_y[dy] * of_x[dx] * there)
                row = row + there
        weight = torch.stack(weights, dim=1)
        weight = weight / (weight.sum(dim=1, keepdim=True) + _MISSING)
        ends = 8 * torch.arange(origin.shape[0] + 1, device=keys.device)
        return RowSum(torch.stack(corners, dim=1).view(-1), ends, weight.view(-1), keys.shape[0])


def build_pyramid(batch: Batch, voxel_size: float, num_levels: int, backend: SparseBackend) -> Pyramid:
    """Voxelises a batch at several levels.

    Args:
        batch: its points and scan_ids are used.
        voxel_size: edge of a finest voxel, metres.
        num_levels: number of levels, of strides 1, 2, ..., 2^(num_levels - 1).
        backend: the sparse convolutions.
    """
    # The keys of the points at all levels first: the host then waits only once for the numbers of voxels.
    keys = [_cells(batch, voxel_size)]
    for _ in range(num_levels - 1):
        keys.append(halve(keys[-1]))
    finest, *coarser = collect(rank_each(keys))
    first = finest.order[finest.ends[:-1]]
    rows = torch.arange(finest.values.shape[0], device=first.device)
    levels, down = [Level(finest.values, rows, backend)], []
    for voxels in coarser:
        fine = levels[-1]
        of_finest = voxels.inverse[first]
        parent = of_finest.new_empty(fine.keys.shape[0]).scatter_(0, fine.inverse, of_finest)
        down.append(backend.halving_map(fine.keys, parent, voxels.values.shape[0]))
        levels.append(Level(voxels.values, of_finest, backend))
    return Pyramid(batch.points[first], first, finest.inverse, tuple(levels), tuple(down))


def _cells(batch: Batch, voxel_size: float) -> Tensor:
    """Computes (P,) keys of round(xyz / voxel size) minus the lowest cell of the scan, in float32 as published."""
    # The divisor is a tensor: by a number, a GPU multiplies with the reciprocal and rounds some points differently.
    cell = torch.round(batch.points[:, :3] / constant((voxel_size,), batch.points.device))
    cell = cell.clamp(-_FARTHEST, _FARTHEST).long()
    # Coordinates count from the middle of the scan: a stray point kilometres away must not push the other points beyond
    # the limit of the keys, and a scan far from the origin must not be clamped.
    cell = (cell - _middle_of_scans(cell, batch.lengths)[batch.scan_ids]).clamp(-(LIMIT // 2), LIMIT // 2)
    scan = batch.scan_ids[:, None].expand(-1, 3)
    lowest = cell.new_zeros(batch.num_scans, 3).scatter_reduce_(0, scan, cell, "amin", include_self=False)
    x, y, z = (cell - lowest[batch.scan_ids]).unbind(1)
    return pack(batch.scan_ids, z, y, x)


def _middle_of_scans(cell: Tensor, lengths: Sequence[int]) -> Tensor:
    """Computes the (B, 3) int64 median cell of each scan, from a sample of points that is spread over the scan."""
    if torch.compiler.is_exporting():  # one scan, of a number of points that has no value
        return _middle(cell)[None]
    middle = cell.new_zeros(len(lengths), 3)
    for row, of_scan in zip(middle, cell.split(list(lengths)), strict=True):
        if len(of_scan):
            row.copy_(_middle(of_scan))
    return middle


def _middle(cell: Tensor) -> Tensor:
    """Computes the (3,) median of the cells (n, 3) of a scan; n is 1 or more."""
    count = cell.shape[0]
    step = -(-count // _SAMPLE)
    # Of fixed size, for exports: what is beyond the end of the scan comes last.
    rows = torch.arange(_SAMPLE, device=cell.device) * step
    some = cell.index_select(0, rows.clamp(max=count - 1))
    some = some.masked_fill((rows >= count)[:, None], torch.iinfo(torch.int64).max).sort(dim=0).values
    return some.index_select(0, (rows < count).sum()[None] // 2)[0]
