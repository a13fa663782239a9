"""The conversion of the ROS 2 node, with messages of rosbags in the place of those of rclpy."""

from __future__ import annotations

import array
from types import SimpleNamespace

import numpy as np
import pytest

from examples.ros2.conversion import labelled_values
from network.segmenter import Segmenter
from tests.support.bags import message
from tests.support.checkpoints import small_config, write_checkpoint
from tests.support.networks import refusal


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory) -> Segmenter:
    checkpoint = write_checkpoint(tmp_path_factory.mktemp("node") / "best.ckpt", small_config())
    return Segmenter.load(checkpoint, device="cpu", fit="off")


def test_a_message_comes_back_with_the_labels_of_its_points(segmenter):
    drawn = np.random.default_rng(0)
    points = np.c_[drawn.uniform([-30, -30, -2], [30, 30, 1], (400, 3)), drawn.uniform(0, 1, 400)].astype(np.float32)
    points[5, :3] = np.nan
    said = message(points, False, ">", 4)
    said.data = array.array("B", said.data.tobytes())  # as rclpy has it
    values = labelled_values(said, segmenter)
    result = segmenter(points)
    assert (values["height"], values["width"], values["is_dense"]) == (4, 100, False)
    for name, expected in (("class", result.labels), ("label", result.raw_labels), ("confidence", result.confidence)):
        (field,) = (field for field in values["fields"] if field["name"] == name)
        kind = {2: "u1", 6: "<u4", 7: "<f4"}[field["datatype"]]
        strides = (values["point_step"],)
        assert np.array_equal(np.ndarray(400, kind, values["data"], field["offset"], strides), expected)


def test_what_is_no_cloud_is_one_line(segmenter):
    said = message(np.ones((4, 4), np.float32), False)
    broken = SimpleNamespace(**{**vars(said), "data": said.data[:-1]})
    assert "do not fit into its" in refusal(labelled_values, broken, segmenter)
