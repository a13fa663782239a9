from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from dataloader.dataset import SegmentationDataset
from dataloader.kitti_calibration import read_calibration
from dataloader.semantickitti import SemanticKITTI, Split
from utils.errors import UserError

LOW, HIGH = (-50, -50, -4), (50, 50, 2)


def test_frames_are_sorted_and_complete(tree, label_map):
    shutil.copytree(tree / "00", tree / "03")
    train = SemanticKITTI(tree, "train", label_map)
    assert [(f.sequence, f.name) for f in train.frames] == [
        ("00", "000000"), ("00", "000001"), ("03", "000000"), ("03", "000001"),
    ]  # fmt: skip
    assert len(train) == 4
    assert train.frame(2).path == str(tree / "03" / "velodyne" / "000000.bin")
    both = SemanticKITTI(tree, "trainval", label_map)
    assert [f.sequence for f in both.frames] == ["00", "00", "03", "03", "08", "08"]


def test_absent_sequences_are_listed(tree, label_map):
    assert SemanticKITTI(tree, "train", label_map).absent == ("01", "02", "03", "04", "05", "06", "07", "09", "10")
    assert SemanticKITTI(tree, "valid", label_map).absent == ()
    assert "01" in SemanticKITTI(tree, "trainval", label_map).absent


@pytest.mark.parametrize(("split", "named"), [("train", "train"), ("trainval", "train"), ("test", "test")])
def test_a_label_map_without_the_split_is_refused(tree, label_map, split: Split, named):
    with pytest.raises(UserError, match=rf"label_mapping.*split\.{named}"):
        SemanticKITTI(tree, split, replace(label_map, split={}))


def test_read_gives_the_files_content(tree, label_map):
    source = SemanticKITTI(tree, "train", label_map)
    scan = source.read(1)
    points = np.fromfile(tree / "00" / "velodyne" / "000001.bin", np.float32).reshape(-1, 4)
    raw = np.fromfile(tree / "00" / "labels" / "000001.label", np.uint32)
    assert np.array_equal(np.column_stack([scan.xyz, scan.intensity]), points)
    assert np.array_equal(scan.instances, raw >> 16)
    assert np.array_equal(scan.labels, [label_map.to_learning[value & 0xFFFF] for value in raw])
    assert np.array_equal(scan.index, np.arange(len(points)))
    assert scan.image is None and np.isnan(scan.pixels).all()
    dtypes = [
        column.dtype for column in (scan.xyz, scan.intensity, scan.labels, scan.instances, scan.index, scan.pixels)
    ]
    assert dtypes == [np.float32, np.float32, np.uint8, np.int32, np.int64, np.float32]


def test_the_test_split_has_no_labels(tree, label_map):
    scan = SemanticKITTI(tree, "test", label_map, load_image=True).read(0)
    assert not scan.labels.any() and not scan.instances.any()
    assert scan.image is not None and scan.image.shape == (96, 320, 3)


def test_without_images_neither_image_nor_calibration_is_needed(tree, label_map, monkeypatch):
    shutil.rmtree(tree / "08" / "image_2")
    (tree / "08" / "calib.txt").unlink()

    def refuse(*args, **kwargs):
        raise AssertionError("an image was opened")

    monkeypatch.setattr("dataloader.semantickitti.read_image", refuse)
    sample = SegmentationDataset(SemanticKITTI(tree, "valid", label_map), LOW, HIGH, num_vote=3)[0]
    assert sample.scan.image is None


def test_evaluation_opens_no_image_even_if_the_source_could(tree, label_map, monkeypatch):
    source = SemanticKITTI(tree, "valid", label_map, load_image=True)

    def refuse(*args, **kwargs):
        raise AssertionError("an image was opened")

    monkeypatch.setattr("dataloader.semantickitti.read_image", refuse)
    assert SegmentationDataset(source, LOW, HIGH, num_vote=3)[0].scan.image is None
    with pytest.raises(AssertionError):  # the trap works
        source.read(0)


def test_calibration_is_read_once(tree, label_map, monkeypatch):
    source = SemanticKITTI(tree, "train", label_map, load_image=True)
    (tree / "00" / "calib.txt").unlink()
    assert np.isfinite(source.read(1).pixels).any()


@dataclass(frozen=True)
class Damage:
    """Something wrong on disk: what is done to the tree, the file to be named, and a word that must be said."""

    done: str
    file: str
    word: str


def _damage(path: Path, done: str) -> None:
    if done == "remove":
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    elif done == "empty":
        shutil.rmtree(path) if path.is_dir() else path.write_bytes(b"")
        if not path.exists():
            path.mkdir()
    elif done == "truncate":
        os.truncate(path, path.stat().st_size - 6)
    elif done == "halve":
        os.truncate(path, path.stat().st_size // 2)
    elif done == "shorten":
        os.truncate(path, path.stat().st_size - 40)
    elif done.startswith("without "):
        key = done.removeprefix("without ")
        path.write_text("".join(line for line in path.open() if not line.startswith(key + ":")))
    elif done == "garble":
        path.write_text(path.read_text().replace("Tr: ", "Tr: x "))
    elif done.startswith("first number "):
        number = done.removeprefix("first number ")
        path.write_text(re.sub(r"^(P2|Tr): \S+", rf"\1: {number}", path.read_text(), flags=re.MULTILINE))
    elif done == "unknown id":
        raw = np.fromfile(path, np.uint32)
        raw[:3] = (7 << 16) + 300
        raw.tofile(path)


@pytest.mark.parametrize(
    "damage",
    [
        Damage("remove", "", "data_path"),
        Damage("remove", "08", "08"),
        Damage("remove", "08/velodyne", "velodyne"),
        Damage("empty", "08/velodyne", "velodyne"),
        Damage("remove", "08/labels/000001.label", "missing"),
        Damage("remove", "08/labels", "2 of 2"),
        Damage("remove", "08/image_2/000001.png", "missing"),
        Damage("halve", "08/image_2/000000.png", "image"),
        Damage("empty", "08/image_2/000000.png", "image"),
        Damage("truncate", "08/velodyne/000000.bin", "truncated"),
        Damage("empty", "08/velodyne/000000.bin", "no points"),
        Damage("shorten", "08/labels/000000.label", "2498 labels for 2508 points"),
        Damage("truncate", "08/labels/000000.label", "labels for 2508 points"),
        Damage("unknown id", "08/labels/000000.label", "300 on 3 points"),
        Damage("remove", "08/calib.txt", "calibration"),
        Damage("without Tr", "08/calib.txt", "Tr"),
        Damage("without P2", "08/calib.txt", "P2"),
        Damage("garble", "08/calib.txt", "12 numbers"),
        Damage("first number nan", "08/calib.txt", "key P2 must hold finite numbers"),
        Damage("first number -inf", "08/calib.txt", "key P2 must hold finite numbers"),
    ],
    ids=lambda damage: f"{damage.done} {damage.file}",
)
def test_bad_files_are_one_clear_line(damage, tree, label_map):
    path = tree / damage.file
    _damage(path, damage.done)
    with pytest.raises(UserError) as caught:
        SemanticKITTI(tree, "valid", label_map, load_image=True).read(0)
    message = str(caught.value)
    named = tree if damage.file in ("", "08") else path
    assert str(named) in message
    assert damage.word in message
    assert "\n" not in message


def test_a_file_that_vanishes_is_named(tree, label_map):
    source = SemanticKITTI(tree, "valid", label_map, load_image=True)
    for path in ("image_2/000000.png", "labels/000000.label", "velodyne/000000.bin"):
        (tree / "08" / path).unlink()
        with pytest.raises(UserError, match=path):
            source.read(0)


def _write_scan(tree: Path, points: np.ndarray) -> None:
    points.astype(np.float32).tofile(tree / "08" / "velodyne" / "000000.bin")
    np.full(len(points), 40, np.uint32).tofile(tree / "08" / "labels" / "000000.label")


def test_points_that_are_not_finite_lie_outside(tree, label_map):
    points = np.ones((6, 4))
    points[1, 0], points[2, 1], points[3, 2], points[4, 3] = np.nan, np.inf, -np.inf, np.nan
    _write_scan(tree, points)
    source = SemanticKITTI(tree, "valid", label_map, load_image=True)
    with np.errstate(all="raise"):
        sample = SegmentationDataset(source, LOW, HIGH)[0]
        with_pixels = source.read(0)
    assert sample.whole is not None
    assert sample.whole.inside.tolist() == [True, False, False, False, True, True]
    assert sample.whole.donor.tolist() == [0, 0, 0, 0, 1, 2]
    assert np.isfinite(sample.scan.xyz).all() and np.isfinite(sample.scan.intensity).all()
    assert np.isnan(with_pixels.pixels[1:4]).all()


def test_a_scan_wholly_outside_of_the_volume_is_named(tree, label_map):
    _write_scan(tree, np.full((5, 4), 60.0))
    source = SemanticKITTI(tree, "valid", label_map)
    with pytest.raises(UserError, match=r"08.velodyne.000000\.bin.*max_volume_space"):
        SegmentationDataset(source, LOW, HIGH)[0]


def test_calibration_is_p2_times_tr(tree):
    path = tree / "00" / "calib.txt"
    path.write_text("P2: 2 0 3 1  0 2 5 0  0 0 1 0\nTr: 0 -1 0 0.5  0 0 -1 0  1 0 0 -0.25\n")
    x, y, z = 4.0, 1.5, -0.75
    camera = np.array([-y + 0.5, -z, x - 0.25])
    wanted = [2 * camera[0] + 3 * camera[2] + 1, 2 * camera[1] + 5 * camera[2], camera[2]]
    assert np.allclose(read_calibration(path) @ [x, y, z, 1], wanted)


@pytest.mark.skipif("TWODPASS_REAL_DATA" not in os.environ, reason="set TWODPASS_REAL_DATA to a sequences folder")
@pytest.mark.parametrize("split", ["train"])
def test_real_scans(split: Split, label_map):
    source = SemanticKITTI(os.environ["TWODPASS_REAL_DATA"], split, label_map)
    sample = SegmentationDataset(source, LOW, HIGH)[0]
    assert sample.whole is not None
    assert sample.whole.inside.float().mean() > 0.9
    assert (sample.scan.labels > 0).mean() > 0.8
