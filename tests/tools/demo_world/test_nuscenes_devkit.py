"""The geometry and the benchmark of the unmodified nuscenes-devkit on the nuScenes tree."""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import pytest
from pyquaternion import Quaternion
from scipy.spatial import KDTree

from tests.support.demo import EXACT_NUSCENES, samples_of, sweep_of
from tools.demo_world import nuscenes
from tools.demo_world.nuscenes_rig import CAMERAS, drives

LidarSegEval = pytest.importorskip("nuscenes.eval.lidarseg.evaluate").LidarSegEval
LidarsegClassMapper = pytest.importorskip("nuscenes.eval.lidarseg.utils").LidarsegClassMapper
validate_submission = pytest.importorskip("nuscenes.eval.lidarseg.validate_submission").validate_submission
LidarPointCloud = pytest.importorskip("nuscenes.utils.data_classes").LidarPointCloud
points_in_box = pytest.importorskip("nuscenes.utils.geometry_utils").points_in_box
create_splits_scenes = pytest.importorskip("nuscenes.utils.splits").create_splits_scenes


def to_global(devkit, token, points):
    """Moves (N, 3) positions from a sensor's frame to the city's."""
    data = devkit.get("sample_data", token)
    for table in ("calibrated_sensor", "ego_pose"):
        record = devkit.get(table, data[f"{table}_token"])
        points = points @ Quaternion(record["rotation"]).rotation_matrix.T + record["translation"]
    return points


@pytest.mark.parametrize("split", ["mini_train", "mini_val"])
def test_nearly_all_classes_occur(mini, split):
    to_class = LidarsegClassMapper(mini).convert_label
    chosen = [scene for scene in mini.scene if scene["name"] in create_splits_scenes()[split]]
    labels = [sweep_of(mini, sample)[1] for scene in chosen for sample in samples_of(mini, scene)]
    classes = to_class(np.concatenate(labels))
    assert len(set(classes.tolist()) - {0}) >= 15
    assert 0 < np.mean(classes == 0) < 0.1


def test_poses_bring_standing_things_together(mini):
    scene = next(scene for scene in mini.scene if scene["nbr_samples"] == 3)
    clouds = []
    for sample in samples_of(mini, scene)[::2]:
        points, labels = sweep_of(mini, sample)
        standing = points[labels == mini.lidarseg_name2idx_mapping["static.manmade"], :3].astype(np.float64)
        clouds.append((standing, to_global(mini, sample["data"]["LIDAR_TOP"], standing)))
    near = np.linalg.norm(clouds[1][0], axis=1) < 20
    own, city = (np.median(KDTree(clouds[0][frame]).query(clouds[1][frame][near])[0]) for frame in (0, 1))
    assert city < 0.25
    assert city < 0.5 * own


def test_sweeps_between_key_frames_see_the_same_street(mini):
    """Points of a sweep and of the key frame before it, which the car has left behind, come together in the world."""
    scene = next(scene for scene in mini.scene if scene["nbr_samples"] == 3)
    key = mini.get("sample_data", samples_of(mini, scene)[0]["data"]["LIDAR_TOP"])
    clouds = []
    for record in (key, mini.get("sample_data", mini.get("sample_data", key["next"])["next"])):
        points = np.fromfile(mini.get_sample_data_path(record["token"]), "<f4").reshape(-1, 5)
        upright = points[points[:, 2] > -1, :3].astype(np.float64)
        clouds.append((upright, to_global(mini, record["token"], upright)))
    near = np.linalg.norm(clouds[1][0], axis=1) < 20
    own, city = (np.median(KDTree(clouds[0][frame]).query(clouds[1][frame][near])[0]) for frame in (0, 1))
    assert near.sum() > 1000 and city < 0.2 and city < 0.5 * own


def seen_in_front(devkit, drive, camera_pose):
    """Counts, for each camera and by the devkit's own projection, the points on standing surfaces in the picture that
    lie nearer than that surface, which no ray could have reached; those that lie on it; and those of them that have its
    category.

    camera_pose: whether the camera's own ego pose is used, or the LiDAR's for both.
    """
    found = {}
    for sensor, scene, picture in nuscenes.pictures(EXACT_NUSCENES, drive, 0):
        sample = samples_of(devkit, next(scene for scene in devkit.scene if scene["name"] == drive.name))[0]
        laser, camera = sample["data"]["LIDAR_TOP"], sample["data"][sensor.channel]
        record = devkit.get("sample_data", camera)
        own = record["ego_pose_token"]
        if not camera_pose:
            record["ego_pose_token"] = devkit.get("sample_data", laser)["ego_pose_token"]
        try:
            place, depth, _ = devkit.explorer.map_pointcloud_to_image(laser, camera)
            _, colour, _ = devkit.explorer.map_pointcloud_to_image(laser, camera, show_lidarseg=True)
        finally:
            record["ego_pose_token"] = own
        column, row = place[0].astype(int), place[1].astype(int)
        around = np.lib.stride_tricks.sliding_window_view(np.pad(picture.primitive, 1, mode="edge"), (3, 3))
        one_surface = (around == picture.primitive[..., None, None]).all(axis=(2, 3))
        rows = scene.primitives[picture.primitive]
        judged = (one_surface & ~rows["moving"])[row, column]
        nearer = (picture.depth[row, column] - depth)[judged]
        margin = 0.1 + 0.03 * depth[judged]  # a pixel of road covers decimetres
        names = np.array(list(devkit.colormap.values()))[nuscenes.raw_ids(rows["kind"][row, column][judged])]
        same = (np.abs(names / 255 - colour[judged, :3]) < 1e-3).all(axis=1)
        on = np.abs(nearer) < margin
        found[sensor.channel] = np.array([judged.sum(), (nearer > margin).sum(), on.sum(), (on & same).sum()])
    return found


def test_devkit_projects_the_points_onto_what_the_pictures_show(mini):
    every = drives(EXACT_NUSCENES)
    chosen = [every[0], every[8]]
    right, wrong = ([seen_in_front(mini, drive, camera_pose) for drive in chosen] for camera_pose in (True, False))
    for channel in [sensor.channel for sensor in CAMERAS]:
        judged, impossible, on, same = np.sum([one[channel] for one in right], axis=0)
        assert judged > 2000
        assert impossible / judged < 0.01
        assert on / judged > 0.75  # the others are hidden from the camera, which stands lower and farther ahead
        assert same / on > 0.99
        # Without the two ego poses the points miss by the way the car went in between.
        judged, without, *_ = np.sum([one[channel] for one in wrong], axis=0)
        assert without / judged > max(0.008, 4 * impossible / judged)


def test_devkit_finds_a_boxs_points_in_it(mini):
    boxes = 0
    for sample in mini.sample:
        token = sample["data"]["LIDAR_TOP"]
        path, found, _ = mini.get_sample_data(token)
        points, labels = LidarPointCloud.from_file(path).points[:3], sweep_of(mini, sample)[1]
        for box in found:
            annotation = mini.get("sample_annotation", box.token)
            own = labels == mini.lidarseg_name2idx_mapping[box.name]
            inside = points_in_box(box, points, wlh_factor=1.02) & own
            assert 1 <= annotation["num_lidar_pts"] <= inside.sum() <= annotation["num_lidar_pts"] * 1.5 + 5
            boxes += 1
    assert boxes == len(mini.sample_annotation) > 200


def test_instances_are_followed_through_a_scene(mini):
    lengths = []
    for instance in mini.instance:
        token, chain = instance["first_annotation_token"], []
        while token:
            chain.append(mini.get("sample_annotation", token))
            token = chain[-1]["next"]
        assert chain[-1]["token"] == instance["last_annotation_token"]
        assert len(chain) == instance["nbr_annotations"]
        assert {record["instance_token"] for record in chain} == {instance["token"]}
        lengths.append(len(chain))
        for before, after in pairwise(chain):
            attribute = mini.get("attribute", before["attribute_tokens"][0])["name"]
            moved = np.linalg.norm(np.subtract(after["translation"], before["translation"]))
            assert attribute not in ("vehicle.parked", "pedestrian.standing") or moved < 1e-6
            assert attribute not in ("vehicle.moving", "pedestrian.moving") or moved > 0.4
            np.testing.assert_allclose(after["size"], before["size"], atol=1e-6)
    assert max(lengths) == 3


def predict(devkit, folder, split, labels):
    """Writes a submission with the predictions `labels(sample)` for each sample of a split."""
    (folder / "lidarseg" / split).mkdir(parents=True)
    (folder / split).mkdir()
    meta = {f"use_{what}": what == "lidar" for what in ("camera", "lidar", "radar", "map", "external")}
    (folder / split / "submission.json").write_text(json.dumps({"meta": meta}))
    for scene in devkit.scene:
        for sample in samples_of(devkit, scene) if scene["name"] in create_splits_scenes()[split] else []:
            labels(sample).astype(np.uint8).tofile(
                folder / "lidarseg" / split / f"{sample['data']['LIDAR_TOP']}_lidarseg.bin"
            )


def test_devkit_evaluates_and_validates(mini, unlabelled, tmp_path):
    convert = LidarsegClassMapper(mini).convert_label
    predict(mini, tmp_path / "val", "mini_val", lambda sample: np.maximum(convert(sweep_of(mini, sample)[1]), 1))
    validate_submission(mini, str(tmp_path / "val"), "mini_val")
    assert LidarSegEval(mini, str(tmp_path / "val"), "mini_val").evaluate()["miou"] == 1.0

    def ones(sample):
        path = unlabelled.get_sample_data_path(sample["data"]["LIDAR_TOP"])
        return np.ones(LidarPointCloud.from_file(path).nbr_points(), np.uint8)

    predict(unlabelled, tmp_path / "test", "test", ones)
    validate_submission(unlabelled, str(tmp_path / "test"), "test")
    next((tmp_path / "test" / "lidarseg" / "test").iterdir()).write_bytes(b"\1")
    with pytest.raises(AssertionError, match="only"):
        validate_submission(unlabelled, str(tmp_path / "test"), "test")


def test_map_shows_where_the_drives_lead(mini):
    mask = mini.map[0]["mask"]
    places = np.array([record["translation"] for record in mini.ego_pose])
    assert mask.is_on_mask(places[:, 0], places[:, 1]).all()
    assert 0 < np.mean(mask.mask() > 0) < 0.2
    assert {log["map_token"] for log in mini.log} == {mini.map[0]["token"]}
