"""The nuScenes tree: what the unmodified nuscenes-devkit makes of it, and what its files say by themselves."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from nuscenes import NuScenes
from nuscenes.eval.lidarseg.evaluate import LidarSegEval
from nuscenes.eval.lidarseg.utils import LidarsegClassMapper
from nuscenes.eval.lidarseg.validate_submission import validate_submission
from nuscenes.utils.color_map import get_colormap
from nuscenes.utils.data_classes import LidarPointCloud
from nuscenes.utils.geometry_utils import points_in_box
from nuscenes.utils.splits import create_splits_scenes
from PIL import Image
from pyquaternion import Quaternion
from scipy.spatial import KDTree

from tests.demo_support import EXACT_NUSCENES, TINY_NUSCENES, file_bytes, read_table
from tools.demo_world import nuscenes
from tools.demo_world.nuscenes_rig import SENSORS, drives
from tools.demo_world.nuscenes_tables import data_token
from tools.demo_world.world import EGO_SPEED
from utils.errors import UserError

# Degrees to the left of straight ahead.
HEADINGS = {
    "CAM_FRONT": 0, "CAM_FRONT_LEFT": 55, "CAM_FRONT_RIGHT": -55, "CAM_BACK": 180, "CAM_BACK_LEFT": 110,
    "CAM_BACK_RIGHT": -110,
}  # fmt: skip


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    output = tmp_path_factory.mktemp("exact") / "nuscenes"
    nuscenes.write_tree(output, replace(EXACT_NUSCENES, workers=2))
    return output


@pytest.fixture(scope="module")
def mini(tree):
    return NuScenes("v1.0-mini", str(tree), verbose=False)


@pytest.fixture(scope="module")
def test_version(tree):
    return NuScenes("v1.0-test", str(tree), verbose=False)


def samples_of(devkit, scene):
    """Sample records from the first of a scene to the last, by their links."""
    token, found = scene["first_sample_token"], []
    while token:
        found.append(devkit.get("sample", token))
        token = found[-1]["next"]
    return found


def sweep_of(devkit, sample):
    """(N, 5) points and (N,) labels."""
    token = sample["data"]["LIDAR_TOP"]
    points = np.fromfile(devkit.get_sample_data_path(token), "<f4").reshape(-1, 5)
    return points, np.fromfile(f"{devkit.dataroot}/{devkit.get('lidarseg', token)['filename']}", np.uint8)


def to_global(devkit, token, points):
    """(N, 3) positions in a sensor's frame, brought to the city's."""
    data = devkit.get("sample_data", token)
    for table in ("calibrated_sensor", "ego_pose"):
        record = devkit.get(table, data[f"{table}_token"])
        points = points @ Quaternion(record["rotation"]).rotation_matrix.T + record["translation"]
    return points


def test_splits_are_the_official_ones(mini, test_version):
    official = create_splits_scenes()
    assert {scene["name"] for scene in mini.scene} == {*official["mini_train"], *official["mini_val"]}
    assert sum(scene["nbr_samples"] for scene in mini.scene if scene["name"] in official["mini_val"]) == 5
    assert [scene["name"] for scene in test_version.scene if scene["nbr_samples"]] == official["test"][:2]
    assert sorted(scene["name"] for scene in test_version.scene) == official["test"]
    assert len(test_version.lidarseg) == len(test_version.sample_annotation) == 0


def test_chains_of_samples_and_of_measurements(mini):
    walked = []
    for scene in mini.scene:
        chain = samples_of(mini, scene)
        assert chain[-1]["token"] == scene["last_sample_token"]
        assert len(chain) == scene["nbr_samples"]
        assert all(after["prev"] == before["token"] for before, after in pairwise(chain))
        assert chain[0]["prev"] == ""
        assert {after["timestamp"] - before["timestamp"] for before, after in pairwise(chain)} <= {500_000}
        for channel in ("LIDAR_TOP", *HEADINGS):
            data = [mini.get("sample_data", sample["data"][channel]) for sample in chain]
            assert [record["next"] for record in data] == [*(record["token"] for record in data[1:]), ""]
            assert [record["prev"] for record in data] == ["", *(record["token"] for record in data[:-1])]
        walked += chain
    assert len(walked) == len(mini.sample) == 8 + 5
    assert all(len(sample["data"]) == 7 for sample in walked)
    tokens = [record["token"] for name in mini.table_names if name not in ("visibility", "lidarseg")
              for record in getattr(mini, name)]  # fmt: skip
    assert all(re.fullmatch("[0-9a-f]{32}", token) for token in tokens)


def test_files_are_what_the_tables_say(tree, mini, test_version):
    named = set()
    for devkit in (mini, test_version):
        for data in devkit.sample_data:
            log, channel, stamp = re.fullmatch(r"(n008-[-\d]{24})__(\w+)__(\d{16})\.(?:jpg|pcd\.bin)",
                                               data["filename"].split("/")[2]).groups()  # fmt: skip
            scene = devkit.get("scene", devkit.get("sample", data["sample_token"])["scene_token"])
            assert devkit.get("log", scene["log_token"])["logfile"] == log
            assert int(stamp) == data["timestamp"] == devkit.get("ego_pose", data["ego_pose_token"])["timestamp"]
            assert channel == data["channel"] == data["filename"].split("/")[1]
            if channel != "LIDAR_TOP":
                with Image.open(tree / data["filename"]) as image:
                    assert (image.format, image.size) == ("JPEG", (data["width"], data["height"]))
                    assert image.size == EXACT_NUSCENES.image_size
                    assert np.asarray(image).std() > 20
            named.add(data["filename"])
    named |= {record["filename"] for record in (*mini.lidarseg, *mini.map)}
    found = set(file_bytes(tree))
    assert {name for name in found if name.split("/")[0] in ("samples", "maps")} <= named <= found


def test_points_and_labels_are_nuscenes(mini):
    limits = np.radians(EXACT_NUSCENES.vertical_fov)
    for sample in mini.sample:
        points, labels = sweep_of(mini, sample)
        assert 5_000 < len(points) == len(labels)
        assert labels.max() <= 31
        intensity, ring = points[:, 3], points[:, 4]
        for column in (intensity, ring):
            np.testing.assert_array_equal(column, np.round(column))
        assert 0 <= intensity.min() < 100 < intensity.max() <= 255
        assert set(ring.astype(int)) == set(range(EXACT_NUSCENES.beams))
        elevation = np.arctan2(points[:, 2], np.hypot(points[:, 0], points[:, 1]))
        lowest_up = np.linspace(limits[1], limits[0], EXACT_NUSCENES.beams)
        np.testing.assert_allclose(elevation, lowest_up[ring.astype(int)], atol=1e-5)
        azimuth = np.arctan2(points[:, 1], points[:, 0])  # clockwise from the left, all lasers at once
        assert (np.diff(azimuth) < 1e-4).all()


def test_categories_are_looked_up_by_name(mini):
    by_index = sorted(mini.category, key=lambda record: record["index"])
    assert [record["name"] for record in by_index] == list(get_colormap())
    names = [record["name"] for record in mini.category]
    assert names != sorted(names)
    assert mini.category != by_index


@pytest.mark.parametrize("split", ["mini_train", "mini_val"])
def test_nearly_all_classes_occur(mini, split):
    to_class = LidarsegClassMapper(mini).convert_label
    chosen = [scene for scene in mini.scene if scene["name"] in create_splits_scenes()[split]]
    labels = [sweep_of(mini, sample)[1] for scene in chosen for sample in samples_of(mini, scene)]
    classes = to_class(np.concatenate(labels))
    assert len(set(classes.tolist()) - {0}) >= 15
    assert 0 < np.mean(classes == 0) < 0.1


def test_sensors_look_where_their_names_say(mini):
    assert len(mini.calibrated_sensor) == 10 * 7  # calibrated anew for each drive
    for record in mini.calibrated_sensor:
        channel = mini.get("sensor", record["sensor_token"])["channel"]
        axes = Quaternion(record["rotation"]).rotation_matrix.T  # rows: the sensor's axes in the ego frame
        forward, up = (axes[1], axes[2]) if channel == "LIDAR_TOP" else (axes[2], -axes[1])
        heading = np.degrees(np.arctan2(forward[1], forward[0])) - HEADINGS.get(channel, 0)
        assert abs((heading + 180) % 360 - 180) < 4
        assert up[2] > 0.999
        assert 1.4 < record["translation"][2] < 1.9
        matrix = np.array(record["camera_intrinsic"])
        if channel == "LIDAR_TOP":
            assert matrix.size == 0
        else:
            wide = np.degrees(2 * np.arctan(EXACT_NUSCENES.image_size[0] / 2 / matrix[0, 0]))
            assert wide == pytest.approx(110 if channel == "CAM_BACK" else 70)
            assert matrix[0, 0] == matrix[1, 1]


def test_ego_car_drives_on_between_two_measurements(mini):
    for sample in mini.sample:
        data = {channel: mini.get("sample_data", token) for channel, token in sample["data"].items()}
        poses = {channel: mini.get("ego_pose", record["ego_pose_token"]) for channel, record in data.items()}
        assert sample["timestamp"] == data["LIDAR_TOP"]["timestamp"]
        assert len({record["timestamp"] for record in data.values()}) == 7
        laser = poses["LIDAR_TOP"]
        ahead = Quaternion(laser["rotation"]).rotate(np.array([1.0, 0, 0]))
        assert np.linalg.norm(laser["translation"]) > 100
        for channel in HEADINGS:
            seconds = (poses[channel]["timestamp"] - laser["timestamp"]) / 1e6
            way = np.subtract(poses[channel]["translation"], laser["translation"])
            assert 0.02 < abs(seconds) < 0.1
            np.testing.assert_allclose(way, ahead * EGO_SPEED * seconds, atol=0.02)


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


def seen_in_front(devkit, drive, camera_pose):
    """Per camera, by the devkit's own projection: (of points on standing surfaces in the picture) how many lie nearer
    than that surface, which no ray could have reached; how many lie on it; how many of these have its category.

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
    for channel in HEADINGS:
        judged, impossible, on, same = sum(one[channel] for one in right)
        assert judged > 2000
        assert impossible / judged < 0.01
        assert on / judged > 0.75  # the others are hidden from the camera, which stands lower and farther ahead
        assert same / on > 0.99
        # Without the two ego poses the points miss by the way the car went in between.
        judged, without, *_ = sum(one[channel] for one in wrong)
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
    """A submission that says `labels(sample)` for each sample of a split."""
    (folder / "lidarseg" / split).mkdir(parents=True)
    (folder / split).mkdir()
    meta = {f"use_{what}": what == "lidar" for what in ("camera", "lidar", "radar", "map", "external")}
    (folder / split / "submission.json").write_text(json.dumps({"meta": meta}))
    for scene in devkit.scene:
        for sample in samples_of(devkit, scene) if scene["name"] in create_splits_scenes()[split] else []:
            labels(sample).astype(np.uint8).tofile(
                folder / "lidarseg" / split / f"{sample['data']['LIDAR_TOP']}_lidarseg.bin"
            )


def test_devkit_evaluates_and_validates(mini, test_version, tmp_path):
    convert = LidarsegClassMapper(mini).convert_label
    predict(mini, tmp_path / "val", "mini_val", lambda sample: np.maximum(convert(sweep_of(mini, sample)[1]), 1))
    validate_submission(mini, str(tmp_path / "val"), "mini_val")
    assert LidarSegEval(mini, str(tmp_path / "val"), "mini_val").evaluate()["miou"] == 1.0

    def ones(sample):
        path = test_version.get_sample_data_path(sample["data"]["LIDAR_TOP"])
        return np.ones(LidarPointCloud.from_file(path).nbr_points(), np.uint8)

    predict(test_version, tmp_path / "test", "test", ones)
    validate_submission(test_version, str(tmp_path / "test"), "test")
    next((tmp_path / "test" / "lidarseg" / "test").iterdir()).write_bytes(b"\1")
    with pytest.raises(AssertionError, match="only"):
        validate_submission(test_version, str(tmp_path / "test"), "test")


def test_map_shows_where_the_drives_lead(mini):
    mask = mini.map[0]["mask"]
    places = np.array([record["translation"] for record in mini.ego_pose])
    assert mask.is_on_mask(places[:, 0], places[:, 1]).all()
    assert 0 < np.mean(mask.mask() > 0) < 0.2
    assert {log["map_token"] for log in mini.log} == {mini.map[0]["token"]}


def test_scenes_share_the_frames_of_their_split():
    shared = [(drive.split, drive.samples) for drive in drives(replace(TINY_NUSCENES, train_frames=21))]
    assert [count for split, count in shared if split == "mini_train"] == [3, 3, 3, 3, 3, 2, 2, 2]
    assert [count for split, count in shared if split == "mini_val"] == [2, 1]
    assert [count for split, count in shared if split == "test"] == [1, 1]  # no scene without a sample


def test_same_options_same_bytes_and_complete_sets_stay(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    summary = nuscenes.write_tree(one, TINY_NUSCENES)
    nuscenes.write_tree(two, replace(TINY_NUSCENES, workers=2))
    assert file_bytes(one) == file_bytes(two)
    assert nuscenes.write_tree(one, TINY_NUSCENES) == replace(summary, fresh=False)
    assert summary.frames == len(read_table(one, "v1.0-mini", "sample")) + len(read_table(one, "v1.0-test", "sample"))

    other = replace(TINY_NUSCENES, seed=1)
    with pytest.raises(UserError, match="--overwrite"):
        nuscenes.write_tree(one, other)
    assert file_bytes(one) == file_bytes(two)


def test_seed_makes_other_streets_and_tokens():
    ours, theirs = (drives(replace(TINY_NUSCENES, seed=seed)) for seed in (0, 1))
    sweeps = [nuscenes.sweep(TINY_NUSCENES, drive, 0)[1].xyz for drive in (*ours[:2], theirs[0])]
    assert len({points.tobytes() for points in sweeps}) == 3
    tokens = {data_token(drive, 0, sensor) for drive in (*ours, *theirs) for sensor in SENSORS}
    assert len(tokens) == 2 * 12 * 7
