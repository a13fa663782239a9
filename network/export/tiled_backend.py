"""Sparse convolution with few operations of any size, and no number that the host must read: what a program can hold.

The pairs of a kernel map are put into tiles of `TILE` pairs of one kernel offset. So all products of a convolution are
one batched product, whatever the number of pairs; the products of each output row are then added up.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from network.ops.linear import compute_dtype, finish
from network.ops.sums import sum_bags
from network.sparse.coordinates import STEP_X, STEP_Y, unpack
from network.sparse.layers import SparseBackend

TILE = 128
"""Pairs of a tile: with more, more products are of no use; with fewer, weights are copied more often."""


@dataclass(frozen=True, eq=False)
class TiledMap:
    """A kernel map as a table: under each of K offsets, the input row that contributes to each output row.

    Attributes:
        table: (num_outputs, K) int64, an input row; `num_inputs` where there is none.
        num_inputs: number of input rows.
        identity: the offset that maps every row to itself, or None. In the table it has no rows.
        backward: the table of the transposed map, where it is known.
    """

    table: Tensor
    num_inputs: int
    identity: int | None = None
    backward: Tensor | None = None

    def transposed(self) -> TiledMap:
        """Returns the map of the transposed (inverse) convolution."""
        assert self.backward is not None
        return TiledMap(self.backward, self.table.shape[0], self.identity, self.table)

    @cached_property
    def _tiles(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The tiles, and the bags of products of the output rows.

        Returns:
            (tiles * TILE,) int64 input rows, (tiles,) int64 offset of each tile, (pairs,) int64 products in the order
            of their output rows, and (num_outputs + 1,) int64 where those of each output row begin.
        """
        there = self.table < self.num_inputs
        place = there.cumsum(0)  # from 1, among the pairs of the offset
        tiles = (place[-1] + TILE - 1) // TILE
        ends = tiles.cumsum(0)
        place += (ends - tiles) * TILE - 1
        pair, offset = there.nonzero().unbind(1)
        products = place[pair, offset]
        # There may be a few tiles more than are needed, so that their number follows from that of the pairs.
        count = pair.shape[0] // TILE + self.table.shape[1]
        rows = torch.zeros(count * TILE, dtype=torch.int64, device=there.device)
        rows = rows.scatter(0, products, self.table[pair, offset])
        of_tile = torch.searchsorted(ends, torch.arange(count, device=there.device), right=True)
        bags = torch.cat([ends.new_zeros(1), there.sum(1).cumsum(0)])
        return rows, of_tile.clamp(max=self.table.shape[1] - 1), products, bags

    def convolve(
        self,
        features: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        residual: Tensor | None = None,
        slope: float = 1.0,
    ) -> Tensor:
        """Computes LeakyReLU(convolution + bias + residual) without gradients; see `torch_backend.PairMap.convolve`."""
        features, weight = (tensor.to(compute_dtype(features)) for tensor in (features, weight))
        rows, of_tile, products, bags = self._tiles
        tiles = features.index_select(0, rows).view(-1, TILE, weight.shape[1])
        multiplied = torch.bmm(tiles, weight.index_select(0, of_tile)).view(-1, weight.shape[2])
        out = sum_bags(multiplied, products, bags)
        if self.identity is not None:
            out = out.addmm(features, weight[self.identity])
        if bias is not None:
            out = out + bias
        return finish(out, residual, slope)


def submanifold_map(keys: Tensor, kernel_size: int) -> TiledMap:
    """Builds the map of a submanifold convolution of kernel size 3; see `torch_backend.submanifold_map`."""
    assert kernel_size == 3
    count = keys.shape[0]
    columns = [keys.new_full((1,), count).expand(count)] * 27
    for dy, dx in ((dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)):
        target = keys + (dy * STEP_Y + dx * STEP_X - 1)
        position = torch.searchsorted(keys, target)
        # Three neighbours in z have consecutive keys: the next rows, as far as they are there.
        for dz in (-1, 0, 1):
            row = position.clamp(max=count - 1)
            hit = keys.index_select(0, row) == target + (dz + 1)
            if (dz, dy, dx) != (0, 0, 0):
                columns[(dz + 1) * 9 + (dy + 1) * 3 + dx + 1] = torch.where(hit, row, count)
            position = position + hit
    return TiledMap(torch.stack(columns, dim=1), count, identity=13)


def halving_map(keys: Tensor, parent: Tensor, num_coarse: int) -> TiledMap:
    """Builds the map of a convolution of size and stride 2; see `torch_backend.halving_map`."""
    count = keys.shape[0]
    _, z, y, x = unpack(keys)
    offset = (z % 2) * 4 + (y % 2) * 2 + x % 2
    rows = torch.arange(count, device=keys.device)
    forward = keys.new_full((num_coarse * 8,), count).scatter(0, parent * 8 + offset, rows)
    backward = keys.new_full((count * 8,), num_coarse).scatter(0, rows * 8 + offset, parent)
    return TiledMap(forward.view(-1, 8), count, None, backward.view(-1, 8))


BACKEND = SparseBackend("tiled", submanifold_map, halving_map)
