"""The files and tables of the nuScenes tree, read with the unmodified nuscenes-devkit."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pyquaternion import Quaternion

from dataloader.datasets.nuscenes.source import NuScenes as Reader
from tests.support.demo import EXACT_NUSCENES, TINY_NUSCENES, file_bytes, read_table, samples_of, sweep_of
from tools.demo_world import manifest, nuscenes
from tools.demo_world.nuscenes_rig import SENSORS, drives
from tools.demo_world.nuscenes_tables import data_token
from tools.demo_world.street.world import EGO_SPEED
from utils.errors import UserError
from utils.labels import LabelMap

LABEL_MAPPING = Path(__file__).parents[3] / "config" / "label_mapping" / "nuscenes.yaml"
# Degrees to the left of straight ahead.
HEADINGS = {
    "CAM_FRONT": 0, "CAM_FRONT_LEFT": 55, "CAM_FRONT_RIGHT": -55, "CAM_BACK": 180, "CAM_BACK_LEFT": 110,
    "CAM_BACK_RIGHT": -110,
}  # fmt: skip


def test_splits_are_the_official_ones(mini, unlabelled):
    official = pytest.importorskip("nuscenes.utils.splits").create_splits_scenes()
    assert {scene["name"] for scene in mini.scene} == {*official["mini_train"], *official["mini_val"]}
    assert sum(scene["nbr_samples"] for scene in mini.scene if scene["name"] in official["mini_val"]) == 5
    assert [scene["name"] for scene in unlabelled.scene if scene["nbr_samples"]] == official["test"][:2]
    assert sorted(scene["name"] for scene in unlabelled.scene) == official["test"]
    assert len(unlabelled.lidarseg) == len(unlabelled.sample_annotation) == 0


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
            if channel == "LIDAR_TOP":
                data = with_sweeps(mini, data)
            assert [record["next"] for record in data] == [*(record["token"] for record in data[1:]), ""]
            assert [record["prev"] for record in data] == ["", *(record["token"] for record in data[:-1])]
        walked += chain
    assert len(walked) == len(mini.sample) == 8 + 5
    assert all(len(sample["data"]) == 7 for sample in walked)
    tokens = [record["token"] for name in mini.table_names if name not in ("visibility", "lidarseg")
              for record in getattr(mini, name)]  # fmt: skip
    assert all(re.fullmatch("[0-9a-f]{32}", token) for token in tokens)


def with_sweeps(devkit, key_frames):
    """The key frames of the LiDAR and the two sweeps between each and the next, which belong to that one."""
    data = []
    for before, after in pairwise(key_frames):
        between = [devkit.get("sample_data", before["next"])]
        between.append(devkit.get("sample_data", between[0]["next"]))
        assert {record["sample_token"] for record in between} == {after["sample_token"]}
        assert not any(record["is_key_frame"] for record in between)
        assert all(record["filename"].startswith("sweeps/LIDAR_TOP/n008-") for record in between)
        times = [record["timestamp"] - before["timestamp"] for record in between]
        assert np.allclose(times, [500_000 / 3, 1_000_000 / 3], atol=1)
        data += [before, *between]
    return [*data, key_frames[-1]]


def test_files_are_what_the_tables_say(tree, mini, unlabelled):
    named = set()
    for devkit in (mini, unlabelled):
        for data in devkit.sample_data:
            log, channel, stamp = data["filename"].split("/")[2].split(".")[0].split("__")
            assert re.fullmatch(r"n008-[-\d]{24}", log)
            assert data["filename"].endswith(".pcd.bin" if channel == "LIDAR_TOP" else ".jpg")
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
    assert {name for name in found if name.split("/")[0] in ("samples", "sweeps", "maps")} <= named <= found


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
    get_colormap = pytest.importorskip("nuscenes.utils.color_map").get_colormap
    by_index = sorted(mini.category, key=lambda record: record["index"])
    assert [record["name"] for record in by_index] == list(get_colormap())
    names = [record["name"] for record in mini.category]
    assert names != sorted(names)
    assert mini.category != by_index


def test_sensors_look_where_their_names_say(mini):
    assert len(mini.calibrated_sensor) == 10 * 7  # calibrated again for each drive
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
        ahead = Quaternion(laser["rotation"]).rotation_matrix[:, 0]
        assert np.linalg.norm(laser["translation"]) > 100
        for channel in HEADINGS:
            seconds = (poses[channel]["timestamp"] - laser["timestamp"]) / 1e6
            way = np.subtract(poses[channel]["translation"], laser["translation"])
            assert 0.02 < abs(seconds) < 0.1
            np.testing.assert_allclose(way, ahead * EGO_SPEED * seconds, atol=0.02)


def test_scenes_share_the_frames_of_their_split():
    shared = [(drive.split, drive.samples) for drive in drives(replace(TINY_NUSCENES, train_frames=21, val_frames=3))]
    assert [count for split, count in shared if split == "mini_train"] == [3, 3, 3, 3, 3, 2, 2, 2]
    assert [count for split, count in shared if split == "mini_val"] == [2, 1]
    assert [count for split, count in shared if split == "test"] == [1, 1]  # no scene without a sample


def test_same_options_same_bytes_and_complete_sets_stay(demo_trees, tmp_path):
    one, two = demo_trees["nuScenes"], tmp_path / "two"
    indices = {path.relative_to(one).as_posix() for path in one.glob("*/2dpass_*")}  # of readers, in other tests
    before = {name: content for name, content in file_bytes(one).items() if name not in indices}
    summary = nuscenes.write_tree(two, replace(TINY_NUSCENES, workers=2))
    assert file_bytes(two) == before
    assert nuscenes.write_tree(two, TINY_NUSCENES) == replace(summary, fresh=False)
    assert summary.frames == len(read_table(two, "v1.0-mini", "sample")) + len(read_table(two, "v1.0-test", "sample"))

    other = replace(TINY_NUSCENES, seed=1)
    with pytest.raises(UserError, match="--overwrite"):
        nuscenes.write_tree(two, other)
    assert file_bytes(two) == before


def test_set_is_removed_with_the_index_that_our_reader_leaves_in_it(tree, tmp_path):
    copy = tmp_path / "nuscenes"
    shutil.copytree(tree, copy)
    label_map = LabelMap.load(LABEL_MAPPING)
    assert len(Reader(copy, "v1.0-mini", "mini_val", label_map, (64, 48), past_sweeps=3)) == 5
    assert len(Reader(copy, "v1.0-test", "test", label_map, past_sweeps=3)) == 2
    (copy / "notes.txt").write_text("mine")
    assert len(list(copy.glob("*/2dpass_*"))) == 8
    manifest.claim(copy, {"other": "options"}, [copy / "v1.0-mini" / "map.json"], overwrite=True)
    assert sorted(path.name for path in copy.iterdir()) == ["demo_world.json", "notes.txt"]


def test_seed_makes_other_streets_and_tokens():
    ours, theirs = (drives(replace(TINY_NUSCENES, seed=seed)) for seed in (0, 1))
    sweeps = [nuscenes.sweep(TINY_NUSCENES, drive, 0)[1].xyz for drive in (*ours[:2], theirs[0])]
    assert len({points.tobytes() for points in sweeps}) == 3
    tokens = {data_token(drive, 0, sensor) for drive in (*ours, *theirs) for sensor in SENSORS}
    assert len(tokens) == 2 * 12 * 7
