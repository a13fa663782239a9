"""Labels as fields of a `sensor_msgs/PointCloud2`: pure arrays, for bags and for a node of ROS alike."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from utils.labels import LabelMap

_NUMBERS = {"i1": 1, "u1": 2, "i2": 3, "u2": 4, "i4": 5, "u4": 6, "f4": 7, "f8": 8}
"""Type -> its number in `sensor_msgs/PointField`."""

_OURS = ("label", "class", "rgb", "confidence")


def with_labels(
    table: NDArray[Any], labels: NDArray[np.uint8], confidence: NDArray[np.float32] | None, classes: LabelMap
) -> NDArray[Any]:
    """Puts the labels of points beside their fields.

    Args:
        table: (N,) structured, the fields of the points in either byte order.
        labels: (N,) uint8 learning ids.
        confidence: (N,) float32, or None: left out.
        classes: the classes of the learning ids.

    Returns:
        (N,) structured, little-endian and aligned: all fields of `table` with the values they had, then `label`
        (uint32 raw id), `class` (uint8 learning id), `rgb` (0x00RRGGBB in the bits of a float32, as PCL has it and
        rviz and Foxglove read it) and `confidence` (float32). They replace fields with these names.
    """
    kept = [name for name in table.dtype.names or () if name not in _OURS]
    colors = classes.colors.astype(np.uint32)
    packed = (colors[:, 0] << 16 | colors[:, 1] << 8 | colors[:, 2]).astype("<u4").view("<f4")
    columns = {"label": classes.to_raw.astype("<u4")[labels], "class": labels, "rgb": packed[labels]}
    if confidence is not None:
        columns["confidence"] = confidence.astype("<f4")
    kinds = [(name, _little(table.dtype[name])) for name in kept]
    made = np.zeros(
        len(labels), np.dtype([*kinds, *((name, each.dtype) for name, each in columns.items())], align=True)
    )
    for name in kept:
        made[name] = table[name]
    for name, values in columns.items():
        # The bits of a colour may be those of a signalling NaN, which a copy of floats can change.
        made[name].view(_bits(values.dtype))[:] = values.view(_bits(values.dtype))
    return made


def message_values(table: NDArray[Any], height: int, width: int) -> dict[str, Any]:
    """Lists the values of a `sensor_msgs/PointCloud2` but for its header.

    Args:
        table: (height * width,) structured, little-endian, with x, y and z; from `with_labels`.
        height, width: the shape of the cloud.

    Returns:
        name -> value. `fields` is a list of the keyword arguments of each `PointField`, `data` are bytes.
    """
    step = table.dtype.itemsize
    dense = all(bool(np.isfinite(table[axis]).all()) for axis in "xyz")
    places: dict[str, Any] = dict(table.dtype.fields or {})
    return {
        "height": height, "width": width, "fields": [_field(name, *place[:2]) for name, place in places.items()],
        "is_bigendian": False, "point_step": step, "row_step": step * width, "data": table.tobytes(),
        "is_dense": dense,
    }  # fmt: skip


def classes_text(classes: LabelMap) -> str:
    """Writes what the numbers of a labelled cloud mean, as JSON: class, label, name and colour of each class."""
    rows = zip(classes.to_raw.tolist(), classes.names, classes.colors.tolist(), strict=True)
    listed = [
        {"class": number, "label": raw, "name": name, "color": "#{:02x}{:02x}{:02x}".format(*color)}
        for number, (raw, name, color) in enumerate(rows)
    ]
    return json.dumps({"classes": listed})


def _field(name: str, kind: np.dtype, offset: int) -> dict[str, Any]:
    return {
        "name": name,
        "offset": offset,
        "datatype": _NUMBERS[kind.base.str[1:]],
        "count": int(np.prod(kind.shape)) if kind.shape else 1,
    }


def _little(kind: np.dtype) -> np.dtype:
    return np.dtype((kind.base.newbyteorder("<"), kind.shape))


def _bits(kind: np.dtype) -> str:
    return f"<u{kind.itemsize}"
