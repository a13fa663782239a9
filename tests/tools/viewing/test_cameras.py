"""The pose of a camera against the projection that its pixels come from, and against the files alone."""

from __future__ import annotations

import numpy as np
import pytest

from dataloader.catalogue import DATA_SETS
from tests.support.demo import read_calibration, read_table
from tools.viewing.nuscenes import NuScenesFrames
from tools.viewing.semantickitti import SemanticKITTIFrames
from utils.labels import LabelMap
from utils.viewer.records import CameraPose

MAPS = {name: LabelMap.load(DATA_SETS[name].label_mapping_path) for name in ("SemanticKITTI", "nuScenes")}


@pytest.fixture(scope="module")
def scans(demo_trees):
    kitti = SemanticKITTIFrames(demo_trees["SemanticKITTI"], "08", MAPS["SemanticKITTI"])
    nuscenes = NuScenesFrames(demo_trees["nuScenes"], "v1.0-mini", "mini_val", MAPS["nuScenes"])
    return {"SemanticKITTI": kitti.read(0), "nuScenes": nuscenes.read(1)}


def projection_of(tree):
    """Multiplies the matrices of calib.txt, (3, 4)."""
    found = read_calibration(tree, "08")
    return np.asarray(found["P2"] @ np.vstack([found["Tr"], [0, 0, 0, 1]]), dtype=np.float64)


def pinhole(pose, xyz):
    """Projects points by hand: (N, 2) row and column, and (N,) depth."""
    x, y, z = ((xyz.astype(np.float64) - pose.matrix[:3, 3]) @ pose.matrix[:3, :3]).T
    with np.errstate(divide="ignore"):
        column, row = (focal * axis / z for focal, axis in zip(pose.focal, (x, y), strict=True))
    return np.stack([row + pose.center[1], column + pose.center[0]], axis=1), z


@pytest.mark.parametrize("dataset", MAPS)
def test_a_point_falls_where_the_pinhole_of_the_pose_puts_it(scans, dataset):
    xyz = scans[dataset].xyz
    for camera in (camera for row in scans[dataset].cameras for camera in row):
        pose = camera.pose
        assert pose.size == camera.picture.image.shape[1::-1]
        pixels, depth = pinhole(pose, xyz)
        seen = ~np.isnan(camera.picture.pixels[:, 0])
        assert seen.sum() > 5
        np.testing.assert_allclose(pixels[seen], camera.picture.pixels[seen], atol=1e-3)
        inside = ((pixels > 0.01) & (pixels < np.array(pose.size[::-1]) - 0.01)).all(axis=1) & (depth > 0)
        ahead = xyz[:, 0] > 0 if dataset == "SemanticKITTI" else True
        assert not (inside & ahead & ~seen).any()
        turn = pose.matrix[:3, :3]
        np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-9)
        assert np.linalg.det(turn) > 0


def test_the_camera_of_semantickitti_is_where_the_calibration_has_it(scans, demo_trees):
    """The one point without a projection, which is the null space of P2 Tr."""
    projection = projection_of(demo_trees["SemanticKITTI"])
    null = np.linalg.svd(projection)[2][-1]
    np.testing.assert_allclose(scans["SemanticKITTI"].cameras[0][0].pose.matrix[:3, 3], null[:3] / null[3], atol=1e-6)


def turned(quaternion, vector):
    """Rotates a vector by (w, x, y, z), with Rodrigues' formula."""
    w, axis = quaternion[0], np.array(quaternion[1:])
    return vector + 2 * np.cross(axis, np.cross(axis, vector) + w * vector)


def test_the_cameras_of_nuscenes_are_where_the_tables_have_them(scans, demo_trees):
    """From the camera to the vehicle at its time, the world, the vehicle at the LiDAR's time and the LiDAR."""
    tables = {
        name: read_table(demo_trees["nuScenes"], "v1.0-mini", name)
        for name in ("sample_data", "calibrated_sensor", "ego_pose", "sensor")
    }
    token = scans["nuScenes"].title.rpartition("(")[2].rstrip(")")
    sample = tables["sample_data"][token]["sample_token"]

    def placed(data):
        sensor, vehicle = (
            tables["calibrated_sensor"][data["calibrated_sensor_token"]],
            tables["ego_pose"][data["ego_pose_token"]],
        )
        return sensor, vehicle

    def in_world(data, point):
        for frame in placed(data):
            point = turned(frame["rotation"], np.array(point)) + frame["translation"]
        return point

    lidar = tables["sample_data"][token]
    of_sample = {
        tables["sensor"][placed(data)[0]["sensor_token"]]["channel"]: data
        for data in tables["sample_data"].values()
        if data["sample_token"] == sample and data["is_key_frame"]
    }
    for camera in (camera for row in scans["nuScenes"].cameras for camera in row):
        data = of_sample[camera.picture.name]
        matrix = camera.pose.matrix
        for depth in (0.0, 10.0):  # the camera, and what is ahead of it
            here = matrix[:3, 3] + depth * matrix[:3, 2]
            np.testing.assert_allclose(in_world(lidar, here), in_world(data, [0, 0, depth]), atol=1e-5)
        intrinsic = np.array(placed(data)[0]["camera_intrinsic"])
        scale = camera.pose.size[0] / data["width"], camera.pose.size[1] / data["height"]
        np.testing.assert_allclose(camera.pose.focal, intrinsic[[0, 1], [0, 1]] * scale, rtol=1e-6)
        np.testing.assert_allclose(camera.pose.center, intrinsic[:2, 2] * scale, rtol=1e-6)


# A mirror, a negative multiple, a projection onto a line, and no numbers.
@pytest.mark.parametrize("factors", [(-1, 1, 1), (-1, -1, -1), (0, 1, 1), (np.nan, 1, 1)])
def test_what_is_no_camera_has_no_pose(demo_trees, factors):
    projection = projection_of(demo_trees["SemanticKITTI"])
    assert CameraPose.of(projection, (96, 64)) is not None
    assert CameraPose.of(np.array(factors, np.float64)[:, None] * projection, (96, 64)) is None


def test_a_multiple_of_a_projection_is_the_same_camera(demo_trees):
    projection = projection_of(demo_trees["SemanticKITTI"])
    once, thrice = (CameraPose.of(factor * projection, (96, 64)) for factor in (1.0, 3.0))
    assert once is not None and thrice is not None and once.center is not None and thrice.center is not None
    np.testing.assert_allclose(once.matrix, thrice.matrix, atol=1e-9)
    np.testing.assert_allclose([*once.focal, *once.center], [*thrice.focal, *thrice.center])
