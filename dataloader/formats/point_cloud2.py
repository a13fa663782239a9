"""The points of a `sensor_msgs/PointCloud2` message: fields at any place of a point, with padding, in either order."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dataloader.formats.clouds import no_points, point_cloud
from dataloader.formats.layout import find_fields
from utils.scan.cloud_message import CloudMessage
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
    grid = _Grid.of(name, message)
    fields = find_fields([field.name for field in message.fields])
    used = [message.fields[position] for position in fields.used]
    if any(field.datatype not in _TYPES for field in used):
        raise ValueError("a coordinate or the intensity has an unknown type")
    kinds = [np.dtype(grid.order + _TYPES[field.datatype]) for field in used]
    if any(field.offset + kind.itemsize > grid.step for field, kind in zip(used, kinds, strict=True)):
        raise ValueError(f"a field ends behind its point of {grid.step} bytes")
    table = [grid.column(kind, field.offset) for field, kind in zip(used, kinds, strict=True)]
    return point_cloud(name, table[:3], *table[3:])


def decode_whole(name: Path | str, message: Any, topic: str = "", logged: int = 0) -> CloudMessage:
    """Decodes a message with all its fields, and its header.

    Fields without a name, as they stand for padding, and those of unknown types are left out.

    Args:
        name: where the message comes from.
        message: as for `decode`.
        topic: where it was sent.
        logged: when it was recorded, nanoseconds.

    Raises:
        ValueError: its values do not fit together.
        UserError: it has no points.
    """
    grid = _Grid.of(name, message)
    axes = dict(zip(find_fields([field.name for field in message.fields])[:3], "xyz", strict=True))
    kept: dict[str, tuple[np.dtype, int]] = {}
    for position, field in enumerate(message.fields):
        called, count = str(axes.get(position) or field.name), max(int(field.count), 1)
        if called in kept or called.strip("_ ") == "" or field.datatype not in _TYPES or count > grid.step:
            continue
        kind = np.dtype((grid.order + _TYPES[field.datatype], (count,) if count > 1 else ()))
        if field.offset + kind.itemsize <= grid.step:
            kept[called] = kind, field.offset
    if missing := [axis for axis in "xyz" if axis not in kept]:
        raise ValueError(f"its field {missing[0]} has an unknown type, or ends behind its point of {grid.step} bytes")
    size = sum(kind.itemsize for kind, _ in kept.values())
    if size > 2 * grid.step:  # a few bytes may have two names, such as rgb and rgba; each name is a copy of them
        raise ValueError(f"its fields lie over each other: {size} bytes in points of {grid.step}")
    columns = {called: grid.column(kind.base, offset, kind.shape) for called, (kind, offset) in kept.items()}
    table = np.empty(grid.rows * grid.columns, [(called, kind) for called, (kind, _) in kept.items()])
    for called, values in columns.items():
        table[called] = values
    stamp = message.header.stamp
    seconds = int(stamp.sec) * 10**9 + int(stamp.nanosec)
    return CloudMessage(table, grid.rows, grid.columns, topic, str(message.header.frame_id), seconds, logged)


@dataclass(frozen=True)
class _Grid:
    """A frozen record of where the points of a message lie in its bytes."""

    rows: int
    columns: int
    step: int
    row_step: int
    order: str
    data: NDArray[np.uint8]

    @staticmethod
    def of(name: Path | str, message: Any) -> _Grid:
        rows, columns, step, row_step = (
            int(value) for value in (message.height, message.width, message.point_step, message.row_step)
        )
        if rows == 0 or columns == 0:
            no_points(name)
        # Drivers leave `row_step` at 0 or wrong where there is one row.
        row_step = row_step if rows > 1 else columns * step
        needed = (rows - 1) * row_step + columns * step
        data = np.asarray(message.data, np.uint8)
        if row_step < columns * step or needed > len(data):
            raise ValueError(f"{rows} x {columns} points of {step} bytes do not fit into its {len(data)} bytes")
        return _Grid(rows, columns, step, row_step, ">" if message.is_bigendian else "<", data)

    def column(self, kind: np.dtype, offset: int, shape: tuple[int, ...] = ()) -> NDArray[Any]:
        """Returns the values of a field, (rows * columns, *shape)."""
        strides = (self.row_step, self.step, *(kind.itemsize for _ in shape))
        values = np.ndarray((self.rows, self.columns, *shape), kind, self.data, offset=offset, strides=strides)
        return values.reshape(-1, *shape)
