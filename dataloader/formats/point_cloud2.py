"""The points of a `sensor_msgs/PointCloud2` message: fields at any place of a point, with padding, in either order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from dataloader.formats.clouds import no_points, point_cloud
from dataloader.formats.layout import find_fields
from utils.scan.point_cloud import PointCloud

_TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 8: "f8"}
"""Numbers of types in `sensor_msgs/PointField`."""


def decode(name: Path | str, message: Any) -> PointCloud:
    """Decodes the points of a message, row after row, with those that are no returns.

    Args:
        name: where the message comes from.
        message: has the attributes of `sensor_msgs/PointCloud2`; their values are untrusted.

    Raises:
        ValueError: they do not fit together.
        UserError: it has no points.
    """
    rows, columns, step, row_step = (
        int(value) for value in (message.height, message.width, message.point_step, message.row_step)
    )
    if rows == 0 or columns == 0:
        no_points(name)
    fields = find_fields([field.name for field in message.fields])
    used = [message.fields[position] for position in fields.used]
    if any(field.datatype not in _TYPES for field in used):
        raise ValueError("a coordinate or the intensity has an unknown type")
    order = ">" if message.is_bigendian else "<"
    kinds = [np.dtype(order + _TYPES[field.datatype]) for field in used]
    if any(field.offset + kind.itemsize > step for field, kind in zip(used, kinds, strict=True)):
        raise ValueError(f"a field ends behind its point of {step} bytes")
    # Drivers leave `row_step` at 0 or wrong where there is one row.
    row_step = row_step if rows > 1 else columns * step
    needed = (rows - 1) * row_step + columns * step
    data = np.asarray(message.data, np.uint8)
    if row_step < columns * step or needed > len(data):
        raise ValueError(f"{rows} x {columns} points of {step} bytes do not fit into its {len(data)} bytes")
    table = [
        np.ndarray((rows, columns), kind, data, offset=field.offset, strides=(row_step, step)).reshape(-1)
        for field, kind in zip(used, kinds, strict=True)
    ]
    return point_cloud(name, table[:3], *table[3:])
