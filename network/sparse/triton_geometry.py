# ruff: noqa: ANN001, ANN202 -- the arguments of Triton kernels have no Python types
"""Triton kernels that find neighbouring voxels and sort the output rows into tiles; see `triton_backend`.

Nothing here waits for the device: every size follows from the number of voxels, and what depends on the data (the
number of neighbours) stays on the device.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from network.sparse.coordinates import STEP_X, STEP_Y, kernel_offsets

# Rows of the smallest output tile. The matrix unit of a Hopper GPU takes 64 rows at a time. An offset is live in a tile
# if any of its rows has a neighbour there: `python -m tests.support.triton_counts` prints what that costs in products.
# Smaller tiles give a GPU more to do in parallel at coarse scales; larger ones, of 2 or 4 tiles side by side, read the
# weights less often.
TILE = 64
_PADDED = 4 * TILE  # rows of the largest tile: the number of places is a multiple of it

_STEP_X, _STEP_Y = tl.constexpr(STEP_X), tl.constexpr(STEP_Y)
_SEARCHED = 64  # rows per program of the neighbour search
_SCATTERED = 256  # rows per program of kernels that treat each row by itself
_LISTED = 128  # rows per program of the lists of pairs


@dataclass(frozen=True, eq=False)
class Tiles:
    """The N output rows of a convolution, sorted by their live offsets and cut into T tiles of `TILE` rows.

    K is the kernel volume. An offset is live for a row if the row has a neighbour there. The offsets are in G groups,
    one after the other: one group, or a group for each z level of a 3x3x3 kernel. Every group has an order of its own:
    so few rows of a tile lack an offset that is computed for it, but most rows are in several groups.

    Attributes:
        order: (G, N) int64, the output row at each place of the sorted order, plus N times the number of the group.
        masks: (G, T) int32, the offsets of the group that are live for any row of a tile: bit k for its k-th offset.
            T is a multiple of 4; tiles past the last row have none.
        neighbours: (K, T * TILE) int32, the input row for each offset and each place of its group; -1 for none.
        groups_of: (N,) int32, the groups in which a row has a live offset: bit g for group g.
    """

    order: Tensor
    masks: Tensor
    neighbours: Tensor
    groups_of: Tensor

    def __len__(self) -> int:
        return self.order.shape[1]

    @property
    def num_groups(self) -> int:
        """G."""
        return len(self.order)


@dataclass(frozen=True, eq=False)
class Pairs:
    """The (input row, output row) pairs of the kernel offsets, offset by offset.

    If the map is its own mirror image, offset K - 1 - k has the pairs of offset k with inputs and outputs exchanged,
    and the centre pairs every row with itself. Then only the offsets before the centre are listed.

    Attributes:
        rows: (2, capacity) int32 input rows and output rows; entries after the last pair are not used.
        ends: (K,) int32, where the pairs of each listed offset end; ((K - 1) / 2,) for a mirrored map.
        num_rows: number of pairs of the centre of a mirrored map.
        mirrored: whether the map is its own mirror image.
    """

    rows: Tensor
    ends: Tensor
    num_rows: int
    mirrored: bool

    @property
    def volume(self) -> int:
        """K."""
        return 2 * len(self.ends) + 1 if self.mirrored else len(self.ends)


@dataclass(frozen=True, eq=False)
class Neighbours:
    """The neighbours of the output rows, and what is made of them when a layer needs it.

    Attributes:
        table: (K, N) int32 neighbours of N output rows at K offsets, -1 for none.
        mirrored: whether offset K - 1 - k leads back from where offset k leads to: so for submanifold maps.
        max_pairs: an upper bound of the number of pairs to list.
    """

    table: Tensor
    mirrored: bool
    max_pairs: int

    def __len__(self) -> int:
        return self.table.shape[1]

    def tiles(self, by_level: bool) -> Tiles:
        """Returns the tiles of the output rows, in one group or, where the kernel is 3x3x3, in one for each z level."""
        return self._of_levels if by_level and len(self.table) == 27 else self._whole

    @cached_property
    def _whole(self) -> Tiles:
        return make_tiles(self.table, 1)

    @cached_property
    def _of_levels(self) -> Tiles:
        return make_tiles(self.table, 3)

    @cached_property
    def pairs(self) -> Pairs:
        """The lists of pairs for the gradient of the weights."""
        return make_pairs(self.table, self.mirrored, self.max_pairs)


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
    with on_device_of(arguments[0]):
        kernel[grid](*arguments, **constants)


def on_device_of(tensor: Tensor) -> Any:
    """Returns a context in which the device of a tensor is the current one: as a rule it is so already."""
    elsewhere = tensor.is_cuda and tensor.get_device() != torch.cuda.current_device()
    return torch.cuda.device_of(tensor) if elsewhere else nullcontext()


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
    most = (1 << 31) // volume - _PADDED
    if rows > most:
        raise ValueError(f"the triton backend takes up to {most} voxels at once, got {rows}")


def significance(volume: int, groups: int = 1) -> tuple[int, ...]:
    """Returns the bit of each offset of a group in the codes that rows are sorted by.

    A rare offset gets a high bit, so that the few rows that have it are in few tiles. LiDAR sees surfaces, and most of
    them are level: neighbours above and below are rarer than those at the side, and diagonal ones rarer than straight
    ones.
    """
    if volume != 27:
        return tuple(range(volume))
    offsets = kernel_offsets(3)[: volume // groups]
    common_first = sorted(
        range(len(offsets)), key=lambda k: (abs(offsets[k][0]), abs(offsets[k][1]) + abs(offsets[k][2]), k)
    )
    return tuple(common_first.index(k) for k in range(len(offsets)))


def make_tiles(table: Tensor, groups: int = 1) -> Tiles:
    """Sorts output rows by their live offsets, so that rows of one tile have similar offsets.

    Args:
        table: (K, N) int32 neighbours of N output rows at K offsets, -1 for none.
        groups: 1, or 3 to sort the rows once for each z level of a 3x3x3 kernel.
    """
    volume, num_rows = table.shape
    part, places = volume // groups, blocks(num_rows, _PADDED) * _PADDED
    masks, neighbours = table.new_empty(groups, places // TILE), table.new_empty(volume, places)
    # All groups are sorted at once. Codes of 9 offsets and 3 groups fit into 16 bits, which sort in half the time.
    codes = table.new_empty(groups * num_rows, dtype=torch.int16 if groups > 1 else torch.int32)
    groups_of = table.new_empty(num_rows)
    launch(
        _code_kernel, blocks(num_rows, _SCATTERED), table, codes, groups_of, num_rows,
        BITS=significance(volume, groups), GROUPS=groups, PART=part, ROWS=_SCATTERED,
    )  # fmt: skip
    # Descending, so that tiles with many offsets tend to start first and do not run alone at the end.
    order = torch.sort(codes, stable=True, descending=True).indices.view(groups, num_rows)
    launch(
        _tile_kernel, masks.numel(), table, order, masks, neighbours, num_rows, places,
        GROUPS=groups, PART=part, OFFSETS=triton.next_power_of_2(part), TILE=TILE,
    )  # fmt: skip
    return Tiles(order, masks, neighbours, groups_of)


@triton.jit(do_not_specialize=["num_rows"])
def _code_kernel(
    table, codes, groups_of, num_rows,
    BITS: tl.constexpr, GROUPS: tl.constexpr, PART: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """Computes the positions of the rows' masks (bit set: the offset is live) in a Gray code; the first group is the
    highest.

    Sorted as numbers, neighbouring masks can differ in every bit (0111, 1000); along a Gray code they differ in few. On
    a scan of SemanticKITTI, 2.04 times the products that are needed are computed if rows are sorted by plain masks,
    1.77 times with the bits by significance, and 1.71 times along the Gray code.
    """
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    inside = rows < num_rows
    member = tl.full([ROWS], 0, tl.int32)
    for group in tl.static_range(GROUPS):  # pyright: ignore[reportGeneralTypeIssues]
        mask = tl.full([ROWS], 0, tl.int32)
        for offset in tl.static_range(PART):  # pyright: ignore[reportGeneralTypeIssues]
            neighbour = tl.load(table + (group * PART + offset) * num_rows + rows, mask=inside, other=-1)
            mask += tl.where(neighbour >= 0, 1 << BITS[offset], 0)
        member += tl.where(mask != 0, 1 << group, 0)
        for power in tl.static_range(5):  # pyright: ignore[reportGeneralTypeIssues]
            mask ^= mask >> (1 << power)
        if GROUPS > 1:
            mask += (GROUPS - 1 - group) << PART
        tl.store(codes + group * num_rows + rows, mask.to(codes.dtype.element_ty), mask=inside)
    tl.store(groups_of + rows, member, mask=inside)


@triton.jit(do_not_specialize=["num_rows"])
def _tile_kernel(
    table, order, masks, neighbours, num_rows, places,
    GROUPS: tl.constexpr, PART: tl.constexpr, OFFSETS: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    """Fills one tile, all its offsets at once: no load waits for another one, except for that of the rows."""
    group = tl.program_id(0) % GROUPS
    tile = tl.program_id(0) // GROUPS
    offset, place = tl.arange(0, OFFSETS), tile * TILE + tl.arange(0, TILE)  # powers of 2, as shapes are
    used, inside = offset < PART, place < num_rows
    rows = tl.load(order + group.to(tl.int64) * num_rows + place, mask=inside, other=0) - group.to(tl.int64) * num_rows
    here = table + (group * PART + offset)[:, None] * num_rows + rows[None, :]
    neighbour = tl.load(here, mask=used[:, None] & inside[None, :], other=-1)
    alive = tl.max((neighbour >= 0).to(tl.int32), axis=1)
    tl.store(neighbours + (group * PART + offset)[:, None] * places + place[None, :], neighbour, mask=used[:, None])
    tl.store(masks + group * (places // TILE) + tile, tl.sum(alive << offset, axis=0))


def make_pairs(table: Tensor, mirrored: bool, capacity: int) -> Pairs:
    """Lists the pairs of a map, offset by offset, without gaps.

    Args:
        table: (K, N) int32 neighbours of N output rows at K offsets, -1 for none.
        mirrored: whether the map is its own mirror image; then only the offsets before the centre are listed.
        capacity: an upper bound of the number of pairs to list.
    """
    volume, num_rows = table.shape
    listed = volume // 2 if mirrored else volume
    num_blocks = blocks(num_rows, _LISTED)
    rows, counts = table.new_empty(2, capacity), table.new_empty(listed, num_blocks)
    if not num_rows:
        return Pairs(rows, table.new_zeros(listed), num_rows, mirrored)
    size = {"LISTED": listed, "OFFSETS": triton.next_power_of_2(listed), "ROWS": _LISTED}
    launch(_count_kernel, num_blocks, table, counts, num_rows, num_blocks, **size)
    # Over all offsets at once: torch scans one long row in one pass, but several rows step by step.
    until = torch.cumsum(counts.view(-1), 0, dtype=torch.int32).view(listed, num_blocks)
    launch(_pair_kernel, num_blocks, table, until, counts, rows, num_rows, num_blocks, capacity, **size)
    return Pairs(rows, until[:, -1].contiguous(), num_rows, mirrored)


@triton.jit
def _listed_neighbours(table, num_rows, LISTED: tl.constexpr, OFFSETS: tl.constexpr, ROWS: tl.constexpr):
    """Reads the neighbours of one block of rows at all listed offsets: (OFFSETS, ROWS)."""
    offset, row = tl.arange(0, OFFSETS)[:, None], tl.program_id(0) * ROWS + tl.arange(0, ROWS)[None, :]
    return tl.load(table + offset * num_rows + row, mask=(offset < LISTED) & (row < num_rows), other=-1)


@triton.jit(do_not_specialize=["num_rows", "num_blocks"])
def _count_kernel(table, counts, num_rows, num_blocks, LISTED: tl.constexpr, OFFSETS: tl.constexpr, ROWS: tl.constexpr):
    offset = tl.arange(0, OFFSETS)
    hit = _listed_neighbours(table, num_rows, LISTED, OFFSETS, ROWS) >= 0
    tl.store(counts + offset * num_blocks + tl.program_id(0), tl.sum(hit.to(tl.int32), axis=1), mask=offset < LISTED)


@triton.jit(do_not_specialize=["num_rows", "num_blocks", "capacity"])
def _pair_kernel(
    table, until, counts, rows, num_rows, num_blocks, capacity,
    LISTED: tl.constexpr, OFFSETS: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    offset, row = tl.arange(0, OFFSETS)[:, None], tl.program_id(0) * ROWS + tl.arange(0, ROWS)[None, :]
    neighbour = _listed_neighbours(table, num_rows, LISTED, OFFSETS, ROWS)
    hit = neighbour >= 0
    cell = offset * num_blocks + tl.program_id(0)
    begin = tl.load(until + cell, mask=offset < LISTED, other=0) - tl.load(counts + cell, mask=offset < LISTED, other=0)
    slot = begin + tl.cumsum(hit.to(tl.int32), axis=1) - 1
    tl.store(rows + slot, neighbour, mask=hit)
    tl.store(rows + capacity + slot, row + 0 * offset, mask=hit)
