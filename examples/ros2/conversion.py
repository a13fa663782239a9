"""A message with points in, the values of the labelled one out; any object with the fields of a message will do."""

from __future__ import annotations

from typing import Any

from dataloader.formats.clouds import reading
from dataloader.formats.point_cloud2 import decode, decode_whole
from network.segmenter import Segmenter
from utils.results.labelled_cloud import message_values, with_labels


def labelled_values(message: Any, segmenter: Segmenter, confidence: bool = True) -> dict[str, Any]:
    """Labels the points of a `sensor_msgs/PointCloud2`.

    Args:
        message: the message, of rclpy, of rosbags or alike.
        segmenter: the network.
        confidence: add the confidence of each point.

    Returns:
        The values of a message with the same points in the same shape, all their fields and the labels; but for its
        header, see `utils.results.labelled_cloud.message_values`.

    Raises:
        UserError: the message is damaged, or has no point that the network could label.
    """
    with reading("the message", "message of points"):
        cloud, whole = decode("the message", message), decode_whole("the message", message)
    result = segmenter(cloud, past=[])
    sure = result.confidence if confidence else None
    table = with_labels(whole.table, result.labels, sure, segmenter.label_map)
    return message_values(table, whole.height, whole.width)
