"""PNG files, inflated by ISA-L where it is installed: most of the time of a PNG goes into inflating.

A file is taken here only if nothing about it is unusual: every checksum is right, and the picture data are one stream
of exactly the size that the header says. Any other is left to Pillow, which decides what to make of it. So the pixels
and the errors are those of Pillow (PNG specification, ISO/IEC 15948).
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

try:  # twice as fast, with the same functions
    from isal import isal_zlib as zlib
except ImportError:
    import zlib

_DAMAGED = cast("type[Exception]", zlib.error)  # isal's stub calls it an exception, which is no class
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_FIRST_BYTES = _SIGNATURE + b"\0\0\0\x0dIHDR"
_HEAD = len(_FIRST_BYTES) + 13
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type: grey, RGB, palette, grey and alpha, RGBA
_RGB = 2
_DEPTHS = (1, 2, 4, 8, 16, 24, 32, 48, 64)  # bits of a pixel
_MUCH = 1 << 20  # bytes of a file that are not its compressed rows
_FIXED_SIZES = {b"gAMA": 4, b"cHRM": 32, b"sRGB": 1, b"pHYs": 9, b"tIME": 7, b"IEND": 0}
_COLOURS = (b"PLTE", b"tRNS")
_DEFLATE = 8  # the method of a zlib stream; the highest bit beside it is of a window that is too large
_STORED = 0xFFFF  # most bytes of a block of deflate that is not compressed
_SUB, _UP = 1, 2  # filters of a row, as 0 is (none); average and Paeth cannot be undone for many pixels at once


@dataclass(frozen=True)
class Png:
    """A frozen record of a PNG file, inflated; its rows are still filtered.

    Attributes:
        width, height: pixels.
        bits, kind: bits of a channel, and the colour type.
        before, after: the file before and after the picture data.
        is_plain: the file says nothing about colours beside them.
        rows: (H, 1 + bytes of a row) uint8: the filter of each row, then its bytes, filtered.
    """

    width: int
    height: int
    bits: int
    kind: int
    before: bytes
    after: bytes
    is_plain: bool
    rows: NDArray[np.uint8]

    @staticmethod
    def read(path: str | Path, most_pixels: int) -> Png | None:
        """Reads and inflates a file; None if anything about it is unusual: only Pillow can judge it then.

        Args:
            path: the file.
            most_pixels: a picture of more is unusual.

        Raises:
            OSError: the file cannot be read.
        """
        with open(path, "rb") as file:
            head = file.read(_HEAD)
            if len(head) < _HEAD or not head.startswith(_FIRST_BYTES):
                return None
            width, height, bits, kind, *methods = struct.unpack_from(">IIBBBBB", head, len(_FIRST_BYTES))
            if not 0 < width * height <= most_pixels or any(methods) or bits * _CHANNELS.get(kind, 0) not in _DEPTHS:
                return None
            row = 1 + (width * bits * _CHANNELS[kind] + 7) // 8
            if os.fstat(file.fileno()).st_size > 2 * row * height + _MUCH:
                return None
            content = head + file.read()
        if (chunks := _chunks(content)) is None:
            return None
        names = [name for name, _, _ in chunks]
        data = [number for number, name in enumerate(names) if name == b"IDAT"]
        if not data or data[-1] - data[0] >= len(data):
            return None
        stream = b"".join([content[start:end] for _, start, end in chunks[data[0] : data[-1] + 1]])
        if (rows := _inflated(stream, row * height)) is None:
            return None
        before, after = content[: chunks[data[0]][1] - 8], content[chunks[data[-1]][2] + 4 :]
        is_plain = not any(name in _COLOURS for name in names)
        filtered = np.frombuffer(rows, np.uint8).reshape(height, row)
        return Png(width, height, bits, kind, before, after, is_plain, filtered)

    @property
    def is_quick(self) -> bool:
        """True if `pixels` can be computed: RGB of 8 bits, whose rows have the filters none, sub or up."""
        return self.is_plain and (self.bits, self.kind) == (8, _RGB) and bool((self.rows[:, 0] <= _UP).all())

    def pixels(self, top: int = 0, left: int = 0, right: int | None = None) -> NDArray[np.uint8]:
        """Undoes the filters: (H - top, right - left, 3) uint8, the rows from `top` on and the columns between.

        What lies above and to the right is not looked at, unless a row that is wanted was filtered with the one above.
        """
        right = self.width if right is None else min(right, self.width)
        filters = self.rows[:, 0]
        first = top
        while filters[first] == _UP and first > 0:
            first -= 1
        found = np.empty((self.height - first, right, 3), dtype=np.uint8)
        filtered = self.rows[first:, 1:].reshape(self.height - first, self.width, 3)[:, :right]
        changes = np.flatnonzero(np.diff(filters[first:])) + 1
        for start, end in pairwise([0, *changes.tolist(), len(found)]):
            part, of_part = found[start:end], filtered[start:end]
            if filters[first + start] == _SUB:
                np.add.accumulate(of_part, axis=1, out=part)
            else:
                part[:] = of_part
            if filters[first + start] == _UP:
                with_above = found[max(start - 1, 0) : end]
                np.add.accumulate(with_above, axis=0, out=with_above)
        return found[top - first :, left:]

    def uncompressed(self) -> bytes:
        """Returns the file with its picture data stored as they are, which need not be inflated again."""
        rows = self.rows.tobytes()
        stream = [b"\x78\x01"]
        for start in range(0, len(rows), _STORED):
            block = rows[start : start + _STORED]
            is_last = start + _STORED >= len(rows)
            stream += [struct.pack("<BHH", is_last, len(block), len(block) ^ 0xFFFF), block]
        stream.append(struct.pack(">I", zlib.adler32(rows)))
        data = b"".join(stream)
        # Nobody looks at this checksum: Pillow leaves out those of picture data.
        return b"".join([self.before, struct.pack(">I", len(data)), b"IDAT", data, bytes(4), self.after])


def _chunks(content: bytes) -> list[tuple[bytes, int, int]] | None:
    """Lists the chunks: name, start and end of the body; None if one is damaged or not simple, or bytes are left.

    The first is the header, which has been looked at.
    """
    chunks, position = [], len(_SIGNATURE)
    whole = memoryview(content)
    while position + 12 <= len(content):
        length, name = struct.unpack_from(">I4s", content, position)
        start, end = position + 8, position + 8 + length
        if end + 4 > len(content) or struct.unpack_from(">I", content, end)[0] != zlib.crc32(whole[start - 4 : end]):
            return None
        if chunks and name != b"IDAT" and name not in _COLOURS and _FIXED_SIZES.get(name) != length:
            return None
        chunks.append((name, start, end))
        position = end + 4
        if name == b"IEND":
            return chunks if position == len(content) else None
    return None


def _inflated(stream: bytes, size: int) -> Any:
    """Inflates a zlib stream of `size` bytes; None if it is damaged or has another size."""
    window, more = stream[:2] if len(stream) > 1 else (0, 0)
    # Not every library looks at the header: its sum, the window, and that it names no dictionary.
    if window & 0x8F != _DEFLATE or (window << 8 | more) % 31 or more & 0x20:
        return None
    inflater = zlib.decompressobj()
    try:
        rows = inflater.decompress(stream, size + 1)  # no more, whatever it would become
    except _DAMAGED:
        return None
    return rows if len(rows) == size and inflater.eof and not inflater.unused_data else None
