"""Points as text, `.txt`, `.csv`, `.xyz`, `.asc`, `.pts`: columns with spaces, tabs, commas or semicolons between them.

Before the points there may be comments, a line that names the columns, and a line with the number of points.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dataloader.formats.clouds import content_of, no_points, point_cloud, reading
from dataloader.formats.layout import Fields, Layout, find_fields, named_columns
from dataloader.formats.table import parse_rows
from utils.errors import UserError
from utils.scan.point_cloud import PointCloud

_LONGEST_HEAD = 1 << 16
_KNOWN = {3: ("x", "y", "z"), 4: ("x", "y", "z", "i")}
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*([eE][+-]?\d+)?|\.\d+([eE][+-]?\d+)?|nan|inf(inity)?)", re.IGNORECASE)
_UNIT = re.compile(r"\[.*?\]|\(.*?\)")


@dataclass(frozen=True)
class _Head:
    """A frozen record of what stands before the points: column names, number of points, size of it in bytes.

    `first` has the columns of the first point, and `delimiter` is what stands between them, None for white space.
    """

    names: tuple[str, ...] | None
    count: int | None
    end: int
    first: list[str]
    delimiter: str | None


def read_text(path: Path, layout: Layout) -> PointCloud:
    """Reads points as text: three columns are x, y, z, four with the intensity; more need a header or `--columns`.

    Raises:
        UserError: it is no text, is damaged, is cut off or holds no points, or its columns have to be said.
    """
    content = content_of(path).tobytes().removeprefix(b"\xef\xbb\xbf")
    with reading(path, "table of points as text"):
        head = _parse_head(content[:_LONGEST_HEAD], are_named=layout.columns is not None)
        if not head.first:
            no_points(path)
        fields = _fields(path, head, layout)
        rows = parse_rows(content[head.end :], fields.used, head.delimiter)
        if head.count is not None and head.count != len(rows):
            raise ValueError(f"its first line says {head.count} points, and it has {len(rows)}")
        # A column without any number is what stands behind a last delimiter.
        return point_cloud(path, list(rows.T[:3]), *(column for column in rows.T[3:] if not np.isnan(column).all()))


def _parse_head(head: bytes, are_named: bool) -> _Head:
    """Parses what stands before the points; if the user has named the columns, lines of text need not name them."""
    if b"\x00" in head:
        raise ValueError("it has bytes that are no text")
    names, count, end = None, None, 0
    for raw in head.splitlines(keepends=True):
        line = raw.decode("latin-1").strip()
        delimiter = next((mark for mark in ";," if mark in line), None)
        bare = line.lstrip("#/%").strip()
        words = [word.strip().strip("\"'") for word in (bare.split(delimiter) if delimiter else bare.split())]
        is_comment = bare != line
        # In a row of empty cells all numbers are NaN.
        if line and not is_comment and _NUMBER.fullmatch(next(filter(None, words), "nan")):
            if len(words) > 1:
                return _Head(names, count, end, words, delimiter)
            if count is not None or not (line.isascii() and line.isdigit()):
                raise ValueError(f"it has a line of one number, {line[:60]!r}, where points are wanted")
            count = int(line)
        elif line:
            found = _names(bare, words)
            if not (is_comment or are_named or found):
                raise ValueError(
                    f"it has a line {line[:60]!r}, which names no x, y and z and is no point; --columns may name them"
                )
            names = found or names
        end += len(raw)
    return _Head(names, count, end, [], None)


def _names(line: str, words: list[str]) -> tuple[str, ...] | None:
    """Returns the names of columns, without units, if a line has such."""
    bare = [word.strip().strip("\"'") for word in re.split(r"[;,]|\s+", _UNIT.sub("", line).strip())]
    for names in ([_UNIT.sub("", word).strip() for word in words], bare):
        lower = [name.lower() for name in names]
        if {"x", "y", "z"} <= set(lower):
            return tuple(names)
    return None


def _fields(path: Path, head: _Head, layout: Layout) -> Fields:
    """Returns which columns are which."""
    width = len(head.first)
    # A delimiter may stand behind the last column as well.
    widths = {width, width - 1} if head.first[-1] == "" else {width}
    names = layout.columns or head.names or _KNOWN.get(width) or _KNOWN.get(min(widths))
    if names is None:
        raise UserError(
            f"{path}: has {width} columns without names; say what they are, such as --columns {named_columns(width)}"
        )
    if len(names) not in widths:
        source = "--columns" if layout.columns else "its header"
        raise UserError(f"{path}: has {width} columns, and {source} names {len(names)}; name each of them, or _")
    return find_fields(names)
