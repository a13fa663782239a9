"""The points of view of the browsers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from utils.scan.sensor import Sensor
from utils.viewer.records import CameraPose
from utils.viewer.scene import axes, quaternion

if TYPE_CHECKING:
    import viser

_FIELD = np.radians(75)
"""The angle that a browser shows from top to bottom, radians."""

Vector = NDArray[np.float64]


def start(sensor: Sensor, wide: bool = False) -> tuple[Vector, Vector]:
    """Returns position and target of the view that a browser has at first: from behind and above the car.

    Args:
        sensor: the LiDAR of the scans.
        wide: whether there are two clouds beside each other.
    """
    ahead, _ = axes(sensor)
    up = np.eye(3)[2]
    return (-70 * ahead + 75 * up, 5 * ahead) if wide else (-16 * ahead + 11 * up, 6 * ahead)


def birds_eye(sensor: Sensor, wide: bool = False) -> tuple[Vector, Vector]:
    """Returns position and target of the view from above, the driving direction up; arguments: see `start`."""
    ahead, _ = axes(sensor)
    height = 140.0 if wide else 75.0
    return -0.001 * height * ahead + height * np.eye(3)[2], np.zeros(3)


def drivers(sensor: Sensor, place: Vector) -> tuple[Vector, Vector]:
    """Returns position and target of the view from the place of the sensor, (3,) metres, ahead."""
    ahead, _ = axes(sensor)
    return place, place + 15 * ahead - 1.5 * np.eye(3)[2]


def move(client: viser.ClientHandle, position: Vector, target: Vector) -> None:
    """Moves the point of view of a browser."""
    with client.atomic():
        client.camera.fov = float(_FIELD)
        client.camera.up_direction = np.eye(3)[2]
        client.camera.position = position
        client.camera.look_at = target


def move_to_camera(client: viser.ClientHandle, pose: CameraPose, place: Vector) -> None:
    """Moves the point of view of a browser to a camera, so that all of its picture is in the window.

    Args:
        client: the browser.
        pose: the camera.
        place: (3,) where the origin of the frame of `pose` is in the scene, metres.
    """
    across, down = (size / 2 / focal for size, focal in zip(pose.size, pose.focal, strict=True))
    with client.atomic():
        client.camera.fov = float(2 * np.arctan(max(down, across / client.camera.aspect)))
        client.camera.position = pose.matrix[:3, 3] + place
        client.camera.wxyz = quaternion(pose.matrix[:3, :3])
