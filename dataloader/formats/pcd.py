"""Point Cloud Library files, `.pcd`: ascii, binary and compressed, with fields in any order.

The header is read here, not by pypcd4: it is untrusted, and what it says must be checked before memory is taken.
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dataloader.formats.clouds import check_surplus, content_of, missing_library, no_points, point_cloud, reading
from dataloader.formats.layout import Layout, find_fields
from dataloader.formats.table import parse_rows
from utils.scan.point_cloud import PointCloud

_LONGEST_HEADER = 1 << 16
_MOST_COLUMNS = 10_000  # the longest descriptors of points have hundreds
_TYPES = {("F", 4), ("F", 8), *((sign, size) for sign in "UI" for size in (1, 2, 4, 8))}
_MOST_EXPANDED = 256
"""LZF writes at most 264 bytes for 3."""


@dataclass(frozen=True)
class _Header:
    """A frozen record of what the header says: names, types, and counts of the fields, (points), and "ascii" or so."""

    names: list[str]
    types: list[tuple[str, int]]
    counts: list[int]
    points: int
    data: str
    end: int

    @property
    def dtype(self) -> np.dtype:
        """Type of a row; the fields are called f0, f1 and so on, since names may stand twice."""
        kinds = {"F": "f", "U": "u", "I": "i"}
        return np.dtype(
            [
                (f"f{n}", f"<{kinds[sign]}{size}", (count,)) if count > 1 else (f"f{n}", f"<{kinds[sign]}{size}")
                for n, ((sign, size), count) in enumerate(zip(self.types, self.counts, strict=True))
            ]
        )


def read_pcd(path: Path, layout: Layout) -> PointCloud:
    """Reads a `.pcd`: x, y, z of any type, and an intensity (or `i`, `reflectivity`, `reflectance`) if it has one.

    Raises:
        UserError: it is damaged, is cut off or holds no points; or pypcd4, for a compressed one, is not installed.
    """
    content = content_of(path)
    with reading(path, ".pcd file"):
        header = _parse_header(content[:_LONGEST_HEADER].tobytes())
        fields = find_fields(header.names)
        if any(header.counts[position] != 1 for position in fields.used):
            raise ValueError("its line COUNT gives more than one number to a coordinate or an intensity")
        if header.points == 0:
            no_points(path)
        body = content[header.end :]
        if header.data == "ascii":
            starts = np.cumsum([0, *header.counts])
            rows = parse_rows(body.tobytes(), [int(starts[position]) for position in fields.used])
            if len(rows) != header.points:
                raise ValueError(f"its header says {header.points} points, and it has {len(rows)}")
            return point_cloud(path, list(rows.T[:3]), *rows.T[3:])
        table = _binary(body, header) if header.data == "binary" else _compressed(path, body, header)
        columns = [table[f"f{position}"] for position in fields.used]
        return point_cloud(path, columns[:3], *columns[3:])


def _parse_header(head: bytes) -> _Header:
    entries: dict[str, list[str]] = {}
    end = 0
    for line in head.splitlines(keepends=True):
        end += len(line)
        words = line.decode("latin-1").partition("#")[0].split()
        if not words:
            continue
        entries[words[0].upper()] = words[1:]
        if words[0].upper() == "DATA":
            break
    else:
        raise ValueError("its header does not end in a line DATA")
    names = entries.get("FIELDS") or entries.get("COLUMNS")
    if not names:
        raise ValueError("its header has no line FIELDS")
    counts = _numbers(entries, "COUNT", len(names)) if "COUNT" in entries else [1] * len(names)
    types = list(zip(entries.get("TYPE", []), _numbers(entries, "SIZE", len(names)), strict=False))
    if len(types) != len(names) or not set(types) <= _TYPES:
        raise ValueError("its lines TYPE and SIZE do not name a type (F 4, F 8, U or I of 1, 2, 4, 8) for each field")
    if min(counts) < 1 or sum(counts) > _MOST_COLUMNS:
        raise ValueError(f"its line COUNT asks for none or more than {_MOST_COLUMNS} numbers of a field")
    data = " ".join(entries["DATA"]).lower()
    if data not in ("ascii", "binary", "binary_compressed"):
        raise ValueError(f"its line DATA says {data!r}, not ascii, binary or binary_compressed")
    return _Header(names, types, counts, _points(entries), data, end)


def _numbers(entries: dict[str, list[str]], key: str, wanted: int) -> list[int]:
    """Returns the numbers of a line of the header."""
    words = entries.get(key, [])
    if len(words) != wanted or not all(word.isascii() and word.isdigit() and len(word) < 19 for word in words):
        raise ValueError(
            f"its line {key} has to have {wanted} of the numbers 0, 1, 2 ..., not {' '.join(words)[:60]!r}"
        )
    return [int(word) for word in words]


def _points(entries: dict[str, list[str]]) -> int:
    if "WIDTH" not in entries:
        return _numbers(entries, "POINTS", 1)[0]
    width, height = _numbers(entries, "WIDTH", 1)[0], _numbers(entries, "HEIGHT", 1)[0] if "HEIGHT" in entries else 1
    if "POINTS" in entries and _numbers(entries, "POINTS", 1)[0] != width * height:
        raise ValueError(f"its header says {width} x {height}, but {entries['POINTS'][0]} points")
    return width * height


def _binary(body: NDArray[np.uint8], header: _Header) -> NDArray[np.void]:
    needed = header.points * header.dtype.itemsize
    if needed > len(body):
        raise ValueError(f"its header says {header.points} points, for which {needed - len(body)} bytes are missing")
    check_surplus(len(body) - needed, header.dtype.itemsize, f"{header.points} points")
    return body[:needed].view(header.dtype)


def _compressed(path: Path, body: NDArray[np.uint8], header: _Header) -> NDArray[np.void]:
    """Unpacks the points with pypcd4, from a header that is written again, once their sizes are known to be right."""
    if len(body) < 8:
        raise ValueError("it ends before its points")
    packed, unpacked = struct.unpack("<II", body[:8].tobytes())
    needed = header.points * header.dtype.itemsize
    if packed > len(body) - 8:
        raise ValueError(f"{packed - len(body) + 8} bytes of its points are missing")
    if unpacked != needed or unpacked > _MOST_EXPANDED * packed:
        raise ValueError(f"its points unpack to {unpacked} bytes, and {header.points} of its header need {needed}")
    try:
        from pypcd4.pypcd4 import PointCloud as Pcd
    except ImportError as error:
        raise missing_library(path, "compressed .pcd file", "pypcd4", error) from error
    lines = {
        "VERSION": [0.7],
        "FIELDS": header.dtype.names or (),
        "SIZE": [size for _, size in header.types],
        "TYPE": [sign for sign, _ in header.types],
        "COUNT": header.counts,
        "WIDTH": [header.points],
        "HEIGHT": [1],
        "VIEWPOINT": [0, 0, 0, 1, 0, 0, 0],
        "POINTS": [header.points],
        "DATA": ["binary_compressed"],
    }
    head = "".join(f"{key} {' '.join(map(str, values))}\n" for key, values in lines.items())
    return Pcd.from_fileobj(io.BufferedReader(io.BytesIO(head.encode() + body[: 8 + packed].tobytes()))).pc_data
