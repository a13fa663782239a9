"""Tables of numbers without a header: KITTI's and nuScenes' `.bin`, and any other whose columns the user has named."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from functools import partial
from itertools import chain, islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dataloader.formats.clouds import Clouds, OneCloud, content_of, point_cloud
from dataloader.formats.layout import FLOAT32, Layout, find_fields, named_columns
from dataloader.formats.point_layout import FARTHEST, foreign_layout
from utils.errors import UserError
from utils.scan.point_cloud import PointCloud

_KNOWN = {4: "x,y,z,i", 5: "x,y,z,i,_"}
"""Columns of float32 of KITTI (reflectance), and of nuScenes (intensity and ring)."""
_WHOSE = {4: "KITTI", 5: "nuScenes"}
_NEIGHBOURS = 64  # of KITTI's files four of five have a size that does not fit nuScenes
_TINIEST = 1e-20  # metres; smaller numbers are others, read as floating-point numbers


def open_bin(path: Path, layout: Layout, beside: Iterator[Path] | None) -> Clouds:
    """Opens a `.bin`: with the columns that the user has named, or KITTI's or nuScenes' if its size allows only one.

    If it allows both, other files of the recording or in the folder have to fit as well, which leaves one, mostly.

    Raises:
        UserError: the size fits both or none; both lines name the flags that say what is in it.
    """
    if layout.columns is not None:
        return OneCloud(path, layout, _read_named)
    _no_type_alone(path, layout)
    fitting = _fitting(path.stat().st_size)
    if not fitting:
        raise _unknown(path)
    if len(fitting) > 1:
        others = (other for other in chain(beside or (), _folder_of(path)) if other.suffix.lower() == ".bin")
        sizes = (_size(other) for other in islice(others, _NEIGHBOURS))
        # One that fits neither is damaged, and says nothing.
        fitting = fitting.intersection(*filter(None, map(_fitting, filter(None, sizes)))) or fitting
    if len(fitting) > 1:
        raise _ask(path)
    return OneCloud(path, layout, partial(_read_known, columns=fitting.pop()))


def open_nuscenes(path: Path, layout: Layout, beside: Iterator[Path] | None) -> Clouds:
    """Opens a `.pcd.bin`, as only nuScenes names its files; the size of many fits KITTI's columns, too."""
    if layout.columns is not None:
        return OneCloud(path, layout, _read_named)
    _no_type_alone(path, layout)
    return OneCloud(path, layout, partial(_read_known, columns=5))


def _no_type_alone(path: Path, layout: Layout) -> None:
    if layout.dtype != FLOAT32:
        raise UserError(f"{path}: --dtype says nothing without --columns, such as --columns x,y,z,i")


def _fitting(size: int) -> set[int]:
    """Returns which of the known numbers of columns divide a size, bytes."""
    return {columns for columns in _KNOWN if size % (4 * columns) == 0}


def _folder_of(path: Path) -> Iterator[Path]:
    """Yields the files in the folder of a file."""
    try:
        with os.scandir(path.parent) as entries:
            for entry in entries:
                yield Path(entry.path)
    except OSError:
        return


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _ask(path: Path) -> UserError:
    """Builds the question for the columns of a file whose size allows both; its content may say which are likely."""
    content = content_of(path)
    points = {columns: f"{len(content) // (4 * columns)} points" for columns in _KNOWN}
    found = {columns: foreign_layout(content, columns) for columns in _KNOWN}
    if all(found.values()):
        return _foreign(path, str(found[4]))
    likely = [columns for columns in _KNOWN if not found[columns]]
    hint = f" (it looks like {_WHOSE[likely[0]]})" if len(likely) == 1 else ""
    asked = " or ".join(f"--columns {names} ({_WHOSE[key]}, {points[key]})" for key, names in _KNOWN.items())
    return UserError(f"{path}: its size fits the float32 columns of KITTI and of nuScenes{hint}; say which: {asked}")


def _unknown(path: Path) -> UserError:
    """Builds the error for a size that no known number of columns divides."""
    content = content_of(path)
    found = [foreign_layout(content, columns) for columns in _KNOWN]
    if all(found):
        return _foreign(path, str(found[0]))
    return UserError(
        f"{path}: {len(content)} bytes are no whole number of points of KITTI (16 bytes) or nuScenes (20 bytes); it is "
        "cut off, or say what is in it, for example --columns x,y,z,i,_,_ --dtype float32"
    )


def _foreign(path: Path, found: str) -> UserError:
    if (columns := next((key for key in _KNOWN if found == f"{key} float32 columns"), None)) is not None:
        return UserError(
            f"{path}: seems to hold the {columns} columns of {_WHOSE[columns]}, whatever its name; say what is in it: "
            f"--columns {_KNOWN[columns]}"
        )
    return UserError(
        f"{path}: seems to hold {found}, not the float32 columns of KITTI or nuScenes; if it is a table of numbers, "
        f"say what is in it, for example {_flags_for(path, found)}"
    )


def _flags_for(path: Path, found: str) -> str:
    """Returns flags that would fit a file whose content seems to be `found`; what they say is for the user to check."""
    if (several := re.fullmatch(r"(\d+) float32 columns", found)) is not None:
        return f"--columns {named_columns(int(several[1]))} --dtype float32"
    if found == "float64 numbers":
        numbers = content_of(path).view("<f8") if path.stat().st_size % 8 == 0 else np.empty(0)
        with np.errstate(over="ignore", invalid="ignore"):
            single = numbers.astype("<f4").view(np.uint8)
        fitting = [n for n in (4, 5, 3, 6) if len(numbers) % n == 0 and len(numbers)]
        alike = [n for n in fitting if n > 3 and foreign_layout(single, n) is None]
        return f"--columns {named_columns((alike or fitting or [4])[0])} --dtype float64"
    return "--columns x,y,z,i --dtype float64"


def _read_known(path: Path, layout: Layout, columns: int) -> PointCloud:
    content = content_of(path)
    if found := foreign_layout(content, columns):
        raise _foreign(path, found)
    return _read_table(path, content, tuple(_KNOWN[columns].split(",")), FLOAT32)


def _read_named(path: Path, layout: Layout) -> PointCloud:
    assert layout.columns is not None
    return _read_table(path, content_of(path), layout.columns, layout.dtype)


def _read_table(path: Path, content: NDArray[np.uint8], columns: tuple[str, ...], dtype: str) -> PointCloud:
    row = len(columns) * np.dtype(dtype).itemsize
    if len(content) % row:
        raise UserError(
            f"{path}: {len(content)} bytes are no whole number of points of {len(columns)} columns of {dtype} "
            f"({row} bytes); it is cut off, or --columns or --dtype is not right"
        )
    table = content.view(dtype).reshape(-1, len(columns))
    fields = find_fields(columns)
    cloud = point_cloud(
        path, [table[:, axis] for axis in fields[:3]], None if fields.intensity is None else table[:, fields.intensity]
    )
    _check_numbers(path, table[:, list(fields[:3])])
    return cloud


def _check_numbers(path: Path, coordinates: NDArray[np.generic]) -> None:
    """Checks that most numbers may be coordinates; those of another type, read as floating-point ones, are not."""
    if coordinates.dtype.kind != "f":
        return
    with np.errstate(invalid="ignore"):
        size = np.abs(coordinates.astype(np.float64))
        # The largest of them may mark "nothing measured".
        absurd = ((size > FARTHEST) & (size < np.fmax.reduce(size, axis=None))) | ((size > 0) & (size < _TINIEST))
    if absurd.mean() > 0.5:
        example = coordinates[absurd][0]
        raise UserError(
            f"{path}: most of its numbers, such as {example:.3g}, are no coordinates; --columns or --dtype is not right"
        )
