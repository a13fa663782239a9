"""Checks of the parts of a compressed LAS file, whose sizes lazrs takes for its memory as the file says them.

The points are packed in chunks, each by itself. Behind the last there is a table of their sizes. In the point formats 6
to 10, each chunk is its first point, the number of its points, the sizes of its layers, and the layers.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

from dataloader.formats.clouds import missing_library

_RECORD = struct.Struct("<H10xI16xH")
"""Compressor, points in a chunk, number of items, of the record LasZip."""
_ITEM = struct.Struct("<HHH")
"""Type, size in a point (bytes), version."""
_IN_CHUNKS, _IN_LAYERS = 2, 3
_LAYERS = {10: 9, 11: 1, 12: 2, 13: 1}
"""Number of layers of an item, by type: points, colours, near infrared and waveforms; other bytes have one each."""


def check_packing(path: Path, file: BinaryIO, record: bytes, start: int, row: int, points: int) -> None:
    """Checks the sizes of the packed points of a file, and leaves it at their beginning.

    Args:
        path: the file, for messages.
        file: the same, open.
        record: content of its record LasZip.
        start: where its points begin.
        row: size of a point, bytes, as its header says.
        points: number of points, as its header says. In the point formats 0 to 5 it can be compared with the number of
            chunks only.

    Raises:
        ValueError: they do not fit together.
        UserError: lazrs is not installed.
    """
    try:
        from lazrs import LazVlr, read_chunk_table  # pyright: ignore[reportAttributeAccessIssue]  (made in Rust)
    except ImportError as error:
        raise missing_library(path, ".laz file", "'laspy[lazrs]'", error) from error
    compressor, chunk_points, items = _RECORD.unpack_from(record)
    kinds: list[tuple[int, int, int]] = [_ITEM.unpack_from(record, _RECORD.size + _ITEM.size * n) for n in range(items)]
    if compressor not in (_IN_CHUNKS, _IN_LAYERS) or sum(size for _, size, _ in kinds) != row or not chunk_points:
        raise ValueError("its record of the packing does not fit its header, or is of another kind")
    table = _table_position(file, start)
    file.seek(table + 4)
    chunks = int.from_bytes(file.read(4), "little")
    if chunks * row > table - start:  # the first point of each is not packed
        raise ValueError(f"its table says {chunks} chunks, more than fit into it")
    file.seek(start)
    sizes = read_chunk_table(file, LazVlr(record))
    if sum(size for _, size in sizes) > table - start - 8:
        raise ValueError("its table says larger chunks than it has")
    if compressor == _IN_LAYERS:
        layers = sum(_LAYERS.get(kind, size) for kind, size, _ in kinds)
        counted = _check_layers(file, start + 8, [size for _, size in sizes], row, layers)
        fits = counted == points
    elif LazVlr(record).uses_variable_size_chunks():
        fits = sum(count or 0 for count, _ in sizes) == points
    else:
        fits = -(-points // chunk_points) == chunks
    if not fits:
        raise ValueError(f"its header says {points} points, which its chunks do not hold")
    file.seek(start)


def _table_position(file: BinaryIO, start: int) -> int:
    """Returns where the table of chunks begins: said before the points, or, by who could not go back, at the end."""
    size = file.seek(0, 2)
    file.seek(start)
    table = int.from_bytes(file.read(8), "little", signed=True)
    if table == -1:
        file.seek(-8, 2)
        table = int.from_bytes(file.read(8), "little", signed=True)
    if not start + 8 <= table <= size - 8:
        raise ValueError("the table of its chunks is missing")
    return table


def _check_layers(file: BinaryIO, place: int, sizes: list[int], row: int, layers: int) -> int:
    """Checks the sizes of the layers of each chunk, and returns how many points the chunks say they have."""
    points = 0
    for size in filter(None, sizes):  # a writer may close a chunk without points
        file.seek(place + row)
        head = struct.unpack(f"<{1 + layers}I", file.read(4 * (1 + layers)))
        if row + 4 * len(head) + sum(head[1:]) > size:
            raise ValueError("a chunk of its points has larger layers than it has bytes")
        points += head[0]
        place += size
    return points
