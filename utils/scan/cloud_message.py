"""The record of the points of a message with all their fields, as ROS carries them and as they are given back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from utils.scan.point_cloud import PointCloud

_EXACT = 0.0005  # metres; what float32 may lose before coordinates are kept as float64


@dataclass(frozen=True)
class CloudMessage:
    """A frozen record of N points in `height` rows of `width`, with the header of their message.

    Attributes:
        table: (N,) structured, row after row: the fields `x`, `y`, `z` and all others, as they were.
        height, width: the shape of an organised cloud; 1 and N of any other.
        topic: where the message was sent.
        frame_id: the frame of the coordinates.
        stamp: when they were taken, nanoseconds.
        logged: when the message was recorded, nanoseconds.
    """

    table: NDArray[Any]
    height: int
    width: int
    topic: str
    frame_id: str
    stamp: int
    logged: int

    @staticmethod
    def of_cloud(cloud: PointCloud, topic: str, frame_id: str, stamp: int) -> CloudMessage:
        """Makes the message that a sensor would have sent of the points of a file.

        Coordinates are float32, which rviz asks for; map coordinates, of which that would lose half a millimetre or
        more, are float64.
        """
        xyz = cloud.xyz
        narrow = xyz.astype(np.float32)
        with np.errstate(invalid="ignore"):  # NaN, no return
            exact = not (np.abs(narrow.astype(np.float64) - xyz) > _EXACT).any()
        columns = {axis: (narrow if exact else xyz)[:, place] for place, axis in enumerate("xyz")}
        if cloud.intensity is not None:
            columns["intensity"] = cloud.intensity
        table = np.empty(len(cloud), [(name, values.dtype) for name, values in columns.items()])
        for name, values in columns.items():
            table[name] = values
        return CloudMessage(table, 1, len(cloud), topic, frame_id, stamp, stamp)
