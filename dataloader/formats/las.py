"""LAS files of surveys, `.las` and `.laz`, with laspy; what the header says is checked before memory is taken."""

from __future__ import annotations

import logging
import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dataloader.formats.clouds import check_file, check_surplus, missing_library, no_points, point_cloud, reading
from dataloader.formats.layout import Layout
from dataloader.formats.laz import check_packing
from utils.scan.point_cloud import PointCloud

_HEADER = struct.Struct("<4s20xBB68xHIIBHI")
"""Signature, version (two), size of the header, start of the points, records before them, format, size of a point,
points; version 1.4 has more points in a number of 8 bytes, at byte 247."""
_RECORD = 54  # bytes at least of a variable length record
_FEWEST_BITS = 1  # of a compressed point: those of real scans have 20 and more
_CHUNK = 1 << 24  # bytes of points that are unpacked at once


def read_las(path: Path, layout: Layout) -> PointCloud:
    """Reads a `.las` or `.laz`: scaled coordinates as float64, and the intensities of 0 to 65535.

    Raises:
        UserError: it is damaged, is cut off or holds no points; or laspy, for `.laz` also lazrs, is not installed.
    """
    check_file(path)
    try:
        import laspy
    except ImportError as error:
        raise missing_library(path, ".las file", "'laspy[lazrs]'", error) from error
    logging.getLogger("laspy").setLevel(logging.CRITICAL + 1)  # what it says is raised as well, and shown as one line
    with reading(path, ".las file"), path.open("rb") as file:
        points = _check(file.read(375), path.stat().st_size)
        if points == 0:
            no_points(path)
        file.seek(0)
        # The backend that is not parallel takes memory only for the points that are there.
        with laspy.LasReader(file, read_evlrs=False, laz_backend=laspy.LazBackend.Lazrs) as reader:
            header = reader.header
            if header.are_points_compressed:
                record = header.vlrs[header.vlrs.index("LasZipVlr")].record_data
                check_packing(path, file, record, header.offset_to_point_data, header.point_format.size, points)
            coordinates, intensity = _read_points(reader, points)
        return point_cloud(path, coordinates, intensity)


def _check(head: bytes, size: int) -> int:
    """Checks the sizes in a header, and returns the number of points."""
    if len(head) < 227 or not head.startswith(b"LASF"):
        raise ValueError("it does not begin with the header of a .las file")
    _, _, minor, header, start, records, form, row, points = _HEADER.unpack_from(head)
    ends = [size]  # or where waveforms or further records begin
    if minor >= 3 and len(head) >= 235:
        ends += struct.unpack_from("<Q", head, 227)
    if minor >= 4 and len(head) == 375:
        first, extended, more_points = struct.unpack_from("<QIQ", head, 235)
        points = more_points or points
        ends += [first] if extended else []
    if start > size or header > start or records * _RECORD > start - header or row == 0:
        raise ValueError("the sizes in its header do not fit the file")
    is_packed = form >= 64  # the highest bits mark compressed points
    if points * (_FEWEST_BITS if is_packed else 8 * row) > 8 * (size - start):
        raise ValueError(f"its header says {points} points, more than fit into its {size} bytes")
    if not is_packed:
        end = min(end for end in ends if end >= start)
        check_surplus(end - start - points * row, row, f"{points} points")
    return points


def _read_points(reader: Any, points: int) -> tuple[list[NDArray[np.float64]], NDArray[np.float32]]:
    """Reads coordinates and intensities, (N,) each, chunk by chunk: a wrong number of points takes no memory."""
    scales, offsets = np.asarray(reader.header.scales, float), np.asarray(reader.header.offsets, float)
    if not (np.isfinite(scales).all() and scales.all() and np.isfinite(offsets).all()):
        raise ValueError("its header has a scale of 0, or scales or offsets that are no numbers")
    parts = []
    for chunk in reader.chunk_iterator(max(_CHUNK // reader.header.point_format.size, 1)):
        whole = (chunk.X, chunk.Y, chunk.Z)
        with np.errstate(over="ignore"):
            xyz = [np.asarray(values) * scales[axis] + offsets[axis] for axis, values in enumerate(whole)]
        parts.append([*xyz, np.asarray(chunk.intensity).astype(np.float32)])
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    if len(columns[0]) != points:
        raise ValueError(f"its header says {points} points, and it has {len(columns[0])}")
    return columns[:3], columns[3]
