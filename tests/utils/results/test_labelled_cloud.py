"""Labels as fields of a cloud: what becomes of the fields that a sensor has sent."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from dataloader.formats.point_cloud2 import decode, decode_whole
from utils.labels import LabelMap
from utils.paths import REPOSITORY
from utils.results.bag_files import labelled_topic
from utils.results.labelled_cloud import message_values, with_labels
from utils.scan.cloud_message import CloudMessage
from utils.scan.point_cloud import PointCloud

CLASSES = LabelMap.load(REPOSITORY / "config" / "label_mapping" / "semantic-kitti.yaml")


def sent(fields: list[tuple[str, str, int]], step: int, order: str = "<", rows: int = 1) -> Any:
    """A message of 6 points; fields are name, type with its repetitions, and offset."""
    numbers = {"i1": 1, "u1": 2, "i2": 3, "u2": 4, "i4": 5, "u4": 6, "f4": 7, "f8": 8}
    listed = [
        SimpleNamespace(name=name, offset=offset, datatype=numbers[kind[-2:]], count=int(kind[:-2] or 1))
        for name, kind, offset in fields
    ]
    data = np.random.default_rng(0).integers(0, 60, 6 * step, dtype=np.uint8)
    stamp = SimpleNamespace(sec=3, nanosec=4)
    return SimpleNamespace(
        header=SimpleNamespace(frame_id="os", stamp=stamp), height=rows, width=6 // rows, fields=listed,
        is_bigendian=order == ">", point_step=step, row_step=step * (6 // rows), data=data,
    )  # fmt: skip


@pytest.mark.parametrize("order", "<>")
def test_every_field_keeps_its_values_in_the_byte_order_of_the_output(order):
    fields = [
        ("rgb", "f4", 0), ("X", "f4", 4), ("y", "f4", 8), ("z", "f8", 12), ("_", "3u1", 20), ("normal", "3f4", 23),
        ("ring", "u2", 35), ("label", "u1", 37), ("ring", "u1", 38), ("t", "u4", 39), ("behind", "f8", 40),
    ]  # fmt: skip
    message = sent(fields, 44, order, rows=2)
    whole = decode_whole("here", message, "/points", 5)
    assert (whole.height, whole.width, whole.frame_id, whole.stamp, whole.logged) == (2, 3, "os", 3 * 10**9 + 4, 5)
    labels = np.array([0, 1, 1, 2, 3, 19], np.uint8)
    table = with_labels(whole.table, labels, None, CLASSES)
    assert table.dtype.names == ("x", "y", "z", "normal", "ring", "t", "label", "class", "rgb")
    rows = message.data.reshape(6, 44)
    for called, kind, offset in (fields[1], fields[3], fields[5], fields[6], fields[9]):
        size = int(kind[:-2] or 1) * int(kind[-1])
        own = rows[:, offset : offset + size].copy().view(order + kind[-2:])
        assert np.array_equal(table[called.lower()].reshape(6, -1), own)
    values = message_values(table, 2, 3)
    (normal,) = (field for field in values["fields"] if field["name"] == "normal")
    assert (normal["count"], normal["datatype"]) == (3, 7) and values["is_bigendian"] is False
    values["fields"] = [SimpleNamespace(**each) for each in values["fields"]]
    again = SimpleNamespace(**{**values, "data": np.frombuffer(values["data"], np.uint8)})
    assert np.array_equal(decode("here", again).xyz, decode("here", message).xyz)


def test_coordinates_are_as_wide_as_they_have_to_be():
    near = np.array([[1.5, 2.25, -1.0], [np.nan] * 3])
    for xyz, kind in ((near, "f4"), (near.astype(np.float32), "f4"), (near + [4e5, 5e6, 0] + 0.001, "f8")):
        cloud = PointCloud("", xyz, np.ones(2, np.float32))
        found = CloudMessage.of_cloud(cloud, "/points", "lidar", 0)
        assert found.table.dtype["x"] == kind and (found.height, found.width) == (1, 2)
        assert np.allclose(np.stack([found.table[axis] for axis in "xyz"], 1), xyz, atol=5e-4, rtol=0, equal_nan=True)
        table = with_labels(found.table, np.array([1, 0], np.uint8), None, CLASSES)
        assert message_values(table, 1, 2)["is_dense"] is False


@pytest.mark.parametrize(
    ("topic", "expected"),
    [("/points", "/points/labelled"), ("a//b c/2x/", "/a/b_c/_2x/labelled"), ("", "/labelled"), ("/ü", "/_/labelled")],
)
def test_topics_are_those_of_ros_2(topic, expected):
    assert labelled_topic(topic) == expected


def test_fields_that_share_their_bytes_cost_no_memory():
    axes = [("x", "f4", 0), ("y", "f4", 4), ("z", "f4", 8)]
    two_names = decode_whole("here", sent([*axes, ("rgb", "f4", 12), ("rgba", "u4", 12)], 16))
    assert two_names.table.dtype.names == ("x", "y", "z", "rgb", "rgba")
    many = sent([*axes, *((f"copy{number}", "16u1", 0) for number in range(2))], 16)
    with pytest.raises(ValueError, match="its fields lie over each other: 44 bytes in points of 16"):
        decode_whole("here", many)
