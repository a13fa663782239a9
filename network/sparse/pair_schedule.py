"""The order in which a CPU computes the pairs of a kernel map: some thousand output rows at a time, offset by offset.

For a chunk of output rows, the pairs of every offset are gathered and multiplied into a slice of one buffer of
products; then the products of each output row are added up with `torch.embedding_bag`. The buffer is small enough to
stay in the cache, every output row is written once, and sums are computed in fp32 without an fp32 copy.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

CHUNK_ROWS = 8192  # with 64 fp32 channels on a LiDAR scan 13 MB of products; half or twice as many are not faster


@dataclass(frozen=True, eq=False)
class OffsetPairs:
    """The pairs of one kernel offset in a chunk.

    Attributes:
        offset: number of the kernel offset.
        inputs: (M,) int64 input rows to gather, or None for the rows of the chunk themselves.
        begin, end: the slice of the buffer that holds their products.
    """

    offset: int
    inputs: Tensor | None
    begin: int
    end: int


@dataclass(frozen=True, eq=False)
class Chunk:
    """A range of output rows that is computed at once.

    Attributes:
        begin, end: the range of output rows.
        parts: the pairs of each offset that has pairs here.
        products: (L,) int32 rows of the buffer, ordered by the output row that they are added to.
        bags: (end - begin + 1,) int32: output row begin + i sums products[bags[i] : bags[i + 1]].
    """

    begin: int
    end: int
    parts: tuple[OffsetPairs, ...]
    products: Tensor
    bags: Tensor


@dataclass(frozen=True, eq=False)
class PairSchedule:
    """The chunks of a kernel map, and the sizes of the buffers that the largest chunk needs.

    Attributes:
        chunks: the chunks in the order of the output rows.
        num_products, num_gathered: rows of the buffers of products and of gathered features.
    """

    chunks: tuple[Chunk, ...]
    num_products: int
    num_gathered: int


def build_schedule(
    inputs: Sequence[Tensor], outputs: Sequence[Tensor], identity: int | None, num_outputs: int
) -> PairSchedule:
    """Builds the schedule of a kernel map.

    Args:
        inputs, outputs: one (M_k,) int64 tensor per offset k, the outputs ascending; empty for `identity`.
        identity: the offset that maps every row to itself, or None.
        num_outputs: number of output rows.
    """
    bounds = [*range(0, num_outputs, CHUNK_ROWS), num_outputs]
    cuts = torch.stack([torch.searchsorted(rows, rows.new_tensor(bounds)) for rows in outputs])  # (K, chunks + 1)
    counts = cuts.diff()
    if identity is not None:
        counts[identity] = torch.tensor(bounds).diff()
    first = counts.cumsum(0) - counts  # (K, chunks): where each part begins in the buffer of its chunk
    products, ends = _bags(outputs, identity, num_outputs, cuts, first)
    cut, start, size, entries = cuts.tolist(), first.tolist(), counts.tolist(), ends[bounds].tolist()
    chunks = []
    for c, (begin, end) in enumerate(itertools.pairwise(bounds)):
        parts = tuple(
            OffsetPairs(
                offset=k,
                inputs=None if k == identity else rows[cut[k][c] : cut[k][c + 1]],
                begin=start[k][c],
                end=start[k][c] + size[k][c],
            )
            for k, rows in enumerate(inputs)
            if size[k][c]
        )
        bags = (ends[begin : end + 1] - entries[c]).int()
        chunks.append(Chunk(begin, end, parts, products[entries[c] : entries[c + 1]], bags))
    parts = [part for chunk in chunks for part in chunk.parts]
    return PairSchedule(
        tuple(chunks),
        max((part.end for part in parts), default=0),
        max((part.end - part.begin for part in parts if part.inputs is not None), default=0),
    )


def _bags(
    outputs: Sequence[Tensor], identity: int | None, num_outputs: int, cuts: Tensor, first: Tensor
) -> tuple[Tensor, Tensor]:
    """Lists for each output row, ascending, the positions of its products in the buffer of its chunk.

    Returns:
        (pairs,) int32 positions, and (num_outputs + 1,) int64, where those of each output row begin.
    """
    place = torch.full((num_outputs, len(outputs)), -1, dtype=torch.int32)  # position of a product, by row and offset
    rows = torch.cat([*outputs])
    offset = torch.repeat_interleave(torch.tensor([len(o) for o in outputs]))
    chunk = torch.div(rows, CHUNK_ROWS, rounding_mode="floor")
    # The pairs of an offset have consecutive numbers: those of a chunk start at `cuts`, and are moved to `first`.
    of_offset = torch.cat([torch.arange(len(o)) for o in outputs])
    shift = (first - cuts[:, :-1]).view(-1)
    here = (of_offset + shift.index_select(0, offset * first.shape[1] + chunk)).int()
    place.view(-1).scatter_(0, rows * len(outputs) + offset, here)
    if identity is not None:
        own = torch.arange(num_outputs)
        place[:, identity] = (
            first[identity][torch.div(own, CHUNK_ROWS, rounding_mode="floor")] + own % CHUNK_ROWS
        ).int()
    used = place >= 0
    ends = torch.zeros(num_outputs + 1, dtype=torch.int64)
    torch.cumsum(used.sum(1), 0, out=ends[1:])
    return place.masked_select(used), ends
