"""NumPy files, `.npy` and `.npz`: tables with a point in each row, or structured arrays; nothing in them is run."""

from __future__ import annotations

import ast
import math
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from dataloader.formats.clouds import check_file, point_cloud, quiet, reading
from dataloader.formats.layout import Fields, Layout, find_fields, is_number
from utils.errors import UserError
from utils.scan.point_cloud import PointCloud

_KNOWN = {3: ("x", "y", "z"), 4: ("x", "y", "z", "i"), 5: ("x", "y", "z", "i", "_")}
"""Number of columns -> their names, where nothing else is said."""
_POINTS = ("points", "point", "xyz", "coord", "coords", "pos", "position", "positions", "point_cloud", "pointcloud",
           "pcd", "scan", "cloud", "lidar")  # fmt: skip
"""Names of the points in a `.npz`."""
_LONGEST_HEADER = 1 << 16
_MOST_EXPANDED = 100
"""Largest ratio of the arrays of a `.npz` to its size; points are packed to a third at best, zeros to a thousandth."""
_ALWAYS_ALLOWED = 1 << 24  # bytes


def read_npy(path: Path, layout: Layout) -> PointCloud:
    """Reads a `.npy` of (N, 3), (N, 4) or (N, 5), as x, y, z, intensity and something else, or with named fields.

    Raises:
        UserError: it is damaged, is cut off, holds no points or something else than points, or its columns have to be
            said.
    """
    check_file(path)
    with reading(path, ".npy file"), path.open("rb") as file:
        return _cloud(path, _read_array(file, path.stat().st_size), layout)


def read_npz(path: Path, layout: Layout) -> PointCloud:
    """Reads a `.npz`: its one array, the one with a usual name (points, xyz), or the arrays x, y and z.

    Raises:
        UserError: as `read_npy`, or several arrays may be the points.
    """
    check_file(path)
    with reading(path, ".npz file"), zipfile.ZipFile(path) as archive:
        arrays = read_arrays(archive, path.stat().st_size)
        lower = {name.lower(): name for name in arrays}
        if {"x", "y", "z"} <= set(lower):
            return _from_columns(path, arrays)
        name = _points_of(path, arrays, layout)
        cloud = _cloud(path, arrays[name], layout)
        fields = find_fields(["x", "y", "z", *lower])
        if cloud.intensity is None and fields.intensity is not None:
            intensity = arrays[list(lower.values())[fields.intensity - 3]].reshape(-1)
            if len(intensity) != len(cloud) or not is_number(intensity.dtype):
                raise ValueError(f"it has {len(intensity)} intensities for {len(cloud)} points")
            return point_cloud(path, list(cloud.xyz.T), intensity)
        return cloud


def read_arrays(archive: zipfile.ZipFile, size: int) -> dict[str, NDArray[Any]]:
    """Reads the arrays of a `.npz`, by name, that are not objects; their sizes are checked first.

    Args:
        archive: the open file.
        size: of the file, bytes.

    Raises:
        ValueError: it is damaged, packed a hundredfold, or has no such array; other errors of damaged files may come.
    """
    members = [member for member in archive.infolist() if member.filename.endswith(".npy")]
    if sum(member.file_size for member in members) > max(_MOST_EXPANDED * size, _ALWAYS_ALLOWED):
        raise ValueError(f"its arrays are more than {_MOST_EXPANDED} times as large as the file")
    if any(member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) for member in members):
        raise ValueError("it is packed in another way than NumPy packs")
    arrays = {}
    for member in members:
        with archive.open(member) as file:
            try:
                arrays[member.filename.removesuffix(".npy")] = _read_array(file, member.file_size)
            except _NoNumbersError:
                continue
    if not arrays:
        raise ValueError("it has no array of numbers")
    return arrays


class _NoNumbersError(ValueError):
    """An error: an array holds something else than numbers, and is left out of a `.npz`."""


def _read_array(file: IO[bytes], size: int) -> NDArray[Any]:
    """Reads an array from a file of a known size, bytes, with the same checks for both formats."""
    head = file.read(12)
    if head[:6] != b"\x93NUMPY" or len(head) < 12:
        raise ValueError("it does not begin as a .npy file does")
    wide = head[6] > 1
    start = 12 + int.from_bytes(head[8:12], "little") if wide else 10 + int.from_bytes(head[8:10], "little")
    if start - 12 > _LONGEST_HEADER or start < 12:
        raise ValueError("its header has no usual length")
    with quiet():  # an odd escape in a string is a warning
        header = ast.literal_eval((head[12 if wide else 10 :] + file.read(start - 12)).decode("utf-8").strip())
        dtype, shape = np.lib.format.descr_to_dtype(header["descr"]), header["shape"]
    if dtype.hasobject or dtype.itemsize == 0:
        raise _NoNumbersError("it holds Python objects, which are not read; save an array of numbers")
    if not all(type(length) is int and length >= 0 for length in shape) or len(shape) > 32:
        raise ValueError(f"its header has a shape {str(shape)[:40]}")
    needed = math.prod(shape) * dtype.itemsize
    if needed > size - start:
        raise ValueError(f"its header says {str(shape)[:60]}, for which {needed - size + start} bytes are missing")
    if needed < size - start:
        raise ValueError(f"its header says {str(shape)[:60]}, and {size - start - needed} bytes more follow")
    content = file.read(needed)
    if len(content) != needed:
        raise ValueError(f"{needed - len(content)} bytes of its array are missing")
    return np.frombuffer(content, dtype).reshape(shape, order="F" if header["fortran_order"] else "C")


def _points_of(path: Path, arrays: Mapping[str, NDArray[Any]], layout: Layout) -> str:
    """Returns the name of the array that holds the points."""
    if len(arrays) == 1:
        return next(iter(arrays))
    widths = {len(layout.columns)} if layout.columns else set(_KNOWN)
    tables = [
        name
        for name, array in arrays.items()
        if array.dtype.names or (array.ndim == 2 and array.shape[1] in widths and is_number(array.dtype))
    ]
    named = [name for name in tables if name.lower() in _POINTS]
    if len(named) == 1 or len(tables) == 1:
        return (named if len(named) == 1 else tables)[0]
    shapes = ", ".join(f"{name[:40]} {array.shape}" for name, array in list(arrays.items())[:12])
    which = "several of its arrays may be the points" if tables else "none of its arrays seems to be the points"
    raise UserError(f"{path}: {which} ({shapes}); save one array (N, 4) named points, of x, y, z and intensity")


def _from_columns(path: Path, arrays: Mapping[str, NDArray[Any]]) -> PointCloud:
    """Makes a cloud of the arrays x, y, z and intensity."""
    names = list(arrays)
    columns = [arrays[names[position]].reshape(-1) for position in find_fields(names).used]
    if len({len(column) for column in columns}) > 1 or not all(is_number(column.dtype) for column in columns):
        raise ValueError("its arrays x, y, z and intensity have different lengths, or are no numbers")
    return point_cloud(path, columns[:3], *columns[3:])


def _cloud(path: Path, array: NDArray[Any], layout: Layout) -> PointCloud:
    """Makes a cloud of a structured array, or of a table with a point in each row."""
    if array.dtype.names:
        fields, points = find_fields(array.dtype.names), array.reshape(-1)
        columns = [points[array.dtype.names[position]] for position in fields.used]
        if not all(column.ndim == 1 and is_number(column.dtype) for column in columns):
            raise ValueError("its fields of coordinates or intensity are no plain numbers")
        return point_cloud(path, columns[:3], *columns[3:])
    if not is_number(array.dtype) or array.ndim != 2:
        raise ValueError(f"it holds {array.dtype} of shape {array.shape}, where numbers of shape (N, 4) are wanted")
    fields = _fields(path, array.shape, layout)
    return point_cloud(path, [array[:, axis] for axis in fields[:3]], *(array[:, axis] for axis in fields.used[3:]))


def _fields(path: Path, shape: tuple[int, ...], layout: Layout) -> Fields:
    """Returns which columns of an array of a shape are which."""
    names = layout.columns or _KNOWN.get(shape[1])
    if names is None:
        turned = "; it seems to be turned: save its transpose" if shape[0] in _KNOWN else ""
        raise UserError(f"{path}: has {shape[1]} columns; say what they are, such as --columns x,y,z,_,i,_{turned}")
    if len(names) != shape[1]:
        raise UserError(f"{path}: has {shape[1]} columns, and --columns names {len(names)}; name each of them, or _")
    return find_fields(names)
