"""What is said of nuScenes' scans and cameras when they are listed."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from dataloader.catalogue import load_label_map
from dataloader.datasets.nuscenes.source import CAMERAS, NuScenes
from dataloader.formats.scan_check import Notes
from utils.config.loading import load_config
from utils.errors import UserError
from utils.labels import LabelMap

ROOT = Path(__file__).resolve().parents[4]


@pytest.fixture(scope="module")
def labels() -> LabelMap:
    return LabelMap.load(ROOT / "config" / "label_mapping" / "nuscenes.yaml")


@pytest.fixture
def root(demo_trees, tmp_path) -> Path:
    return Path(shutil.copytree(demo_trees["nuScenes"], tmp_path / "nuscenes"))


def open_mini(root: Path, labels: LabelMap, images: bool = False) -> NuScenes:
    return NuScenes(root, "v1.0-mini", "mini_val", labels, (64, 48) if images else None)


def first_scan(root: Path, labels: LabelMap) -> tuple[Path, np.ndarray]:
    path = Path(open_mini(root, labels).frame(0).path)
    return path, np.fromfile(path, "<f4").reshape(-1, 5)


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        (lambda points: points[:, :4], "4 float32 columns, where 5"),
        (lambda points: points.astype(np.float64), "float64"),
        (lambda points: points[:-1], r"\d+ labels for \d+ points"),
        (lambda points: points[:0], "no points"),
    ],
    ids=["four", "float64", "shorter", "empty"],
)
def test_wrong_scans_are_refused(root, labels, change, wanted) -> None:
    path, points = first_scan(root, labels)
    change(points).tofile(path)
    with pytest.raises(UserError, match=wanted):
        open_mini(root, labels)


def test_doubtful_scans_are_noted_once(root, labels) -> None:
    assert open_mini(root, labels, images=True).notes == ()
    for path in (root / "samples" / "LIDAR_TOP").iterdir():
        points = np.fromfile(path, "<f4").reshape(-1, 5)
        points[:, 3] /= 255
        points.tofile(path)
    (note,) = open_mini(root, labels, images=True).notes
    assert "multiply it by 255" in note and "LIDAR_TOP" in note


def test_points_that_a_corruption_added_are_ignored_and_noted(root) -> None:
    label_map = load_label_map(load_config(ROOT / "config" / "MinkowskiNet-nuscenes.yaml"))
    token = open_mini(root, label_map).frame(0).name
    path = root / "lidarseg" / "v1.0-mini" / f"{token}_lidarseg.bin"
    raw = np.fromfile(path, np.uint8)
    raw[:4] = (41, 42, 43, 41)
    raw.tofile(path)
    source = open_mini(root, label_map)
    assert not source.read(0, camera=None).labels[:4].any()
    assert source.notes == (
        f"{path}: a corruption has added points to the scan (label ids 41, 42, 43); they are ignored",
    )
    names = {entry["index"] for entry in json.loads((root / "v1.0-mini" / "category.json").read_text())}
    raw[1] = next(number for number in (60, 61, 200) if number not in names)
    raw.tofile(path)
    with pytest.raises(UserError, match=f"label id {raw[1]} on 1 points"):
        open_mini(root, label_map).read(0, camera=None)


def test_cameras_that_see_nothing(root, labels) -> None:
    source = open_mini(root, labels, images=True)
    records = source._index.records.copy()  # as if the tables had these calibrations
    object.__setattr__(source._index, "records", records)
    records["matrices"][:] = 0
    sizes = source._check_files("v1.0-mini", "mini_val")
    with pytest.raises(UserError, match=r"calibrated_sensor\.json: no point of .* image of CAM_FRONT, "):
        source._look_at_scans(sizes, Notes())
    records["matrices"][:] = source_matrices(root, labels)
    records["matrices"][:, CAMERAS.index("CAM_BACK")] = 0
    (note,) = source._look_at_scans(sizes, Notes())
    assert "falls into the image of CAM_BACK" in note and "CAM_FRONT" not in note


def source_matrices(root: Path, labels: LabelMap) -> np.ndarray:
    return open_mini(root, labels, images=True)._index.records["matrices"]


def test_opening_lists_each_folder_once_and_reads_no_scan_twice(root, labels, monkeypatch) -> None:
    open_mini(root, labels)  # builds the index
    listed, read = Counter(), Counter()
    for name in ("scandir", "listdir"):
        usual = getattr(os, name)
        monkeypatch.setattr(os, name, lambda folder, usual=usual: listed.update([Path(folder)]) or usual(folder))
    monkeypatch.setattr(
        "dataloader.formats.files.np.fromfile",
        lambda path, usual=np.fromfile, **how: read.update([path]) or usual(path, **how),
    )
    open_mini(root, labels, images=True)
    folders = [root / "samples" / name for name in ("LIDAR_TOP", *CAMERAS)] + [root / "lidarseg" / "v1.0-mini"]
    assert [listed[folder] for folder in folders] == [1] * 8
    assert read and set(read.values()) == {1}
