"""The three-dimensional scene of the page: points, distance rings, cameras."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from utils.scan.sensor import Sensor
from utils.viewer.palette import Ground
from utils.viewer.records import CameraPose

if TYPE_CHECKING:
    import viser

RINGS = tuple(range(10, 101, 10))
"""Radii of the distance rings, metres."""

_NEAR = 50
"""Radius of the largest ring around two clouds that are beside each other, metres."""
_APART = 2.0 * _NEAR + 5
"""Distance between the origins of these two, metres."""
_HALF_PRECISION = 128.0
"""Up to this distance, metres, float16 is exact to 3 cm."""
_FLOOR_STEP = 0.4
"""By how much the ground may leave the height of the rings, metres, until they move."""
_FRUSTUM = 2.0
"""Depth of the frustum of a camera, metres."""
_NO_POINT, _NO_COLOR = np.zeros((1, 3), dtype=np.float32), np.zeros((1, 3), dtype=np.uint8)
"""What stands, invisibly, for no points."""


@dataclass(frozen=True)
class Cloud:
    """A frozen record of points to be shown.

    Attributes:
        xyz: (N, 3) float32 metres.
        rgb: (N, 3) uint8.
        title: a line above the points; "" for none.
    """

    xyz: NDArray[np.float32]
    rgb: NDArray[np.uint8]
    title: str = ""


@dataclass(frozen=True)
class Setting:
    """A frozen record of what is shown beside the points.

    Attributes:
        ground: the ground of the page.
        point_size: edge of a point, metres.
        rings: whether distance rings are shown.
        floor: height of the ground, metres.
        poses: the cameras whose frusta are shown.
    """

    ground: Ground
    point_size: float
    rings: bool
    floor: float
    poses: Sequence[CameraPose] = ()


def axes(sensor: Sensor) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns the unit vectors (3,) ahead and to the left in the frame of a sensor."""
    return (np.eye(3)[0], np.eye(3)[1]) if sensor.forward == "x" else (np.eye(3)[1], -np.eye(3)[0])


def places(sensor: Sensor, number: int) -> list[NDArray[np.float64]]:
    """Returns where the origins of so many clouds are in the scene, (3,) metres each, from left to right."""
    _, left = axes(sensor)
    return [left * _APART * ((number - 1) / 2 - i) for i in range(number)]


class Scene:
    """The scene of a page: one cloud, or two beside each other. One thread at a time may change it."""

    def __init__(self, server: viser.ViserServer, sensor: Sensor) -> None:
        """Starts with an empty scene.

        Args:
            server: the server of the page.
            sensor: the LiDAR of the scans, which has the driving direction.
        """
        self._server = server
        self._sensor = sensor
        self._places: list[_Place] = []

    def show(self, clouds: Sequence[Cloud], setting: Setting) -> None:
        """Shows clouds from left to right; only what has changed is sent to the browsers.

        Args:
            clouds: the clouds; none empties the scene.
            setting: what is shown beside them.
        """
        ahead, _ = axes(self._sensor)
        positions = places(self._sensor, len(clouds))
        with self._server.atomic():
            while len(self._places) < len(clouds):
                self._places.append(_Place(self._server.scene, f"/scan{len(self._places)}", ahead))
            for number, place in enumerate(self._places):
                if number >= len(clouds):
                    place.clear()
                    continue
                place.root.position = positions[number]
                place.show(clouds[number], setting, RINGS[-1] if len(clouds) == 1 else _NEAR)
        self._server.flush()


class _Place:
    """One of the places for clouds in the scene, and what stands there."""

    def __init__(self, scene: viser.SceneApi, name: str, ahead: NDArray[np.float64]) -> None:
        self._scene = scene
        self._name = name
        self.root = scene.add_frame(name, show_axes=False)
        self._points = scene.add_point_cloud(
            f"{name}/points", _NO_POINT, _NO_COLOR, point_shape="square", point_shading="flat", visible=False
        )
        self._title = scene.add_label(f"{name}/title", "", anchor="center-center", position=12.0 * np.eye(3)[2])
        self._rings = scene.add_frame(f"{name}/rings", show_axes=False)
        self._lines = scene.add_line_segments(
            f"{name}/rings/lines", _circles(RINGS[-1]), (128, 128, 128), thickness=1.0, thickness_units="screen"
        )
        self._radii = {
            radius: scene.add_label(
                f"{name}/rings/{radius}", f"{radius} m", position=radius * ahead, font_screen_scale=0.8
            )
            for radius in RINGS
        }
        self._reach = RINGS[-1]
        self._frusta: list[viser.CameraFrustumHandle] = []
        self._poses: Sequence[CameraPose] = ()
        self._floor = float("inf")

    def show(self, cloud: Cloud, setting: Setting, reach: int) -> None:
        self._show_points(cloud.xyz, cloud.rgb)
        self._points.point_size = setting.point_size
        self._title.text = cloud.title
        self._title.visible = bool(cloud.title)
        self._show_rings(setting, reach)
        self._show_cameras(setting.poses)
        self.root.visible = True

    def clear(self) -> None:
        """Hides the place, and frees the memory that the points have in the browsers."""
        self.root.visible = False
        self._show_points(_NO_POINT[:0], _NO_COLOR[:0])

    def _show_points(self, xyz: NDArray[np.float32], rgb: NDArray[np.uint8]) -> None:
        there = len(xyz) > 0
        self._points.visible = there
        if not there:  # the page of viser complains of clouds without points
            xyz, rgb = _NO_POINT, _NO_COLOR
        self._points.precision = "float32" if np.abs(xyz).max() > _HALF_PRECISION else "float16"
        self._points.points = xyz
        self._points.colors = rgb

    def _show_rings(self, setting: Setting, reach: int) -> None:
        if abs(setting.floor - self._floor) > _FLOOR_STEP:
            self._floor = setting.floor
            self._rings.position = np.array([0.0, 0.0, setting.floor])
        self._rings.visible = setting.rings
        self._lines.colors = np.array(setting.ground.ring, dtype=np.uint8)
        if reach != self._reach:
            self._reach = reach
            self._lines.points = _circles(reach)
            for radius, label in self._radii.items():
                label.visible = radius <= reach

    def _show_cameras(self, poses: Sequence[CameraPose]) -> None:
        same = len(poses) == len(self._poses) and all(
            np.array_equal(one.matrix, other.matrix) and (one.focal, one.size) == (other.focal, other.size)
            for one, other in zip(poses, self._poses, strict=True)
        )
        if same:
            return
        self._poses = poses
        for frustum in self._frusta:
            frustum.remove()
        self._frusta = [
            self._scene.add_camera_frustum(
                f"{self._name}/camera{number}",
                fov=field_of_view(pose),
                aspect=(pose.size[0] / pose.focal[0]) / (pose.size[1] / pose.focal[1]),
                scale=_FRUSTUM,
                thickness=1.5,
                thickness_units="screen",
                color=(255, 160, 0),
                wxyz=quaternion(pose.matrix[:3, :3]),
                position=pose.matrix[:3, 3],
            )
            for number, pose in enumerate(poses)
        ]


def field_of_view(pose: CameraPose) -> float:
    """Returns the angle that a camera sees from top to bottom, radians."""
    return float(2 * np.arctan(pose.size[1] / 2 / pose.focal[1]))


def quaternion(rotation: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns the unit quaternion (w, x, y, z) of the rotation that is nearest to a (3, 3) matrix."""
    import viser.transforms

    left, _, right = np.linalg.svd(rotation)
    mirror = np.diag([1.0, 1.0, np.linalg.det(np.matmul(left, right))])
    return viser.transforms.SO3.from_matrix(np.matmul(np.matmul(left, mirror), right)).wxyz


def _circles(reach: int) -> NDArray[np.float32]:
    """Returns the lines of the rings up to a radius: (S, 2, 3) float32 metres, around the origin."""
    angle = np.linspace(0, 2 * np.pi, 97)
    circle = np.stack([np.cos(angle), np.sin(angle), np.zeros_like(angle)], axis=1)
    segments = np.stack([circle[:-1], circle[1:]], axis=1)
    return np.concatenate([radius * segments for radius in RINGS if radius <= reach]).astype(np.float32)
