"""Past sweeps of nuScenes: nuscenes-devkit and a slow chain judge them; damaged tables, files and indexes."""

from __future__ import annotations

import json
import os
import pickle
import re
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyquaternion import Quaternion

from dataloader.dataset import SegmentationDataset
from dataloader.datasets.nuscenes import index as nuscenes_index
from dataloader.datasets.nuscenes.corrupted import CorruptedNuScenes
from dataloader.datasets.nuscenes.source import NuScenes
from dataloader.datasets.past_sweeps import SourceWithPast, refuse_lone_scans
from tests.support.nuscenes import LABEL_MAPPING, ROOT, Tables, read_table, write_table, write_tree
from utils.config.loading import load_config
from utils.errors import UserError
from utils.labels import LabelMap
from utils.scan.records import Scan

VERSIONS = {"v1.0-mini": ("mini_val", {"scene-0103": 3, "scene-0916": 1}), "v1.0-test": ("test", {"scene-0077": 2})}
CONFIG = ROOT / "config" / "MinkowskiNet-nuscenes.yaml"
LOW, HIGH = (-50, -50, -4), (50, 50, 3)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree of two versions, not to be changed, whose indexes are built."""
    root = tmp_path_factory.mktemp("nuscenes")
    for seed, (version, (_, scenes)) in enumerate(VERSIONS.items()):
        write_tree(root, version, scenes, seed=seed, sweeps=2)
        open_tree(root, 1, version)
    return root


@pytest.fixture
def tree(good: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage; the indexes are still those of its tables."""
    return Path(shutil.copytree(good, tmp_path / "data"))


def open_tree(root: Path, past_sweeps: int, version: str = "v1.0-mini") -> NuScenes:
    labels = LabelMap.load(LABEL_MAPPING)
    return NuScenes(root, version, VERSIONS[version][0], labels, past_sweeps=past_sweeps)


def with_past(source: NuScenes, number: int, with_labels: bool = False) -> list[Scan]:
    """The scan itself and what is added to it."""
    past = [sweep.moved(source.read_past(sweep, with_labels)) for sweep in source.past(number)]
    return [source.read(number, None), *past]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("most", [1, 3, 20])
def test_points_and_ages_are_those_of_the_devkit(good, version, most):
    devkit = pytest.importorskip("nuscenes.nuscenes").NuScenes(version, str(good), verbose=False)
    cloud = pytest.importorskip("nuscenes.utils.data_classes").LidarPointCloud
    source, numbers = open_tree(good, most, version), []
    assert isinstance(source, SourceWithPast)
    for number in range(len(source)):
        sample = devkit.get("sample", devkit.get("sample_data", source.frame(number).name)["sample_token"])
        points, ages = cloud.from_file_multisweep(devkit, sample, "LIDAR_TOP", "LIDAR_TOP", nsweeps=1 + most)
        scans = with_past(source, number)
        scans[0] = scans[0].select(~(np.abs(scans[0].xyz[:, :2]) < 1).all(axis=1))  # the devkit does so here, too
        ours = Scan.concatenate(scans)
        assert len(ours) == points.nbr_points() < 600 * len(scans) - 10
        assert np.abs(ours.xyz - points.points[:3].T).max() < 1e-3
        assert np.array_equal(ours.intensity, points.points[3])
        assert np.abs(ours.ages - ages[0]).max() < 1e-6
        assert (ours.ages[: len(scans[0])] == 0).all() and (ours.ages[len(scans[0]) :] > 0).all()
        numbers.append(len(scans) - 1)
    assert numbers[0] == 0 and set(numbers) >= {min(most, 3)}  # the first of a scene has none


def position(tables: Tables, record: dict[str, Any], points: np.ndarray, inverse: bool) -> np.ndarray:
    """Moves (N, 3) points from the LiDAR to the world, or back, step by step."""
    steps = [tables.get(table, record[f"{table}_token"]) for table in ("calibrated_sensor", "ego_pose")]
    for step in reversed(steps) if inverse else steps:
        turn, place = Quaternion(step["rotation"]), np.array(step["translation"])
        if inverse:
            points = np.array([turn.inverse.rotate(point) for point in points - place])
        else:
            points = np.array([turn.rotate(point) for point in points]) + place
    return points


def test_motions_are_exact(good):
    """In float64, kilometres from the origin, with a calibration of its own for each group of sweeps."""
    source, tables = open_tree(good, 20), Tables(good)
    by_path = {str(good / record["filename"]): record for record in tables.rows("sample_data")}
    xyz = np.random.default_rng(0).uniform(-30, 30, (20, 3))
    compared = 0
    for number in range(len(source)):
        now = by_path[source.frame(number).path]
        previous = now["prev"]
        for sweep in source.past(number):
            past = tables.get("sample_data", previous)
            assert sweep.frame.path == str(good / past["filename"]) and sweep.frame.sequence == "scene-0103"
            wanted = position(tables, now, position(tables, past, xyz, inverse=False), inverse=True)
            assert np.abs(xyz @ sweep.motion[:, :3].T + sweep.motion[:, 3] - wanted).max() < 1e-9
            assert sweep.age == pytest.approx((now["timestamp"] - past["timestamp"]) / 1e6, abs=1e-9)
            previous, compared = past["prev"], compared + 1
        assert previous == ""
    assert compared >= 3 + 6


def test_past_key_frames_keep_their_labels_and_other_sweeps_have_none(good):
    source = open_tree(good, 4)
    wanted = {source.frame(number).path: source.read(number).labels for number in range(len(source))}
    labelled = 0
    for sweep in source.past(2):
        labels = source.read_past(sweep, with_labels=True).labels
        key_frame = sweep.frame.path in wanted
        assert np.array_equal(labels, wanted[sweep.frame.path]) if key_frame else not labels.any()
        assert (sweep.frame.name in {source.frame(number).name for number in range(len(source))}) == key_frame
        assert not source.read_past(sweep, with_labels=False).labels.any()
        labelled += key_frame
    assert labelled == 1
    test = open_tree(good, 4, "v1.0-test")
    assert not any(test.read_past(sweep, with_labels=True).labels.any() for sweep in test.past(1))


def test_items_hold_the_points_of_past_sweeps(good):
    source = open_tree(good, 3)
    sample = SegmentationDataset(source, LOW, HIGH, num_vote=2)[1]
    assert sample.whole is not None and len(sample.whole.xyz) == 600 and sample.views is not None
    ages = np.unique(sample.scan.ages)
    assert len(ages) == 4 and np.allclose(ages[1:], sorted(sweep.age for sweep in source.past(1)))
    assert len(np.unique(SegmentationDataset(source, LOW, HIGH)[0].scan.ages)) == 1


def test_a_pickled_source_reads_the_same_past(good):
    source = open_tree(good, 3)
    content = pickle.dumps(source)
    assert len(content) - len(pickle.dumps(open_tree(good, 0))) < 2500
    one, same = (Scan.concatenate(with_past(each, 2, with_labels=True)) for each in (source, pickle.loads(content)))
    assert np.array_equal(one.xyz, same.xyz) and np.array_equal(one.labels, same.labels)


def test_without_past_sweeps_nothing_more_is_needed_or_made(tree):
    for name in tree.glob("*/2dpass_index_sweeps.*"):
        name.unlink()
    shutil.rmtree(tree / "sweeps")
    records = read_table(tree, "sample_data")
    write_table(
        tree, "sample_data", [r if r["is_key_frame"] else {**r, "prev": 3, "filename": "../x"} for r in records]
    )
    (tree / "v1.0-mini" / "ego_pose.json").unlink()
    source = open_tree(tree, 0)
    assert len(source.read(1)) == 600 and source.past(1) == () and source.notes == ()
    assert not list(tree.glob("*/2dpass_index_sweeps*"))


def test_past_sweeps_of_corrupted_scans_are_refused_by_name(good, tmp_path):
    """nuScenes-C has key frames alone."""
    params = load_config(
        CONFIG, ["dataset_params.past_sweeps=3", "model_params.input_dims=5", "dataset_params.version=v1.0-mini"]
    ).dataset_params
    shutil.copytree(good / "samples" / "LIDAR_TOP", tmp_path / "fog" / "samples" / "LIDAR_TOP")
    shutil.copytree(good / "lidarseg", tmp_path / "fog" / "lidarseg")
    corrupted = CorruptedNuScenes(tmp_path / "fog", "fog", open_tree(good, 3), "v1.0-mini")
    assert len(corrupted) == 4
    with pytest.raises(UserError, match=r"past_sweeps is 3, but these scans .*set dataset_params\.past_sweeps=0"):
        refuse_lone_scans(params, corrupted)


# Files and tables that are not as they should be.


def _unlink_tables_of(root: Path, name: str) -> None:
    (root / "v1.0-mini" / name).unlink()


def _of_sweep(change: Callable[[Path], object]) -> Callable[[Path], object]:
    return lambda root: change(sorted((root / "sweeps" / "LIDAR_TOP").glob("scene-0103*"))[1])


def _records(**values: object) -> Callable[[Path], None]:
    """Changes the sweeps before the last key frame of the scene of three."""

    def do(root: Path) -> None:
        tables = Tables(root)
        sweeps = [r for r in tables.rows("sample_data") if "/LIDAR_TOP/scene-0103" in r["filename"]]
        sorted(sweeps, key=lambda r: r["timestamp"])[1].update(values)
        write_table(root, "sample_data", tables.rows("sample_data"))

    return do


def _without_pose_of_a_key_frame(root: Path) -> None:
    tables = Tables(root)
    lidar = next(r for r in tables.rows("sample_data") if r["is_key_frame"] and "/LIDAR_TOP/scene-01" in r["filename"])
    poses = [record for record in tables.rows("ego_pose") if record["token"] != lidar["ego_pose_token"]]
    write_table(root, "ego_pose", poses)


def _zero_rotations(root: Path) -> None:
    write_table(root, "ego_pose", [{**record, "rotation": [0, 0, 0, 0]} for record in read_table(root, "ego_pose")])


def _one_token(root: Path) -> None:
    records = read_table(root, "sample_data")
    sweep = next(r for r in records if not r["is_key_frame"])
    write_table(root, "sample_data", [*records, {**sweep, "timestamp": 5}])


@pytest.mark.parametrize(
    ("do", "named", "word"),
    [
        (lambda root: shutil.rmtree(root / "sweeps"), "sweeps/LIDAR_TOP/", r"missing \(\d of \d sweeps .*Lidar blobs"),
        (_of_sweep(Path.unlink), "sweeps/LIDAR_TOP/", r"missing \(1 of \d .* mini_val .*v1\.0-mini.*past_sweeps to 0"),
        (_of_sweep(lambda path: path.write_bytes(b"")), "sweeps/LIDAR_TOP/", "no points"),
        (_of_sweep(lambda path: os.truncate(path, 11996)), "sweeps/LIDAR_TOP/", "no multiple of 20"),
        (partial(_unlink_tables_of, name="ego_pose.json"), "v1.0-mini/ego_pose.json", "pose of LIDAR_TOP at 4 of 4"),
        (_without_pose_of_a_key_frame, "v1.0-mini/ego_pose.json", "missing, or without the pose of .* at 1 of 4"),
        (_zero_rotations, "v1.0-mini/ego_pose.json", "the rotation of .* is zero"),
        (_one_token, "v1.0-mini/sample_data.json", "two sweeps have one token"),
        (_records(prev=7), "v1.0-mini/sample_data.json", "prev of the record .* must be text, not 7"),
        (_records(timestamp="now"), "v1.0-mini/sample_data.json", "timestamp of .* must be a whole number"),
        (_records(timestamp=1 << 70), "v1.0-mini/sample_data.json", "timestamp of .* must be microseconds"),
        (_records(filename="../../x"), "v1.0-mini/sample_data.json", "stays below its folder"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_clear_line(tree, do, named, word):
    do(tree)
    with pytest.raises(UserError) as caught:
        open_tree(tree, 3)
    message = str(caught.value)
    assert message.startswith(f"{tree / named}") and re.search(word, message) and message.isprintable()
    assert len(message) < 600


@pytest.mark.parametrize("prev", ["itself", "the next", "another scene", "a camera", "nowhere", "of the same time"])
def test_a_chain_that_leads_astray_ends_there_and_is_noted(tree, prev):
    tables = Tables(tree)
    whole = [len(open_tree(tree, 20).past(number)) for number in range(4)]
    ours = sorted(
        (r for r in tables.rows("sample_data") if "/LIDAR_TOP/scene-0103" in r["filename"]),
        key=lambda r: r["timestamp"],
    )
    last = next(place for place, record in enumerate(ours) if record["filename"].startswith("samples/") and place > 3)
    named = {
        "itself": ours[last],
        "the next": ours[last + 1] if last + 1 < len(ours) else ours[last],
        "another scene": next(r for r in tables.rows("sample_data") if "/LIDAR_TOP/scene-0916" in r["filename"]),
        "a camera": next(r for r in tables.rows("sample_data") if "/CAM_BACK/scene-0103" in r["filename"]),
        "nowhere": {"token": "0" * 32},
        "of the same time": {**ours[last - 1]},
    }[prev]
    ours[last]["prev"] = named["token"]
    if prev == "of the same time":
        ours[last - 1]["timestamp"] = ours[last]["timestamp"]
    write_table(tree, "sample_data", tables.rows("sample_data"))
    source = open_tree(tree, 20)
    number = next(n for n in range(4) if source.frame(n).path.endswith(ours[last]["filename"]))
    assert source.past(number) == []
    shorter = [len(source.past(other)) for other in range(4)]
    assert shorter[:number] == whole[:number] and whole[number] > 0 and shorter[3] == whole[3] == 0
    (note,) = source.notes
    assert re.search(r"sample_data\.json: \d of 4 scans have fewer sweeps before them: prev of a LIDAR_TOP", note)


def test_a_sweep_without_a_pose_ends_the_past(tree):
    tables = Tables(tree)
    by_path = {str(tree / record["filename"]): record for record in tables.rows("sample_data")}
    lacking = by_path[open_tree(tree, 5).past(2)[1].frame.path]["ego_pose_token"]
    write_table(tree, "ego_pose", [r for r in tables.rows("ego_pose") if r["token"] != lacking])
    source = open_tree(tree, 5)
    assert len(source.past(2)) == 1 and "fewer sweeps" in source.notes[0]


# The index.


def sweeps_index(root: Path) -> Path:
    return root / "v1.0-mini" / "2dpass_index_sweeps.npy"


def test_the_index_is_built_once_and_says_so(tree, capsys):
    before = sweeps_index(tree).read_bytes()
    open_tree(tree, 3)
    assert capsys.readouterr().err == ""
    sweeps_index(tree).unlink()
    open_tree(tree, 3)
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "for the past sweeps, once" in said and sweeps_index(tree).read_bytes() == before


def forge(root: Path, change: Callable[[np.ndarray], object]) -> None:
    """Changes the records, and makes the header fit them again: an index may come with a data set."""
    records = np.load(sweeps_index(root))
    change(records)
    np.save(sweeps_index(root), records)
    path = sweeps_index(root).with_suffix(".json")
    header = json.loads(path.read_text())
    header["checksum"] = nuscenes_index._checksum(
        sweeps_index(root), {key: header[key] for key in ("tables", "categories")}
    )
    path.write_text(json.dumps(header))


def _put(column: str, value: object) -> Callable[[np.ndarray], None]:
    def change(records: np.ndarray) -> None:
        records[column][:] = value

    return change


@pytest.mark.parametrize(
    "damage",
    [
        lambda root: sweeps_index(root).write_bytes(sweeps_index(root).read_bytes()[:-1]),
        lambda root: shutil.copy(root / "v1.0-mini" / "2dpass_index.npy", sweeps_index(root)),
        lambda root: forge(root, _put("previous", 1)),
        lambda root: forge(root, _put("previous", -3)),
        lambda root: forge(root, _put("previous", 1 << 20)),
        lambda root: forge(root, _put("time", 7)),
        lambda root: forge(root, _put("pose", np.nan)),
    ],
    ids=["cut off", "of key frames", "cycle", "before all", "beyond", "one time", "no pose"],
)
def test_a_damaged_or_impossible_index_is_built_anew(tree, capsys, damage):
    before = sweeps_index(tree).read_bytes()
    damage(tree)
    open_tree(tree, 3)
    assert sweeps_index(tree).read_bytes() == before and "reading the nuScenes tables" in capsys.readouterr().err


@pytest.mark.parametrize("name", [b"../../x", b"/etc/x", b"a\nb", b"\xff", b"\x1b[0m"])
def test_a_forged_index_leads_nowhere(tree, name):
    def change(records: np.ndarray) -> None:
        records["lidar"][records["frame"] < 0] = name

    forge(tree, change)
    with pytest.raises(UserError, match=r"2dpass_index_sweeps\.npy: filename ") as caught:
        open_tree(tree, 3)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("change", [_put("frame", 0), _put("frame", 1 << 20), _put("lidar", b"samples/x.bin")])
def test_an_index_of_other_key_frames_is_refused(tree, change):
    forge(tree, change)
    with pytest.raises(UserError, match=r"index_sweeps\.npy: names other key frames than .*2dpass_index\.npy; remove"):
        open_tree(tree, 3)


def test_other_tables_make_another_index(tree):
    records = read_table(tree, "sample_data")
    write_table(tree, "sample_data", [{**record, "prev": ""} for record in records])
    assert all(not open_tree(tree, 3).past(number) for number in range(4))
