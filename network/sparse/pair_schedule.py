"""In which order a CPU walks the pairs of a kernel map: some thousand output rows at a time, offset by offset.

Within a chunk of output rows every offset's pairs are gathered and multiplied into a stretch of one buffer of products;
then the products of each output row are added up, as the embeddings of a bag are (`torch.embedding_bag`). The buffer is
small enough to stay in the cache, every output row is written once, and sums are kept in fp32 without an fp32 copy.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

CHUNK_ROWS = 8192  # of 64 fp32 channels on a LiDAR scan: 13 MB of products; half or twice as many are no faster


@dataclass(frozen=True, eq=False)
class Part:
    """The pairs of one offset within a chunk.

    Attributes:
        offset: which kernel offset.
        inputs: (M,) int64 input rows to gather, or None: the rows of the chunk themselves.
        begin, end: where their products stand in the buffer.
    """

    offset: int
    inputs: Tensor | None
    begin: int
    end: int


@dataclass(frozen=True, eq=False)
class Chunk:
    """A stretch of output rows.

    Attributes:
        begin, end: the output rows.
        parts: the offsets that have pairs here.
        products: (L,) int32, which products of the buffer belong to the rows, row after row.
        bags: (end - begin + 1,) int32, where each row's stand in `products`.
    """

    begin: int
    end: int
    parts: tuple[Part, ...]
    products: Tensor
    bags: Tensor


@dataclass(frozen=True, eq=False)
class PairSchedule:
    """All chunks, and what the buffers must hold for the largest.

    Attributes:
        chunks: in the order of the output rows.
        num_products, num_gathered: rows of the buffers.
    """

    chunks: tuple[Chunk, ...]
    num_products: int
    num_gathered: int


def build_schedule(
    inputs: Sequence[Tensor], outputs: Sequence[Tensor], identity: int | None, num_outputs: int
) -> PairSchedule:
    """The schedule of a kernel map.

    Args:
        inputs, outputs: one (M_k,) int64 tensor per offset k, the outputs ascending; empty for `identity`.
        identity: the offset under which every row meets itself, or None.
        num_outputs: rows of the result.
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
            Part(k, None if k == identity else rows[cut[k][c] : cut[k][c + 1]], start[k][c], start[k][c] + size[k][c])
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
    """Per output row, ascending, where its products stand in the buffer of its chunk.

    Returns:
        (pairs,) int32 and (num_outputs + 1,) int64, where each row begins.
    """
    place = torch.full((num_outputs, len(outputs)), -1, dtype=torch.int32)  # of the product, by row and offset
    rows = torch.cat([*outputs])
    offset = torch.repeat_interleave(torch.tensor([len(o) for o in outputs]))
    chunk = torch.div(rows, CHUNK_ROWS, rounding_mode="floor")
    # The pairs of an offset are numbered through; those of a chunk begin at `cuts` and go to `first`.
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
