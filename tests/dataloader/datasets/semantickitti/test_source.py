from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dataloader.catalogue import load_label_map
from dataloader.dataset import SegmentationDataset
from dataloader.datasets.data_set import Part
from dataloader.datasets.semantickitti.calibration import read_calibration
from dataloader.datasets.semantickitti.frames import TEST_SCANS, unlike_the_benchmark
from dataloader.datasets.semantickitti.source import SemanticKITTI
from utils.config.loading import load_config
from utils.errors import UserError
from utils.scan.records import Frame

ROOT = Path(__file__).parents[4]
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
def test_a_label_map_without_the_split_is_refused(tree, label_map, split: Part, named):
    for sequences in ({}, {"train": (), "valid": ("08",), "test": ()}):
        with pytest.raises(UserError, match=rf"label_mapping.*split\.{named}"):
            SemanticKITTI(tree, split, replace(label_map, split=sequences))


def test_a_sequence_may_have_any_plain_name(tree, label_map):
    names = {"00": "2013_05_28_drive_0000_sync", "08": "8", "11": "night.drive-2"}
    for number, name in names.items():
        (tree / number).rename(tree / name)
    split = {part: (name,) for part, name in zip(("train", "valid", "test"), names.values(), strict=True)}
    other = replace(label_map, split=split)
    assert SemanticKITTI(tree, "trainval", other).frame(0) == Frame(
        names["00"], "000000", str(tree / names["00"] / "velodyne" / "000000.bin")
    )
    scan = SemanticKITTI(tree, "test", other, load_image=True).read(0)
    assert scan.frame.sequence == "night.drive-2" and scan.image is not None
    with pytest.raises(UserError) as caught:
        SemanticKITTI(tree, "valid", label_map)
    for words in ("none of the sequences 08 (valid)", "folders there are 2013_05_28_drive_0000_sync, 8, night.drive-2"):
        assert words in str(caught.value)
    (line,) = SemanticKITTI(tree, "valid", replace(other, split={"valid": ("08", "8")})).notes
    assert f"no split lists {names['00']}, {names['11']}, so their scans are left out (not there: 08)" in line
    (tree / "empty").mkdir()
    with pytest.raises(UserError, match=r"none of the sequences 8 \(valid\), there are no folders; .*letters, digits"):
        SemanticKITTI(tree / "empty", "valid", other)


def test_points_that_a_corruption_added_are_ignored_and_other_ids_named(tree):
    label_map = load_label_map(load_config(ROOT / "config" / "MinkowskiNet-demo.yaml"))
    path = tree / "08" / "labels" / "000000.label"
    labels = np.fromfile(path, "<u4")
    labels[:6] = (21, 22, 23, 21 | 7 << 16, 10, 10 | 3 << 16)
    labels.tofile(path)
    source = SemanticKITTI(tree, "valid", label_map)
    assert f"{path}: a corruption has added points to the scan (label ids 21, 22, 23); they are ignored" in source.notes
    scan = source.read(0)
    assert scan.labels[:6].tolist() == [0, 0, 0, 0, 1, 1] and scan.instances[:6].tolist() == [0, 0, 0, 7, 0, 3]
    labels[2] = 41  # an added point of nuScenes
    labels.tofile(path)
    with pytest.raises(UserError, match=r"08/labels/000000\.label: label id 41 on 1 points is not in the"):
        SemanticKITTI(tree, "valid", label_map).read(0)


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

    monkeypatch.setattr("dataloader.datasets.semantickitti.source.read_image", refuse)
    sample = SegmentationDataset(SemanticKITTI(tree, "valid", label_map), LOW, HIGH, num_vote=3)[0]
    assert sample.scan.image is None


def test_evaluation_opens_no_image_even_if_the_source_could(tree, label_map, monkeypatch):
    source = SemanticKITTI(tree, "valid", label_map, load_image=True)

    def refuse(*args, **kwargs):
        raise AssertionError("an image was opened")

    monkeypatch.setattr("dataloader.datasets.semantickitti.source.read_image", refuse)
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
    elif done == "pipe":
        path.unlink()
        os.mkfifo(path)
    elif done == "dangle":
        path.unlink()
        path.symlink_to("nowhere")
    elif done == "five columns":
        points = np.fromfile(path, np.float32).reshape(-1, 4)
        np.c_[points, points[:, 3]].tofile(path)
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
        Damage("pipe", "08/velodyne/000001.bin", "not an ordinary file"),
        Damage("dangle", "08/labels/000001.label", "cannot look at the file"),
        Damage("five columns", "08/velodyne/000001.bin", "5 float32 columns"),
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
    with pytest.raises(UserError, match=r"08.velodyne.000000\.bin.*most lie around \(60, 60, 60\) m.*max_volume_space"):
        SegmentationDataset(source, LOW, HIGH)[0]


def test_calibration_is_p2_times_tr(tree):
    path = tree / "00" / "calib.txt"
    path.write_text("P2: 2 0 3 1  0 2 5 0  0 0 1 0\nTr: 0 -1 0 0.5  0 0 -1 0  1 0 0 -0.25\n")
    x, y, z = 4.0, 1.5, -0.75
    camera = np.array([-y + 0.5, -z, x - 0.25])
    wanted = [2 * camera[0] + 3 * camera[2] + 1, 2 * camera[1] + 5 * camera[2], camera[2]]
    assert np.allclose(read_calibration(path) @ [x, y, z, 1], wanted)


def add_frames(tree: Path, sequence: str, numbers: Iterable[int], labels: bool) -> None:
    """Copies of the sequence's first scan."""
    for number in numbers:
        for kind, suffix in [("velodyne", ".bin")] + [("labels", ".label")] * labels:
            folder = tree / sequence / kind
            shutil.copy(folder / f"000000{suffix}", folder / f"{number:06d}{suffix}")


def test_scans_that_are_missing_from_the_middle_are_noted_or_refused(tree, label_map):
    add_frames(tree, "08", (2, 3, 5, 6), labels=True)
    add_frames(tree, "11", (1, 2, 3, 5, 6), labels=False)
    (note,) = SemanticKITTI(tree, "valid", label_map).notes
    assert "1 scans are missing from the numbering (000004)" in note and str(tree / "08") in note
    with pytest.raises(UserError, match=r"11.velodyne.000004\.bin: missing.*a submission needs all"):
        SemanticKITTI(tree, "test", label_map)


def test_every_fifth_scan_is_no_gap_but_makes_no_submission(tree, label_map):
    add_frames(tree, "08", (5, 10, 15), labels=True)
    for kind, suffix in (("velodyne", ".bin"), ("labels", ".label")):
        (tree / "08" / kind / f"000001{suffix}").unlink()
    assert SemanticKITTI(tree, "valid", label_map).notes == ()
    add_frames(tree, "11", (5, 10), labels=False)
    with pytest.raises(UserError, match=r"000001, 000002, 000003 and 5 more"):
        SemanticKITTI(tree, "test", label_map)


def test_a_label_file_without_its_scan_is_noted(tree, label_map):
    add_frames(tree, "08", (2, 3), labels=True)
    (tree / "08" / "velodyne" / "000003.bin").unlink()
    (note,) = SemanticKITTI(tree, "valid", label_map).notes
    assert "1 label files have no scan (000003)" in note
    (tree / "11" / "labels").mkdir()
    (tree / "11" / "labels" / "000001.label").touch()
    with pytest.raises(UserError, match=r"000001\.bin: missing"):
        SemanticKITTI(tree, "test", label_map)


def test_names_that_are_no_numbers_have_no_gaps(tree, label_map):
    scan = tree / "11" / "velodyne" / "000000.bin"
    for name in ("1305031102", "1305031109"):
        shutil.copy(scan, scan.with_name(f"{name}.bin"))
    with pytest.raises(UserError, match=r"1305031102\.bin: is not called by a number of six digits, as 1 scans beside"):
        SemanticKITTI(tree, "test", label_map)
    scan.unlink()
    source = SemanticKITTI(tree, "test", label_map)
    assert len(source) == 2 and any("scans of the benchmark are called" in note for note in source.notes)


def test_a_copy_of_a_scan_is_noted(tree, label_map):
    for folder, suffix in (("velodyne", ".bin"), ("labels", ".label")):
        shutil.copy(tree / "08" / folder / f"000000{suffix}", tree / "08" / folder / f"000000 (1){suffix}")
    assert any("000000 (1).bin: is not called" in note for note in SemanticKITTI(tree, "valid", label_map).notes)


def test_a_suffix_in_capital_letters_is_refused(tree, label_map):
    scan = tree / "08" / "velodyne" / "000000.bin"
    scan.rename(scan.with_suffix(".BIN"))
    with pytest.raises(UserError, match=r"000000\.BIN: file names must end in \.bin"):
        SemanticKITTI(tree, "valid", label_map)


def test_a_sequence_to_train_and_to_validate_on_is_noted(tree, label_map):
    both = replace(label_map, split={**label_map.split, "train": ("00", "08")})
    assert any("sequences 08 are in split.train and in" in note for note in SemanticKITTI(tree, "valid", both).notes)


def test_an_empty_image_is_refused_at_once(tree, label_map):
    image = tree / "08" / "image_2" / "000000.png"
    image.write_bytes(b"")
    with pytest.raises(UserError, match=r"000000\.png: the file is empty"):
        SemanticKITTI(tree, "valid", label_map, load_image=True)


def test_fewer_scans_than_the_benchmark_has_are_noted(tree, label_map):
    (note,) = SemanticKITTI(tree, "test", label_map).notes
    assert "of the 20,351 test scans of the benchmark 1 are here (scans of sequence 11: 1 of 921)" in note
    other = replace(label_map, split={**label_map.split, "test": ("11",)})
    assert SemanticKITTI(tree, "test", other).notes == ()
    assert unlike_the_benchmark(TEST_SCANS) is None and sum(TEST_SCANS.values()) == 20_351
    more = unlike_the_benchmark({**TEST_SCANS, "21": 2722})
    assert more is not None and "21: 2722 of 2721" in more


def test_a_camera_that_sees_nothing_is_refused(tree, label_map):
    path = tree / "08" / "calib.txt"
    lines = path.read_text().splitlines()
    nothing = {
        "identity": "Tr: 1 0 0 0 0 1 0 0 0 0 1 0",
        "backwards": "Tr: 0 1 0 0 0 0 -1 0 -1 0 0 0",
        "behind": "Tr: 0 -1 0 0 0 0 -1 0 1 0 0 -999",
        "zeros": "Tr: " + "0 " * 12,
        "too large": "Tr: " + "1e300 " * 12,
        "a line": "P2: " + "1 " * 12,
        "overflow": "P2: 1e300 0 1e300 0 0 1e300 1e300 0 0 0 1 0",
    }
    for name, line in nothing.items():
        path.write_text("\n".join([*lines, line]))
        with pytest.raises(UserError, match=rf"08.calib\.txt: .*keys? .*{line[:2]}"):
            SemanticKITTI(tree, "valid", label_map, load_image=True)
            pytest.fail(name)
    SemanticKITTI(tree, "valid", label_map)  # without images no calibration is needed


def test_a_camera_that_sees_a_little_is_noted(tree, label_map):
    points = np.zeros((5000, 4))
    points[:, 0], points[:, 1] = -5 - np.arange(5000) % 7, 1
    points[0, :3] = 10, 0, 0
    _write_scan(tree, points)
    (note,) = SemanticKITTI(tree, "valid", label_map, load_image=True).notes[-1:]
    assert "keys P2 and Tr put only 1 of the 5000 points" in note


def test_a_calibration_of_other_images_is_noted(tree, label_map):
    path = tree / "08" / "image_2" / "000000.png"
    with Image.open(path) as image:
        image.resize((3 * image.width, 3 * image.height)).save(path)
    assert any(
        "key P2 has the camera's axis in" in note
        for note in SemanticKITTI(tree, "valid", label_map, load_image=True).notes
    )


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("Tr: 0 0 -1 0 0 1 0 0 1 0 0 0", "not upright"),
        ("Tr: 0 1 0 0 0 0 -1 -0.08 1 0 0 -0.27", "mirror"),
        ("P2: 1e-9 0 160 0 0 1e-9 48 0 0 0 1 0", "close together"),
    ],
)
def test_a_camera_that_sees_oddly_is_noted(tree, label_map, line, wanted):
    path = tree / "08" / "calib.txt"
    assert SemanticKITTI(tree, "valid", label_map, load_image=True).notes == ()
    path.write_text(f"{path.read_text()}\n{line}\n")
    (note,) = SemanticKITTI(tree, "valid", label_map, load_image=True).notes
    assert wanted in note and str(path) in note


def test_the_first_scan_may_be_blind(tree, label_map):
    _write_scan(tree, -np.random.default_rng(0).random((100, 4)) - 1)
    assert not any("P2" in note for note in SemanticKITTI(tree, "valid", label_map, load_image=True).notes)


@pytest.mark.skipif("TWODPASS_REAL_DATA" not in os.environ, reason="set TWODPASS_REAL_DATA to a sequences folder")
@pytest.mark.parametrize("split", ["train"])
def test_real_scans(split: Part, label_map):
    source = SemanticKITTI(os.environ["TWODPASS_REAL_DATA"], split, label_map)
    sample = SegmentationDataset(source, LOW, HIGH)[0]
    assert sample.whole is not None
    assert sample.whole.inside.float().mean() > 0.9
    assert (sample.scan.labels > 0).mean() > 0.8
