"""Bags with points, written by rosbags: messages with fields in an odd order and padding, of ROS 1, ROS 2 and MCAP."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
from rosbags.rosbag1 import Writer as Writer1
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin
from rosbags.rosbag2 import Writer as Writer2
from rosbags.typesys import Stores, get_typestore

from tests.support.point_files import CLOUD

STORES = {True: get_typestore(Stores.ROS1_NOETIC), False: get_typestore(Stores.ROS2_HUMBLE)}
POINTS, TEXT = "sensor_msgs/msg/PointCloud2", "std_msgs/msg/String"
KINDS = (
    "bag", "bag bz2", "bag lz4", "sqlite", "sqlite message", "sqlite file", "mcap", "mcap storage", "db3 alone",
    "mcap alone",
)  # fmt: skip


def message(cloud=CLOUD, ros1=True, order="<", rows=1, padding=0, row_padding=0, **changes) -> Any:
    """Makes a message whose fields are in an odd order, with bytes between points and rows that are no points."""
    types = STORES[ros1].types
    dtype = np.dtype(
        {
            "names": ["i", "ring", "z", "x", "y"],
            "formats": [order + kind for kind in ("f4", "u2", "f4", "f8", "f4")],
            "offsets": [padding, padding + 4, padding + 6, padding + 10, padding + 18],
            "itemsize": 22 + 2 * padding,
        }
    )
    table = np.full(len(cloud) * dtype.itemsize, 77, np.uint8).view(dtype)
    for column, name in enumerate(("x", "y", "z", "i")):
        table[name] = cloud[:, column]
    columns = len(cloud) // rows
    lines = table.reshape(rows, columns).view(np.uint8).reshape(rows, -1)
    lines = np.hstack([lines, np.full((rows, row_padding), 66, np.uint8)])
    numbers = {"f4": 7, "f8": 8, "u2": 4}
    field = types["sensor_msgs/msg/PointField"]
    fields = [
        field(name=name, offset=place[1], datatype=numbers[place[0].str[1:]], count=1)
        for name, place in (dtype.fields or {}).items()
    ]
    stamp = types["builtin_interfaces/msg/Time"](sec=1, nanosec=2)
    seq = {"seq": 0} if ros1 else {}
    values = {
        "header": types["std_msgs/msg/Header"](stamp=stamp, frame_id="lidar", **seq),
        "height": rows, "width": columns, "fields": fields, "is_bigendian": order == ">", "point_step": dtype.itemsize,
        "row_step": lines.shape[1], "data": lines.reshape(-1), "is_dense": False,
    }  # fmt: skip
    return types[POINTS](**{**values, **changes})


def write_bag(folder: Path, kind: str, topics: dict[str, list[Any]]) -> Path:
    """Writes a bag of one of KINDS with messages taken in turn from the topics; texts are of another type."""
    name, _, packing = kind.partition(" ")
    ros1 = name == "bag"
    store = STORES[ros1]
    if ros1:
        path = folder / "drive.bag"
        writer: Any = Writer1(path)
        if packing:
            writer.set_compression(writer.CompressionFormat[packing.upper()])
    else:
        path = folder / "drive"
        plugin = StoragePlugin.MCAP if name == "mcap" else StoragePlugin.SQLITE3
        writer = Writer2(path, version=9, storage_plugin=plugin)
        if packing and packing != "alone":
            writer.set_compression(CompressionMode[packing.upper()], CompressionFormat.ZSTD)
    with writer:
        connections = {}
        for topic, messages in topics.items():
            msgtype = TEXT if messages and isinstance(messages[0], str) else POINTS
            connections[topic] = writer.add_connection(topic, msgtype, typestore=store)
        for number in range(max(map(len, topics.values()))):
            for topic, messages in topics.items():
                if number < len(messages):
                    value = messages[number]
                    value = store.types[TEXT](data=value) if isinstance(value, str) else value
                    kind_of = connections[topic].msgtype
                    raw = store.serialize_ros1(value, kind_of) if ros1 else store.serialize_cdr(value, kind_of)
                    writer.write(connections[topic], 10**9 + number * 100, raw)
    if packing == "alone":
        single = next(path.glob("*.mcap" if name == "mcap" else "*.db3"))
        target = folder / f"dri ve%20#1?{single.suffix.upper()}"
        shutil.move(single, target)
        shutil.rmtree(path)
        return target
    return path
