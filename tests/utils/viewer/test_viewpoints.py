"""Where cameras and browsers look from."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from utils.scan.sensor import NUSCENES, SEMANTICKITTI, Sensor
from utils.viewer import viewpoints
from utils.viewer.compose import cameras, pose_in_scene
from utils.viewer.loading import prepare
from utils.viewer.records import ShownScan
from utils.viewer.scene import field_of_view, places, quaternion


def rotated(quaternion: np.ndarray, vector: np.ndarray) -> np.ndarray:
    """The vector turned by a unit quaternion (w, x, y, z): q v q*, by Hamilton's product."""
    w, axis = quaternion[0], quaternion[1:]
    turned = 2 * np.cross(axis, vector)
    return vector + w * turned + np.cross(axis, turned)


@pytest.mark.parametrize("seed", range(5))
def test_a_rotation_becomes_its_quaternion_also_if_it_is_not_quite_one(seed: int) -> None:
    rng = np.random.default_rng(seed)
    axis, angle = rng.normal(size=3), rng.uniform(0, np.pi)
    axis /= np.linalg.norm(axis)
    cross = np.cross(np.eye(3), axis)
    rotation = np.eye(3) - np.sin(angle) * cross + (1 - np.cos(angle)) * np.matmul(cross, cross)
    found = quaternion(rotation + rng.normal(scale=1e-6, size=(3, 3)))  # as calibrations are rounded
    for vector in np.eye(3):
        assert np.allclose(rotated(found, vector), np.matmul(rotation, vector), atol=1e-4)


def test_the_angle_of_a_camera_is_that_between_the_rays_of_its_top_and_bottom(scan: ShownScan) -> None:
    pose = scan.cameras[0][0].pose
    assert pose is not None
    top = np.array([0, -pose.size[1] / 2 / pose.focal[1], 1.0])
    bottom = top * [1, -1, 1]
    cosine = float((top * bottom).sum()) / np.linalg.norm(top) / np.linalg.norm(bottom)
    assert field_of_view(pose) == pytest.approx(np.arccos(cosine))


def test_the_camera_of_a_scan_far_away_moves_with_the_points(scan: ShownScan) -> None:
    there = pose_in_scene(prepare(scan, 4), scan.cameras[0][0])
    far = np.array([400_000.0, 50_000.0, 120.0])
    assert there is not None and scan.cameras[0][0].pose is not None
    matrix = scan.cameras[0][0].pose.matrix.copy()
    matrix[:3, 3] += far
    camera = replace(scan.cameras[0][0], pose=replace(there, matrix=matrix))
    frame = prepare(replace(scan, xyz=(scan.xyz + far).astype(np.float32), cameras=[[camera]]), 4)
    moved = pose_in_scene(frame, cameras(frame)["front"])
    assert moved is not None
    assert np.allclose(moved.matrix[:3, 3] + frame.origin, matrix[:3, 3])
    assert np.abs(moved.matrix[:3, 3]).max() < 100


@pytest.mark.parametrize(("sensor", "ahead"), [(SEMANTICKITTI, (1, 0, 0)), (NUSCENES, (0, 1, 0))])
def test_views_look_in_the_driving_direction(sensor: Sensor, ahead: tuple[int, int, int]) -> None:
    for position, target in (viewpoints.start(sensor), viewpoints.drivers(sensor, np.zeros(3))):
        direction = target - position
        assert np.dot(direction, ahead) > 0 and direction[2] < 0
        assert abs(np.dot(direction, np.cross(ahead, (0, 0, 1)))) < 1e-9
    position, target = viewpoints.birds_eye(sensor)
    direction = (target - position) / np.linalg.norm(target - position)
    assert direction[2] < -0.999 and np.dot(direction, ahead) > 0  # so that ahead is up in the window
    left, right = places(sensor, 2)
    assert np.dot(left - right, np.cross((0, 0, 1), ahead)) > 100
    assert np.array_equal(places(sensor, 1)[0], np.zeros(3))
