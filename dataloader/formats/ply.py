"""Polygon files, `.ply`: ascii, little-endian and big-endian; of their elements only the vertices are read.

The header is read here, not by plyfile: it is untrusted, and what it says must be checked before memory is taken. Rows
of one size are read with NumPy; plyfile, which takes row by row, is for those with lists.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dataloader.formats.clouds import check_surplus, content_of, missing_library, no_points, point_cloud, quiet, reading
from dataloader.formats.layout import Layout, find_fields
from dataloader.formats.table import parse_rows
from utils.scan.point_cloud import PointCloud

_LONGEST_HEADER = 1 << 16
_ORDERS = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}
_TYPES = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1", "short": "i2", "int16": "i2", "ushort": "u2",
    "uint16": "u2", "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4", "float": "f4", "float32": "f4",
    "double": "f8", "float64": "f8",
}  # fmt: skip


@dataclass(frozen=True)
class _Element:
    """A frozen record of an element: its name, number of rows, lines of the header, names and types of properties.

    A type is one of NumPy, such as "f4"; for a list it is that of its length, such as "u1", and `lists` is true.
    """

    name: str
    count: int
    lines: list[str]
    names: list[str] = field(default_factory=list)
    types: list[str] = field(default_factory=list)
    lists: list[bool] = field(default_factory=list)

    @property
    def smallest(self) -> int:
        """Size of the smallest possible row in binary files, bytes."""
        return sum(int(kind[1]) for kind in self.types)

    def dtype(self, order: str) -> np.dtype:
        """Returns the type of a row without lists; the fields are called p0, p1 and so on."""
        return np.dtype([(f"p{n}", order + kind) for n, kind in enumerate(self.types)])


def read_ply(path: Path, layout: Layout) -> PointCloud:
    """Reads the vertices of a `.ply`: x, y, z and an intensity (`intensity`, `scalar_Intensity` ...) if it has one.

    Raises:
        UserError: it is damaged, is cut off or has no vertices; or plyfile, for rows with lists, is not installed.
    """
    content = content_of(path)
    with reading(path, ".ply file"):
        order, elements, end = _parse_header(content[:_LONGEST_HEADER].tobytes())
        names = [element.name for element in elements]
        if "vertex" not in names:
            raise ValueError(f"it has no element vertex, but {', '.join(names)[:80] or 'none'}")
        is_last = names[-1] == "vertex"
        elements = elements[: names.index("vertex") + 1]
        vertices = elements[-1]
        fields = find_fields(vertices.names)
        if any(vertices.lists[position] for position in fields.used):
            raise ValueError("its coordinates or intensities are lists")
        if vertices.count == 0:
            no_points(path)
        body = content[end:]
        for element in elements:
            # In ascii, a number and what follows it take two bytes.
            needed = element.count * (element.smallest if order else max(2 * len(element.types) - 1, 1))
            if needed > len(body):
                raise ValueError(f"its header says {element.count} rows of {element.name[:40]}, and it has fewer")
        columns = _columns(path, order, elements, body, fields.used, is_last)
        return point_cloud(path, columns[:3], *columns[3:])


def _columns(
    path: Path, order: str, elements: list[_Element], body: NDArray[np.uint8], used: list[int], is_last: bool
) -> list[NDArray[Any]]:
    """Reads the wanted columns of the last of the elements; `is_last`: no element follows in the file."""
    vertices = elements[-1]
    if any(any(element.lists) for element in (elements if order else [vertices])):
        return _with_lists(path, order, elements, body, used)
    if not order:
        skipped = sum(element.count for element in elements[:-1])
        lines = body.tobytes().split(b"\n", skipped + vertices.count)
        rows = parse_rows(b"\n".join(lines[skipped : skipped + vertices.count]), used)
        if is_last:
            check_surplus(len(b"".join(lines[skipped + vertices.count :]).strip()), 1, f"{vertices.count} vertices")
        if len(rows) != vertices.count:
            raise ValueError(f"its header says {vertices.count} vertices, and it has {len(rows)}")
        return list(rows.T)
    start = sum(element.count * element.smallest for element in elements[:-1])
    needed = vertices.count * vertices.smallest
    if start + needed > len(body):
        raise ValueError(
            f"its header says {vertices.count} vertices, and {start + needed - len(body)} bytes are missing"
        )
    if is_last:
        check_surplus(len(body) - start - needed, vertices.smallest, f"{vertices.count} vertices")
    table = body[start : start + needed].view(vertices.dtype(order))
    return [table[f"p{position}"] for position in used]


def _with_lists(
    path: Path, order: str, elements: list[_Element], body: NDArray[np.uint8], used: list[int]
) -> list[NDArray[Any]]:
    """Reads rows with lists with plyfile, up to the vertices."""
    try:
        from plyfile import PlyData
    except ImportError as error:
        raise missing_library(path, ".ply file whose vertices have or follow lists", "plyfile", error) from error
    form = next(name for name, sign in _ORDERS.items() if sign == order)
    # Rows without properties are no bytes in binary files, and plyfile would count them for ever.
    lines = [line for element in elements if element.types or not order for line in element.lines]
    head = "\n".join(["ply", f"format {form} 1.0", *lines, "end_header", ""])
    with quiet():
        vertices = PlyData.read(io.BytesIO(head.encode() + body.tobytes()))["vertex"]
    return [np.asarray(vertices[elements[-1].names[position]]) for position in used]


def _parse_header(head: bytes) -> tuple[str, list[_Element], int]:
    """Parses a header: the byte order ("" for ascii), the elements, and where the header ends, bytes."""
    order, elements, end = None, [], 0
    lines = head.splitlines(keepends=True)
    if lines[0].strip() != b"ply":
        raise ValueError("it does not begin with ply")
    for line in lines:
        end += len(line)
        match line.decode("latin-1").split():
            case ["ply"] | [] | ["comment" | "obj_info", *_]:
                pass
            case ["format", form, _] if form in _ORDERS:
                order = _ORDERS[form]
            case ["element", name, count] if count.isascii() and count.isdigit() and len(count) < 16:
                elements.append(_Element(name, int(count), [f"element {name} {count}"]))
            case ["property", kind, name] if kind in _TYPES and elements:
                _add(elements[-1], name, kind, f"property {kind} {name}", is_list=False)
            case ["property", "list", size, kind, name] if {size, kind} <= set(_TYPES) and elements:
                _add(elements[-1], name, size, f"property list {size} {kind} {name}", is_list=True)
            case ["end_header"] if order is not None:
                return order, elements, end
            case _:
                raise ValueError(f"its header has a line {line.decode('latin-1').strip()[:60]!r}")
    raise ValueError("its header does not end in a line end_header")


def _add(element: _Element, name: str, kind: str, line: str, is_list: bool) -> None:
    element.names.append(name)
    element.types.append(_TYPES[kind])
    element.lists.append(is_list)
    element.lines.append(line)
