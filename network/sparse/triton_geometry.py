# ruff: noqa: ANN001, ANN202 -- the arguments of Triton kernels have no Python types
"""Triton kernels that find neighbouring voxels and sort the output rows into tiles; see `triton_backend`.

Nothing here waits for the device: every size follows from the number of voxels, and what depends on the data (the
number of neighbours) stays on the device.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from network.sparse.coordinates import STEP_X, STEP_Y, kernel_offsets

# Rows of an output tile: one constant, so that all layers on a voxel set share one set of tiles. The matrix unit of a
# Hopper GPU takes 64 rows at a time. An offset is live in a tile if any of its rows has a neighbour there: on a scan of
# SemanticKITTI, tiles of 32 / 64 / 128 rows compute 1.6 / 1.7 / 1.85 times the products that are needed. Smaller tiles
# give a GPU more to do in parallel at coarse scales; larger tiles read the weights less often.
TILE = 64

_STEP_X, _STEP_Y = tl.constexpr(STEP_X), tl.constexpr(STEP_Y)
_SEARCHED = 64  # rows per program of the neighbour search
_SCATTERED = 256  # rows per program of kernels that treat each row by itself


@dataclass(frozen=True, eq=False)
class Tiles:
    """The N output rows of a convolution, sorted by their live offsets and cut into T tiles of `TILE` rows.

    K is the kernel volume. An offset is live for a row if the row has a neighbour there.

    Attributes:
        order: (N,) int64, the output row at each place of the sorted order.
        live: (T, K) int32, the offsets that are live for any row of a tile, ascending; entries past `num_live` are not
            used.
        num_live: (T,) int32, number of live offsets of a tile.
        neighbours: (T, K, TILE) int32, the input row for each live offset (in the order of `live`) and each row of a
            tile; -1 for none. A tile's neighbours can be read before its offsets are known: one load less to wait for.
        hits: (K, T) int32, number of rows of a tile for which an offset is live.
    """

    order: Tensor
    live: Tensor
    num_live: Tensor
    neighbours: Tensor
    hits: Tensor


@dataclass(frozen=True, eq=False)
class Pairs:
    """The (input row, output row) pairs of all K offsets, offset by offset.

    Attributes:
        inputs, outputs: (capacity,) int32 rows; entries after the last pair are not used.
        ends: (K,) int32, where the pairs of each offset end.
    """

    inputs: Tensor
    outputs: Tensor
    ends: Tensor


def launch(kernel: Any, programs: int | Callable[[dict[str, Any]], int], *arguments: Any, **constants: Any) -> None:
    """Starts a kernel.

    Args:
        kernel: a function decorated with `triton.jit`.
        programs: number of programs, or a function that computes it from the chosen block sizes.
        arguments: arguments of the kernel; the first is a tensor on the device to run on, which need not be the current
            device.
        constants: compile-time arguments by name.
    """
    if programs == 0:
        return
    grid = (programs,) if isinstance(programs, int) else lambda config: (programs(config),)
    with torch.cuda.device_of(arguments[0]):
        kernel[grid](*arguments, **constants)


def blocks(length: int, size: int) -> int:
    """Computes how many blocks of a size cover a length."""
    return -(-length // size)


def find_neighbours(keys: Tensor) -> Tensor:
    """Finds the neighbours of every voxel in a 3x3x3 kernel.

    Args:
        keys: (V,) int64 sorted distinct keys.

    Returns:
        (27, V) int32 rows of the neighbours, -1 for none.

    Raises:
        ValueError: more voxels than the 32-bit indices of the kernels can count.
    """
    _check_size(27, len(keys))
    table = keys.new_empty((27, len(keys)), dtype=torch.int32)
    programs = blocks(len(keys), _SEARCHED)
    launch(_neighbour_kernel, programs, keys, table, len(keys), len(keys).bit_length(), ROWS=_SEARCHED)
    return table


@triton.jit(do_not_specialize=["num_rows", "steps"])
def _neighbour_kernel(keys, table, num_rows, steps, ROWS: tl.constexpr):
    """Searches nine columns per voxel at once: three neighbours in z have consecutive keys."""
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)[:, None]
    column = tl.arange(0, 16)[None, :]  # 9 of 16 are used: shapes are powers of 2
    used = (rows < num_rows) & (column < 9)
    key = tl.load(keys + rows, mask=rows < num_rows, other=0)
    lowest = key + (column // 3 - 1).to(tl.int64) * _STEP_Y + (column % 3 - 1).to(tl.int64) * _STEP_X - 1
    low = tl.full([ROWS, 16], 0, tl.int32)
    high = tl.where(used, num_rows, low)
    for _ in range(steps):
        middle = (low + high) // 2
        searching = low < high
        below = tl.load(keys + middle, mask=searching, other=0) < lowest
        low = tl.where(searching & below, middle + 1, low)
        high = tl.where(searching & ~below, middle, high)
    for dz in tl.static_range(3):  # pyright: ignore[reportGeneralTypeIssues]
        found = tl.load(keys + low, mask=used & (low < num_rows), other=-1)
        hit = found == lowest + dz
        tl.store(table + (dz * 9 + column) * num_rows + rows, tl.where(hit, low, -1), mask=used)
        low += hit.to(tl.int32)


def find_children(keys: Tensor, parent: Tensor, num_coarse: int) -> tuple[Tensor, Tensor]:
    """Finds the neighbours of a convolution of size 2 and stride 2, and of its transpose.

    Args:
        keys: (V,) int64 keys of the fine voxels.
        parent: (V,) int64, row of the coarse voxel that holds each fine voxel.
        num_coarse: V', number of coarse voxels.

    Returns:
        Two tables like that of `find_neighbours`: (8, V') for the coarse voxels, and (8, V) for the fine voxels, each
        of which has one parent at one offset.

    Raises:
        ValueError: more voxels than the 32-bit indices of the kernels can count.
    """
    _check_size(8, max(len(keys), num_coarse))
    children = keys.new_full((8, num_coarse), -1, dtype=torch.int32)
    parents = keys.new_full((8, len(keys)), -1, dtype=torch.int32)
    programs = blocks(len(keys), _SCATTERED)
    launch(_halving_kernel, programs, keys, parent, children, parents, len(keys), num_coarse, ROWS=_SCATTERED)
    return children, parents


@triton.jit(do_not_specialize=["num_fine", "num_coarse"])
def _halving_kernel(keys, parent, children, parents, num_fine, num_coarse, ROWS: tl.constexpr):
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    inside = rows < num_fine
    key = tl.load(keys + rows, mask=inside, other=0)
    above = tl.load(parent + rows, mask=inside, other=0).to(tl.int32)
    # The bias of the keys is even, so the lowest bit of a field is the lowest bit of the coordinate.
    offset = ((key & 1) * 4 + ((key >> 32) & 1) * 2 + ((key >> 16) & 1)).to(tl.int32)
    tl.store(children + offset * num_coarse + above, rows, mask=inside)
    tl.store(parents + offset * num_fine + rows, above, mask=inside)


def _check_size(volume: int, rows: int) -> None:
    most = (1 << 31) // volume - TILE
    if rows > most:
        raise ValueError(f"the triton backend takes up to {most} voxels at once, got {rows}")


def significance(volume: int) -> tuple[int, ...]:
    """Returns the bit of each offset in the codes that rows are sorted by.

    A rare offset gets a high bit, so that the few rows that have it are in few tiles. LiDAR sees surfaces, and most of
    them are level: neighbours above and below are rarer than those at the side, and diagonal ones rarer than straight
    ones.
    """
    if volume != 27:
        return tuple(range(volume))
    offsets = kernel_offsets(3)
    common_first = sorted(range(27), key=lambda k: (abs(offsets[k][0]), abs(offsets[k][1]) + abs(offsets[k][2]), k))
    return tuple(common_first.index(k) for k in range(27))


def make_tiles(table: Tensor) -> Tiles:
    """Sorts output rows by their live offsets, so that rows of one tile have similar offsets.

    Args:
        table: (K, N) int32 neighbours of N output rows at K offsets, -1 for none.
    """
    volume, num_rows = table.shape
    num_tiles = blocks(num_rows, TILE)
    live, num_live = table.new_zeros(num_tiles, volume), table.new_empty(num_tiles)
    neighbours, hits = table.new_empty(num_tiles, volume, TILE), table.new_empty(volume, num_tiles)
    codes = table.new_empty(num_rows)
    constants = {"BITS": significance(volume), "VOLUME": volume, "ROWS": _SCATTERED}
    launch(_code_kernel, blocks(num_rows, _SCATTERED), table, codes, num_rows, **constants)
    # Descending, so that tiles with many offsets tend to start first and do not run alone at the end.
    order = torch.sort(codes, stable=True, descending=True).indices
    launch(
        _tile_kernel, num_tiles,
        table, order, live, num_live, neighbours, hits, num_rows, num_tiles,
        VOLUME=volume, OFFSETS=triton.next_power_of_2(volume), TILE=TILE,
    )  # fmt: skip
    return Tiles(order, live, num_live, neighbours, hits)


@triton.jit(do_not_specialize=["num_rows"])
def _code_kernel(table, codes, num_rows, BITS: tl.constexpr, VOLUME: tl.constexpr, ROWS: tl.constexpr):
    """Computes the positions of the rows' masks (bit set: the offset is live) in a Gray code.

    Sorted as numbers, neighbouring masks can differ in every bit (0111, 1000); along a Gray code they differ in few. On
    a scan of SemanticKITTI, 2.04 times the products that are needed are computed if rows are sorted by plain masks,
    1.77 times with the bits by significance, and 1.71 times along the Gray code.
    """
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    mask = tl.full([ROWS], 0, tl.int32)
    for offset in tl.static_range(VOLUME):  # pyright: ignore[reportGeneralTypeIssues]
        neighbour = tl.load(table + offset * num_rows + rows, mask=rows < num_rows, other=-1)
        mask += tl.where(neighbour >= 0, 1 << BITS[offset], 0)
    for power in tl.static_range(5):  # pyright: ignore[reportGeneralTypeIssues]
        mask ^= mask >> (1 << power)
    tl.store(codes + rows, mask, mask=rows < num_rows)


@triton.jit(do_not_specialize=["num_rows", "num_tiles"])
def _tile_kernel(
    table, order, live, num_live, neighbours, hits, num_rows, num_tiles,
    VOLUME: tl.constexpr, OFFSETS: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    """Packs one tile, all its offsets at once: no load waits for another one, except for that of the rows."""
    tile = tl.program_id(0)
    offset, place = tl.arange(0, OFFSETS), tl.arange(0, TILE)  # OFFSETS is a power of 2, as shapes are
    used, inside = offset < VOLUME, tile * TILE + place < num_rows
    rows = tl.load(order + tile * TILE + place, mask=inside, other=0)
    here = table + offset[:, None] * num_rows + rows[None, :]
    neighbour = tl.load(here, mask=used[:, None] & inside[None, :], other=-1)
    hit = tl.sum((neighbour >= 0).to(tl.int32), axis=1)
    alive = (hit > 0).to(tl.int32)
    entry = tile * VOLUME + tl.cumsum(alive, axis=0) - 1  # live offsets get consecutive entries
    tl.store(hits + offset * num_tiles + tile, hit, mask=used)
    tl.store(live + entry, offset, mask=hit > 0)
    tl.store(neighbours + entry[:, None] * TILE + place[None, :], neighbour, mask=(hit > 0)[:, None])
    tl.store(num_live + tile, tl.sum(alive, axis=0))


def make_pairs(tiles: Tiles, capacity: int) -> Pairs:
    """Lists the pairs of a map, offset by offset, without gaps.

    Args:
        tiles: tiles of the output rows.
        capacity: an upper bound of the number of pairs of all offsets.
    """
    volume, num_tiles = tiles.hits.shape
    # Over all offsets at once: torch scans one long row in one pass, but several rows step by step.
    until = torch.cumsum(tiles.hits.view(-1), 0, dtype=torch.int32).view(volume, num_tiles)
    inputs, outputs = (tiles.hits.new_empty(capacity) for _ in range(2))
    if not num_tiles:
        return Pairs(inputs, outputs, tiles.hits.new_zeros(volume))
    launch(
        _pair_kernel, num_tiles,
        tiles.order, tiles.live, tiles.num_live, tiles.neighbours, until, tiles.hits, inputs, outputs,
        len(tiles.order), num_tiles, VOLUME=volume, TILE=TILE,
    )  # fmt: skip
    return Pairs(inputs, outputs, until[:, -1].contiguous())


@triton.jit(do_not_specialize=["num_rows", "num_tiles"])
def _pair_kernel(
    order, live, num_live, neighbours, until, hits, inputs, outputs, num_rows, num_tiles,
    VOLUME: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    tile = tl.program_id(0)
    places = tile * TILE + tl.arange(0, TILE)
    rows = tl.load(order + places, mask=places < num_rows, other=0).to(tl.int32)
    for entry in range(tile * VOLUME, tile * VOLUME + tl.load(num_live + tile)):
        neighbour = tl.load(neighbours + entry * TILE + tl.arange(0, TILE))
        hit = neighbour >= 0
        cell = tl.load(live + entry) * num_tiles + tile
        begin = tl.load(until + cell) - tl.load(hits + cell)
        slot = begin + tl.cumsum(hit.to(tl.int32), axis=0) - 1
        tl.store(inputs + slot, neighbour, mask=hit)
        tl.store(outputs + slot, rows, mask=hit)
