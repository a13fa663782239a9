"""A writer of PNG files by the specification (ISO/IEC 15948): any depth, colour type, filter and interlacing."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

SIGNATURE = b"\x89PNG\r\n\x1a\n"
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
"""Bits that a colour type may have: 0 grey, 2 RGB, 3 palette, 4 grey and alpha, 6 RGBA."""
ADAM7 = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
"""First row, first column, step of rows and step of columns of each pass."""


def chunk(name: bytes, body: bytes) -> bytes:
    """Makes a chunk with its checksum."""
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def header(width: int, height: int, bits: int, kind: int, interlaced: bool = False) -> bytes:
    """Makes the first chunk."""
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, interlaced))


def chunks_of(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yields the name and the body of every chunk."""
    position = len(SIGNATURE)
    while position < len(content):
        length, name = struct.unpack_from(">I4s", content, position)
        yield name, content[position + 8 : position + 8 + length]
        position += 12 + length


def write_png(
    samples: NDArray[np.integer],
    bits: int,
    kind: int,
    filters: Sequence[int] = (0,),
    interlaced: bool = False,
    before: bytes = b"",
    parts: int = 1,
    after: bytes = b"",
    level: int = 6,
) -> bytes:
    """Writes a picture.

    Args:
        samples: (H, W, channels), each below 2^bits.
        bits, kind: depth and colour type.
        filters: filter of row r is number r modulo their number.
        before, after: chunks between header and picture data, and after them.
        parts: number of IDAT chunks.
        level: of the compression.
    """
    height, width, _ = samples.shape
    passes = ADAM7 if interlaced else ((0, 0, 1, 1),)
    rows = b"".join(_filtered(samples[row::down, column::right], bits, filters) for row, column, down, right in passes)
    data = zlib.compress(rows, level)
    cuts = [len(data) * part // parts for part in range(parts + 1)]
    pieces = b"".join(chunk(b"IDAT", data[a:b]) for a, b in pairwise(cuts))
    return SIGNATURE + header(width, height, bits, kind, interlaced) + before + pieces + after + chunk(b"IEND", b"")


def _filtered(samples: NDArray[np.integer], bits: int, filters: Sequence[int]) -> bytes:
    if not samples.size:
        return b""
    distance = max(bits * samples.shape[2] // 8, 1)
    rows = [_packed(row, bits) for row in samples]
    above = bytes(len(rows[0]))
    found = []
    for number, row in enumerate(rows):
        kind = filters[number % len(filters)]
        left = bytes(distance) + row[: len(row) - distance]
        corner = bytes(distance) + above[: len(row) - distance]
        bases = (FILTERS[kind](*values) for values in zip(left, above, corner, strict=True))
        found.append(bytes([kind]) + bytes((x - base) % 256 for x, base in zip(row, bases, strict=True)))
        above = row
    return b"".join(found)


def _packed(row: NDArray[np.integer], bits: int) -> bytes:
    """Returns the bytes of a row: the first sample in the highest bits."""
    places = np.arange(bits)[::-1]
    return np.packbits((row.reshape(-1, 1).astype(np.int64) >> places & 1).astype(np.uint8)).tobytes()


def _paeth(left: int, above: int, corner: int) -> int:
    estimate = left + above - corner
    return min((left, above, corner), key=lambda value: abs(estimate - value))  # the first of equally near ones


FILTERS: list[Callable[[int, int, int], int]] = [
    lambda left, above, corner: 0,
    lambda left, above, corner: left,
    lambda left, above, corner: above,
    lambda left, above, corner: (left + above) // 2,
    _paeth,
]
"""What is taken from a byte: none, sub, up, average, Paeth."""
