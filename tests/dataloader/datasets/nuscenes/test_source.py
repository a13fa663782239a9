from __future__ import annotations

import pickle
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from pyquaternion import Quaternion

from dataloader.dataset import SegmentationDataset
from dataloader.datasets.nuscenes.source import CAMERAS, NuScenes
from dataloader.datasets.nuscenes.splits import scenes_of
from dataloader.datasets.source import Source
from tests.support.nuscenes import (
    IMAGE_SIZE,
    LABEL_MAPPING,
    MINI,
    POINTS,
    Tables,
    category_names,
    read_table,
    write_table,
    write_tree,
)
from utils.errors import UserError
from utils.labels import LabelMap

LOW, HIGH = (-50, -50, -4), (50, 50, 3)


@pytest.fixture(scope="module")
def labels() -> LabelMap:
    return LabelMap.load(LABEL_MAPPING)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory, labels: LabelMap) -> Path:
    """A tree, not to be changed, whose index is built."""
    root = write_tree(tmp_path_factory.mktemp("nuscenes"))
    NuScenes(root, "v1.0-mini", "mini_train", labels)
    return root


@pytest.fixture
def tree(good: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage; the index is still that of its tables."""
    return Path(shutil.copytree(good, tmp_path / "data"))


@pytest.fixture(scope="module")
def tables(good: Path) -> Tables:
    return Tables(good)


def open_mini(root, labels, split="mini_train", image_size=None) -> NuScenes:
    return NuScenes(root, "v1.0-mini", split, labels, image_size)


def sample_of(tables, source, number):
    """Token of the sample that the source calls `number`."""
    return tables.get("sample_data", source.frame(number).name)["sample_token"]


@pytest.mark.parametrize("split", ["train", "val", "test", "mini_train", "mini_val"])
def test_the_splits_are_the_official_ones(split):
    official = pytest.importorskip("nuscenes.utils.splits").create_splits_scenes()
    assert list(scenes_of(split)) == official[split]


def test_frames_are_the_key_frames_of_the_split_in_order(good, labels, tables):
    for split in ("mini_train", "mini_val"):
        source: Source = open_mini(good, labels, split)
        official = scenes_of(split)
        wanted = []
        for scene in sorted(tables.rows("scene"), key=lambda scene: scene["name"]):
            token = scene["first_sample_token"] if scene["name"] in official else ""
            while token:
                data = tables.key_frame(token, "LIDAR_TOP")
                wanted.append((scene["name"], data["token"], str(good / data["filename"])))
                token = tables.get("sample", token)["next"]
        frames = [source.frame(i) for i in range(len(source))]
        assert [(f.sequence, f.name, f.path) for f in frames] == wanted
        assert len(source) == sum(count for name, count in MINI.items() if name in official) > 1
        assert source.absent == tuple(name for name in official if name not in MINI)


def test_read_gives_the_files_content(good, labels, tables):
    source = open_mini(good, labels)
    scan = source.read(2)
    token = source.frame(2).name
    points = np.fromfile(good / tables.get("sample_data", token)["filename"], np.float32).reshape(-1, 5)
    raw = np.fromfile(good / tables.get("lidarseg", token)["filename"], np.uint8)
    names = {record["index"]: record["name"] for record in tables.rows("category")}
    known = {name: id for id, name in labels.raw_names.items()}
    assert np.array_equal(np.column_stack([scan.xyz, scan.intensity]), points[:, :4])
    assert np.array_equal(scan.labels, [labels.to_learning[known[names[value]]] for value in raw])
    assert len(np.unique(scan.labels)) == 17 and scan.intensity.max() > 200
    assert np.array_equal(scan.index, np.arange(POINTS)) and not scan.instances.any()
    assert scan.image is None and np.isnan(scan.pixels).all() and source.num_cameras == 0
    dtypes = [
        column.dtype for column in (scan.xyz, scan.intensity, scan.labels, scan.instances, scan.index, scan.pixels)
    ]
    assert dtypes == [np.float32, np.float32, np.uint8, np.int32, np.int64, np.float32]


def test_labels_are_matched_by_name_in_any_order(tmp_path, labels):
    names = category_names()
    shuffled = [names[i] for i in np.random.default_rng(3).permutation(len(names))]
    source = open_mini(write_tree(tmp_path, categories=shuffled), labels)
    raw = np.fromfile(tmp_path / "lidarseg" / "v1.0-mini" / f"{source.frame(0).name}_lidarseg.bin", np.uint8)
    wanted = [labels.to_learning[names.index(shuffled[value])] for value in raw]
    assert np.array_equal(source.read(0).labels, wanted)
    assert not np.array_equal(wanted, labels.to_learning[raw])
    assert source.label_map.raw_names[0] == shuffled[0]


def slow_pixels(tables, sample, camera, xyz):
    """(N, 3) float64: col, row and depth of every point, one step after the other."""
    points = xyz.astype(np.float64)
    lidar, image = (tables.key_frame(sample, channel) for channel in ("LIDAR_TOP", camera))
    for table, record in (("calibrated_sensor", lidar), ("ego_pose", lidar)):
        pose = tables.get(table, record[f"{table}_token"])
        turn = Quaternion(pose["rotation"])
        points = np.array([turn.rotate(point) for point in points]) + pose["translation"]
    for table, record in (("ego_pose", image), ("calibrated_sensor", image)):
        pose = tables.get(table, record[f"{table}_token"])
        turn = Quaternion(pose["rotation"]).inverse
        points = np.array([turn.rotate(point) for point in points - np.array(pose["translation"])])
    intrinsic = tables.get("calibrated_sensor", image["calibrated_sensor_token"])["camera_intrinsic"]
    u, v, w = np.array(intrinsic) @ points.T
    return np.column_stack([u / w, v / w, w])


@pytest.mark.parametrize("camera", range(6))
@pytest.mark.parametrize("size", [IMAGE_SIZE, (48, 32)])
def test_projection_against_the_chain_step_by_step(good, labels, tables, camera, size):
    source = open_mini(good, labels, image_size=size)
    scan = source.read(1, camera)
    col, row, depth = slow_pixels(tables, sample_of(tables, source, 1), CAMERAS[camera], scan.xyz).T
    inside = (depth > 0) & (col > 0) & (col < IMAGE_SIZE[0]) & (row > 0) & (row < IMAGE_SIZE[1])
    assert np.array_equal(np.isfinite(scan.pixels).all(axis=1), inside) and inside.sum() > 40
    wanted = np.column_stack([row * size[1] / IMAGE_SIZE[1], col * size[0] / IMAGE_SIZE[0]])[inside]
    assert np.allclose(scan.pixels[inside], wanted, rtol=1e-6, atol=1e-6)
    assert (scan.pixels[inside] < [size[1], size[0]]).all()


def test_matrices_are_exact(good, labels, tables):
    """In float64, before anything is rounded: the vehicle is kilometres from the origin."""
    source = open_mini(good, labels)
    xyz = np.random.default_rng(0).uniform(-30, 30, (200, 3))
    for number in range(len(source)):
        for camera, matrix in zip(CAMERAS, source._record(number)["matrices"], strict=True):
            u, v, w = matrix @ np.vstack([xyz.T, np.ones(len(xyz))])
            slow = slow_pixels(tables, sample_of(tables, source, number), camera, xyz)
            far = np.abs(slow[:, 2]) > 0.5
            assert np.abs(np.column_stack([u / w, v / w, w]) - slow)[far].max() < 1e-6


@pytest.mark.parametrize("camera", range(6))
def test_projection_against_the_devkit(good, labels, tables, camera):
    """The devkit computes in float32 and keeps points deeper than 1 m and more than a pixel from the edge."""
    module = pytest.importorskip("nuscenes.nuscenes")
    devkit = module.NuScenes("v1.0-mini", str(good), verbose=False)
    source = open_mini(good, labels, image_size=IMAGE_SIZE)
    for number in range(len(source)):
        data = devkit.get("sample", sample_of(tables, source, number))["data"]
        points, depths, _ = devkit.explorer.map_pointcloud_to_image(data["LIDAR_TOP"], data[CAMERAS[camera]])
        scan = source.read(number, camera)
        seen = scan.pixels[np.isfinite(scan.pixels).all(axis=1)]
        matrix = source._record(number)["matrices"][camera]
        depth = (scan.xyz @ matrix[2, :3] + matrix[2, 3])[np.isfinite(scan.pixels).all(axis=1)]
        ours = np.column_stack([seen[:, ::-1], depth])
        theirs = np.column_stack([points[:2].T, depths])
        distance = np.abs(theirs[:, None] - ours[None]).max(axis=2)
        assert distance.min(axis=1).max() < 0.05  # each of theirs is one of ours
        border = np.minimum(seen, [IMAGE_SIZE[1], IMAGE_SIZE[0]] - seen).min(axis=1)
        clearly = (border > 1.1) & (depth > 1.1)
        assert distance.min(axis=0)[clearly].max() < 0.05  # and the other way round
        assert clearly.sum() > 30


def test_pixels_show_their_point_in_the_resized_image(tmp_path, labels):
    """The image's colours say where a pixel is, so the colour under a point is its place in the full image."""
    source = open_mini(write_tree(tmp_path, scenes={"scene-0061": 1}), labels, image_size=(48, 32))
    width, height = IMAGE_SIZE
    rows, cols = np.mgrid[:height, :width]
    ramp = np.stack([cols, 2 * rows, 0 * rows], axis=2).astype(np.uint8)
    for path in tmp_path.glob("samples/CAM_*/*.jpg"):
        PIL.Image.fromarray(ramp).save(path, quality=100, subsampling=0)
    small, full = source.read(0, 2), open_mini(tmp_path, labels, image_size=IMAGE_SIZE).read(0, 2)
    seen = np.isfinite(small.pixels[:, 0])
    assert small.image is not None and small.image.shape == (32, 48, 3)
    row, col = small.pixels[seen].astype(int).T
    shown = small.image[row, col, 1::-1] / [2, 1]
    # Half of a small pixel, and the smoothing at the edge.
    assert np.abs(shown - full.pixels[seen]).max() < 3.5 and seen.sum() > 40


def test_the_test_split_has_no_labels(tmp_path, labels):
    write_tree(tmp_path, "v1.0-test", {"scene-0077": 2}, categories=None)
    source = NuScenes(tmp_path, "v1.0-test", "test", labels, (48, 32))
    scan = source.read(1, 5)
    assert len(source) == 2 and not scan.labels.any() and not scan.instances.any()
    assert scan.image is not None and np.isfinite(scan.pixels).any()
    assert len(source.absent) == 149


def test_trainval_is_both_splits(tmp_path, labels):
    scenes = {"scene-0003": 1, "scene-0001": 2, "scene-0039": 1}  # val, train, val
    write_tree(tmp_path, "v1.0-trainval", scenes)
    names = {}
    for split in ("train", "val", "trainval"):
        source = NuScenes(tmp_path, "v1.0-trainval", split, labels)
        names[split] = [source.frame(i).sequence for i in range(len(source))]
        assert len(source.absent) == {"train": 699, "val": 148, "trainval": 847}[split]
    assert names["train"] == ["scene-0001"] * 2 and names["val"] == ["scene-0003", "scene-0039"]
    assert names["trainval"] == sorted(names["train"] + names["val"])


def test_items_for_training_and_evaluation(good, labels, monkeypatch):
    source = open_mini(good, labels, image_size=(48, 32))
    assert source.num_cameras == 6
    monkeypatch.setattr("PIL.Image.open", lambda *args: pytest.fail("an image was opened"))
    sample = SegmentationDataset(source, LOW, HIGH, num_vote=2)[0]
    assert sample.whole is not None and len(sample.whole.xyz) == POINTS and sample.scan.image is None


def test_a_pickled_source_reads_the_same_and_is_small(good, labels):
    source = open_mini(good, labels, image_size=(48, 32))
    assert len(pickle.dumps(source._index)) < 1000
    again = pickle.loads(pickle.dumps(source))
    one, same = source.read(1, 3), again.read(1, 3)
    assert np.array_equal(one.pixels, same.pixels, equal_nan=True) and np.array_equal(one.labels, same.labels)
    assert again.frame(2) == source.frame(2) and isinstance(again._index.records, np.memmap)


def write_points(source, number, points):
    """Replaces a scan, and its labels by as many zeros."""
    points.astype(np.float32).tofile(source.frame(number).path)
    np.zeros(len(points), np.uint8).tofile(source.root / source._record(number)["lidarseg"].decode())


def test_values_that_are_not_finite(tree, labels):
    source = open_mini(tree, labels, image_size=(48, 32))
    points = np.ones((6, 5))
    points[1, 0], points[2, 1], points[3, 2], points[4, 3], points[5, 3] = np.nan, np.inf, -np.inf, np.nan, np.inf
    write_points(source, 0, points)
    with np.errstate(all="raise"):
        scans = [source.read(0, camera) for camera in range(6)]
        sample = SegmentationDataset(source, LOW, HIGH)[0]
    assert all(scan.intensity.tolist() == [1, 1, 1, 1, 0, 0] for scan in scans)
    assert all(np.isnan(scan.pixels[1:4]).all() for scan in scans)
    assert sample.whole is not None and sample.whole.inside.tolist() == [True, False, False, False, True, True]


def first(source, kind) -> str:
    """File of the first frame, relative to the tree."""
    record = source._record(0)
    return (record["images"][2] if kind == "image" else record[kind]).decode()


def damage(path: Path, done: str) -> None:
    if done == "remove":
        path.unlink()
    elif done == "empty":
        path.write_bytes(b"")
    elif done == "unknown":
        raw = np.fromfile(path, np.uint8)
        raw[:3] = 200
        raw.tofile(path)
    else:
        path.write_bytes(path.read_bytes()[: -int(done)])


@pytest.mark.parametrize("known", [True, False], ids=["opened before", "opened after"])
@pytest.mark.parametrize(
    ("kind", "done", "word"),
    [
        ("lidar", "remove", r"missing \(1 of 3 LIDAR_TOP files of mini_train|cannot read the scan"),
        ("lidar", "empty", "no points"),
        ("lidar", "4", r"11996 bytes are no multiple of 20 \(truncated\)"),
        ("lidar", "20", "600 labels for 599 points"),
        ("lidarseg", "remove", r"missing \(1 of 3 lidarseg files of mini_train|cannot read the labels"),
        ("lidarseg", "1", "599 labels for 600 points"),
        ("lidarseg", "unknown", "200 on 3 points"),
        ("image", "remove", r"missing \(1 of 3 CAM_BACK_RIGHT files of mini_train|image is missing"),
        ("image", "500", "cannot read the image"),
        ("image", "empty", "cannot read the image"),
    ],
)
def test_bad_files_are_one_clear_line(tree, labels, kind, done, word, known):
    source = open_mini(tree, labels, image_size=(48, 32))
    path = tree / first(source, kind)
    damage(path, done)
    with pytest.raises(UserError) as caught:
        (source if known else open_mini(tree, labels, image_size=(48, 32))).read(0, 2)
    message = str(caught.value)
    named = tree / first(source, "lidarseg") if done == "20" else path
    assert message.startswith(f"{named}: ") and re.search(word, message) and "\n" not in message


def test_images_are_looked_for_only_if_they_are_wanted(tree, labels):
    shutil.rmtree(tree / "samples" / "CAM_BACK")
    assert len(open_mini(tree, labels)) == 3
    with pytest.raises(UserError, match=r"samples/CAM_BACK/.*missing \(3 of 3 CAM_BACK files"):
        open_mini(tree, labels, image_size=(48, 32))


def remove(name):
    def do(root):
        shutil.rmtree(root / name) if (root / name).is_dir() else (root / name).unlink()

    return do


def edit(name, change):
    def do(root):
        write_table(root, name, change(read_table(root, name)))

    return do


@pytest.mark.parametrize(
    ("do", "named", "word"),
    [
        (remove(""), "", "no such folder; set data_path"),
        (remove("v1.0-mini"), "v1.0-mini", r"no such folder \(versions there: none\); unpack the metadata"),
        (remove("v1.0-mini/sample.json"), "v1.0-mini", r"tables are missing: sample\.json; unpack"),
        (remove("v1.0-mini/lidarseg.json"), "v1.0-mini", r"no lidarseg\.json.*nuScenes-lidarseg archive of v1\.0-mini"),
        (remove("v1.0-mini/category.json"), "v1.0-mini/category.json", "no index.*lidarseg archive"),
        (remove("lidarseg"), "lidarseg/v1.0-mini/", r"missing \(6 of 6 lidarseg files.*lidarseg archive of v1\.0-mini"),
        (
            edit("category", lambda rows: [{**r, "name": "new"} for r in rows[:1]]),
            "v1.0-mini/category.json",
            "new is not",
        ),
        (
            edit("category", lambda rows: [{**r, "index": 1 << 70} for r in rows[:1]]),
            "v1.0-mini/category.json",
            "has id 1",
        ),
        (
            edit("lidarseg", lambda rows: rows[1:]),
            "v1.0-mini/lidarseg.json",
            "no labels for 1 of 6 scans of mini_train, s",
        ),
        (edit("sample_data", lambda rows: {"rows": rows}), "v1.0-mini/sample_data.json", "not a list of records"),
    ],
)
def test_bad_trees_are_one_clear_line(tmp_path, labels, do, named, word):
    root = write_tree(tmp_path / "data", scenes={"scene-0061": 6})
    do(root)
    with pytest.raises(UserError) as caught:
        open_mini(root, labels)
    message = str(caught.value)
    assert message.startswith(f"{root / named}") and re.search(word, message) and "\n" not in message


def _only_the_lidar(root):
    """The tables as they are of a vehicle without cameras."""
    tables = Tables(root)
    lidar = [data for data in tables.rows("sample_data") if tables.channel(data) == "LIDAR_TOP"]
    keep = {key: {data[key] for data in lidar} for key in ("ego_pose_token", "calibrated_sensor_token")}
    write_table(root, "sample_data", lidar)
    write_table(root, "ego_pose", [r for r in tables.rows("ego_pose") if r["token"] in keep["ego_pose_token"]])
    sensors = [r for r in tables.rows("calibrated_sensor") if r["token"] in keep["calibrated_sensor_token"]]
    write_table(root, "calibrated_sensor", sensors)
    write_table(root, "sensor", [r for r in tables.rows("sensor") if r["channel"] == "LIDAR_TOP"])


def _without_the_cameras_sensors(root):
    write_table(root, "sensor", [r for r in read_table(root, "sensor") if r["channel"] == "LIDAR_TOP"])


def _without_one_pose_of_a_camera(root):
    tables = Tables(root)
    pose = next(data for data in tables.rows("sample_data") if tables.channel(data) == "CAM_BACK")["ego_pose_token"]
    write_table(root, "ego_pose", [record for record in tables.rows("ego_pose") if record["token"] != pose])


def _others(root):
    """Tables that no scan is read with."""
    for name in ("map", "log", "attribute", "instance", "visibility", "sample_annotation"):
        (root / "v1.0-mini" / f"{name}.json").unlink()
    (root / "v1.0-mini" / "ego_pose.json").unlink()
    shutil.rmtree(root / "maps")


@pytest.mark.parametrize("do", [_only_the_lidar, _without_the_cameras_sensors, _without_one_pose_of_a_camera, _others])
def test_the_cameras_tables_are_needed_for_images_only(tmp_path, labels, do):
    root = write_tree(tmp_path, scenes={"scene-0061": 2})
    whole = open_mini(root, labels).read(1)
    do(root)
    shutil.rmtree(root / "samples" / "CAM_FRONT")
    source = open_mini(root, labels)
    scan = source.read(1)
    assert len(source) == 2 and scan.frame == whole.frame
    assert np.array_equal(scan.xyz, whole.xyz) and np.array_equal(scan.labels, whole.labels)
    with pytest.raises(
        UserError, match=r"v1\.0-mini: the tables lack the .* of CAM_\w+ for [12] of 2 scans of mini_train"
    ):
        open_mini(root, labels, image_size=(48, 32))


@pytest.mark.parametrize(
    ("version", "split", "word"),
    [
        ("v1.0-mini", "train", "train: no split of v1.0-mini, which has mini_train, mini_val"),
        ("v1.0-mini", "nonsense", "nonsense: no split of v1.0-mini"),
        ("v1.0-trainval", "test", "no split of v1.0-trainval, which has train, val, trainval"),
        ("v1.0-trainval", "val", r"v1\.0-trainval: no such folder \(versions there: v1\.0-mini\)"),
        ("v2.0", "val", "v2.0: no version of nuScenes; version must be one of v1.0-trainval, v1.0-mini, v1.0-test"),
    ],
)
def test_versions_and_splits(good, labels, version, split, word):
    with pytest.raises(UserError, match=word):
        NuScenes(good, version, split, labels)


def test_tables_without_a_scene_of_the_split(tmp_path, labels):
    write_tree(tmp_path, scenes={"scene-0061": 1})
    with pytest.raises(UserError, match=r"v1\.0-mini: the tables hold no scene of the split mini_val"):
        open_mini(tmp_path, labels, "mini_val")


def test_a_label_map_without_the_categories(good, labels):
    bare = replace(labels, raw_names={raw: name for raw, name in labels.raw_names.items() if raw != 17})
    with pytest.raises(UserError, match=r"category\.json.*vehicle\.car"):
        open_mini(good, bare)
