"""A fast and strict parser of numbers in columns of text, for all formats that have such."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def parse_rows(body: bytes, used: Sequence[int], delimiter: str | None = None) -> NDArray[np.float64]:
    """Parses the numbers of some columns; every row has the same number of columns.

    Args:
        body: lines of text; empty lines and what follows a "#" are left out.
        used: positions of the wanted columns.
        delimiter: what stands between the columns; None: white space. Nothing between two delimiters is NaN.

    Returns:
        (rows, wanted columns) float64.

    Raises:
        ValueError: something is no number, or a row has too few columns.
    """
    if b"\x00" in body:
        raise ValueError("it has bytes that are no text")
    try:
        rows = _load(body, used, delimiter)
    except ValueError:
        if delimiter is None:
            raise
        rows = _load(_filled(body, delimiter), used, delimiter)
    _check_last(body, delimiter)
    return rows


def _load(body: bytes, used: Sequence[int], delimiter: str | None) -> NDArray[np.float64]:
    if not body.strip():
        return np.empty((0, len(used)))  # numpy would print a warning
    text = io.TextIOWrapper(io.BytesIO(body), encoding="latin-1")
    source: Any = text
    return np.loadtxt(source, delimiter=delimiter, usecols=list(used), ndmin=2, comments="#")


def _filled(body: bytes, delimiter: str) -> bytes:
    """Writes "nan" where nothing stands between two delimiters, as tables of pandas have it for NaN."""
    mark = re.escape(delimiter.encode())
    lines = re.sub(rb"(?m)^[ \t]*\r?\n", b"", body).rstrip()
    return re.sub(rb"(?m)(^|" + mark + rb")[ \t]*(?=" + mark + rb"|\r?$)", rb"\1nan", lines)


def _check_last(body: bytes, delimiter: str | None) -> None:
    """Checks that the last row has as many columns as the first: a file that was cut off ends in the middle of one."""
    lines = body[: 1 << 16].strip().splitlines(), body[-(1 << 16) :].strip().splitlines()
    if not lines[0] or lines[1][-1].lstrip().startswith(b"#"):
        return
    first = next((line for line in lines[0] if line.strip() and not line.lstrip().startswith(b"#")), b"")
    mark = None if delimiter is None else delimiter.encode()
    counts = [len(line.partition(b"#")[0].strip().split(mark)) for line in (first, lines[1][-1])]
    if counts[0] != counts[1]:
        raise ValueError(f"its last row has {counts[1]} columns, its first {counts[0]}; it may be cut off")
