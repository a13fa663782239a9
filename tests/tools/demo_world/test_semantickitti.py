"""The files of a made-up data set: KITTI's layout and formulas, and content like the real one's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.spatial import KDTree

from tests.support.demo import SHORT, TINY, file_bytes, read_calibration, read_labels, read_scan
from tools.demo_world.options import DemoOptions
from tools.demo_world.semantickitti import write_part, write_tree
from utils.labels import UNKNOWN, LabelMap

LABEL_MAPPING = Path(__file__).parents[3] / "config" / "label_mapping" / "semantic-kitti.yaml"
THINGS = {10, 11, 13, 15, 18, 20, 30, 31, 32, 252, 253, 254, 255, 257, 258, 259}


def test_tree_is_semantickittis(tiny):
    names = set(file_bytes(tiny))
    expected = {"demo_world.json"}
    for sequence, frames in (("00", 2), ("08", 1), ("11", 1)):
        expected |= {f"{sequence}/calib.txt", f"{sequence}/poses.txt"}
        for frame in range(frames):
            expected |= {f"{sequence}/velodyne/{frame:06d}.bin", f"{sequence}/image_2/{frame:06d}.png"}
            expected |= {f"{sequence}/labels/{frame:06d}.label"} if sequence != "11" else set()
    assert names == expected
    assert not (tiny / "11" / "labels").exists()
    for sequence, frames in (("00", 2), ("08", 1), ("11", 1)):
        for frame in range(frames):
            scan = read_scan(tiny, sequence, frame)
            assert 300 < len(scan) <= 8 * 128
            assert np.isfinite(scan).all()
            assert 0 <= scan[:, 3].min() < scan[:, 3].max() <= 1
            assert np.linalg.norm(scan[:, :3], axis=1).max() <= 80.01
            with Image.open(tiny / sequence / "image_2" / f"{frame:06d}.png") as image:
                assert (image.size, image.mode) == ((96, 64), "RGB")
                assert np.asarray(image).std() > 20
            if sequence != "11":
                assert len(read_labels(tiny, sequence, frame)[0]) == len(scan)


def test_calibration_and_poses_are_kittis(short):
    calib = read_calibration(short, "08")
    assert list(calib) == ["P0", "P1", "P2", "P3", "Tr"]
    assert np.linalg.det(calib["Tr"][:, :3]) == pytest.approx(1)
    np.testing.assert_allclose(calib["Tr"][:, :3] @ calib["Tr"][:, :3].T, np.eye(3), atol=1e-10)
    assert (calib["P0"][:, 3] == 0).all()
    assert 0 < calib["P2"][0, 3] / calib["P2"][0, 0] < 0.1 < -calib["P1"][0, 3] / calib["P1"][0, 0] < 1
    poses = np.loadtxt(short / "00" / "poses.txt").reshape(-1, 3, 4)
    assert len(poses) == SHORT.train_frames
    np.testing.assert_allclose(poses[0], np.eye(4)[:3], atol=1e-9)
    assert (np.diff(poses[:, 2, 3]) > 1).all()  # z is forward


def test_poses_bring_standing_things_together(short):
    homes = []
    calib = np.vstack([read_calibration(short, "00")["Tr"], [0, 0, 0, 1]])
    for frame in (0, 3):
        raw, _ = read_labels(short, "00", frame)
        homes.append(read_scan(short, "00", frame)[np.isin(raw, [50, 51, 52, 80, 71])][:, :3].astype(np.float64))
    pose = np.vstack([np.loadtxt(short / "00" / "poses.txt")[3].reshape(3, 4), [0, 0, 0, 1]])
    moved = np.linalg.inv(calib) @ pose @ calib @ np.column_stack([homes[1], np.ones(len(homes[1]))]).T
    near = np.linalg.norm(homes[1], axis=1) < 20
    tree = KDTree(homes[0])
    with_pose, without = np.median(tree.query(moved[:3].T[near])[0]), np.median(tree.query(homes[1][near])[0])
    assert with_pose < 0.25
    assert with_pose < 0.5 * without


def test_scans_have_the_classes_and_the_extent_of_real_ones(short):
    labels = LabelMap.load(LABEL_MAPPING)
    for sequence, frames in (("00", SHORT.train_frames), ("08", SHORT.val_frames)):
        raw = np.concatenate([read_labels(short, sequence, frame)[0] for frame in range(frames)])
        scan = np.concatenate([read_scan(short, sequence, frame) for frame in range(frames)])
        learning = labels.to_learning[raw]
        assert (learning != UNKNOWN).all()
        assert len(set(learning.tolist()) - {0}) >= 14
        assert {60, 252} <= set(raw.tolist())  # ids that only the learning map makes one with road and car
        assert 0 < np.mean(learning == 0) < 0.1
        assert np.median(scan[raw == 40][:, 2]) == pytest.approx(-1.73, abs=0.02)
        inside_volume = (np.abs(scan[:, :2]) < 50).all(axis=1) & (scan[:, 2] > -4) & (scan[:, 2] < 2)
        assert 0.9 < inside_volume.mean() < 1.0


def test_instances_are_things_and_stay_themselves(short):
    semantic_of: dict[int, int] = {}
    frames_of: dict[int, set[int]] = {}
    for frame in range(SHORT.train_frames):
        raw, instance = read_labels(short, "00", frame)
        assert (np.isin(raw, list(THINGS)) == (instance > 0)).all()
        for number, name in set(zip(instance.tolist(), raw.tolist(), strict=True)):
            if number:
                assert semantic_of.setdefault(number, name) == name
                frames_of.setdefault(number, set()).add(frame)
    assert len(semantic_of) > 10
    assert sum(len(seen) == SHORT.train_frames for seen in frames_of.values()) > 5


def test_same_options_same_bytes_whatever_the_workers(tiny, tmp_path):
    write_tree(tmp_path, DemoOptions(**{**vars(TINY), "workers": 2}))
    assert file_bytes(tmp_path) == file_bytes(tiny)


def test_a_part_has_the_same_bytes(tiny, tmp_path):
    write_part(tmp_path, TINY, [(8, 0), (0, 1)])
    part, whole = file_bytes(tmp_path), file_bytes(tiny)
    assert {"08/velodyne/000000.bin", "00/image_2/000001.png", "00/poses.txt"} < set(part)
    assert part == {name: whole[name] for name in part}


def test_seed_and_sequence_make_other_streets(tiny, tmp_path):
    write_tree(tmp_path, DemoOptions(**{**vars(TINY), "seed": 1}))
    other, one = file_bytes(tmp_path), file_bytes(tiny)
    for name in ("00/velodyne/000000.bin", "00/image_2/000000.png", "08/velodyne/000000.bin"):
        assert other[name] != one[name]
    assert len({one[f"{sequence}/velodyne/000000.bin"] for sequence in ("00", "08", "11")}) == 3


def test_training_frames_are_spread_over_streets_of_their_own(tiny, tmp_path):
    options = DemoOptions(**{**vars(TINY), "train_frames": 6, "train_streets": 4})
    assert options.identity() == {**TINY.identity(), "train_frames": 6, "train_streets": 4}
    summary = write_tree(tmp_path, options)
    files, one = file_bytes(tmp_path), file_bytes(tiny)
    scans = [name for name in files if name.endswith(".bin")]
    count = {sequence: sum(name.startswith(sequence) for name in scans) for sequence in ("00", "01", "02", "03")}
    assert count == {"00": 2, "01": 2, "02": 1, "03": 1} and len(scans) == 6 + 2
    assert list(summary.classes) == ["00", "01", "02", "03", "08"]
    assert len({files[f"{sequence}/velodyne/000000.bin"] for sequence in (*count, "08")}) == 5
    same = [name for name in one if name.startswith(("00/", "08/", "11/"))]
    assert all(files[name] == one[name] for name in same)


def test_points_are_in_kittis_order(short):
    """Beams run from the top, each counter-clockwise from straight ahead: the azimuth wraps once for each."""
    scan = read_scan(short, "08", 0).astype(np.float64)
    azimuth = np.arctan2(scan[:, 1], scan[:, 0]) % (2 * np.pi)
    starts = np.flatnonzero(np.diff(azimuth) < -1) + 1
    assert len(starts) == SHORT.beams - 1
    elevation = np.arctan2(scan[:, 2], np.hypot(scan[:, 0], scan[:, 1]))
    assert (np.diff([np.median(beam) for beam in np.split(elevation, starts)]) < 0).all()
