from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tools import visualize
from utils.labels import LabelMap

ROOT = Path(__file__).parents[2]
TREE = ROOT / "tests" / "golden" / "semantickitti_tree" / "sequences"


def draw(output, *flags, sequence="08", frame="000000", data_path=TREE):
    flags = ["--data_path", data_path, "--sequence", sequence, "--frame", frame, "--output", output, *flags]
    return visualize.main([str(flag) for flag in flags])


def predict_everything_as(raw, folder, sequence="08", frame="000000"):
    points = (TREE / sequence / "velodyne" / f"{frame}.bin").stat().st_size // 16
    path = folder / sequence / "predictions" / f"{frame}.label"
    path.parent.mkdir(parents=True)
    np.full(points, raw, dtype="<u4").tofile(path)


def read(path):
    return np.asarray(Image.open(path).convert("RGB"))


def has_color(picture, rgb):
    return (picture == np.array(rgb)).all(axis=2).any()


def test_labels_alone(tmp_path, capsys):
    output = tmp_path / "scan.png"
    assert draw(output) == 0
    assert str(output) in capsys.readouterr().out
    raw = np.fromfile(TREE / "08" / "labels" / "000000.label", dtype="<u4") & 0xFFFF
    label_map = LabelMap.load(visualize.LABEL_MAPPING)
    common = np.bincount(label_map.to_learning[raw], minlength=len(label_map.names))[1:].argmax() + 1
    assert has_color(read(output), label_map.colors[common])


@pytest.mark.parametrize("level", [".", "sequences"])
def test_predictions_are_shown_beside_the_labels(tmp_path, level):
    predict_everything_as(252, tmp_path / level)  # moving-car: shown as car
    without, beside = tmp_path / "without.png", tmp_path / "with.png"
    assert draw(without) == 0
    assert draw(beside, "--predictions", tmp_path) == 0
    assert read(beside).shape[1] > read(without).shape[1]
    assert has_color(read(beside), LabelMap.load(visualize.LABEL_MAPPING).colors[1])


def test_a_test_sequence_shows_predictions_alone(tmp_path):
    predict_everything_as(70, tmp_path, sequence="11")
    output = tmp_path / "scan.png"
    assert draw(output, "--predictions", tmp_path, sequence="11") == 0
    assert has_color(read(output), (0, 175, 0))  # vegetation in SemanticKITTI's colours


def test_the_camera_is_shown_where_it_is(tmp_path):
    scan = tmp_path / "08"
    for part in ("velodyne/000000.bin", "labels/000000.label"):
        (scan / part).parent.mkdir(parents=True)
        (scan / part).write_bytes((TREE / "08" / part).read_bytes())
    with_camera, without = tmp_path / "with.png", tmp_path / "without.png"
    assert draw(with_camera) == 0
    assert draw(without, data_path=tmp_path) == 0
    assert read(with_camera).shape[0] > read(without).shape[0]


@pytest.mark.parametrize(
    ("frame", "sequence", "flags", "message"),
    [
        ("999999", "08", [], r"velodyne.999999\.bin"),
        ("000000", "11", [], r"labels.000000\.label: missing; give --predictions"),
        ("000000", "08", ["--predictions", "nowhere"], r"nowhere.sequences.08.predictions.000000\.label"),
        ("000000", "08", ["--label_mapping", "nowhere.yaml"], r"nowhere\.yaml"),
    ],
)
def test_what_is_missing_is_named_in_one_line(tmp_path, capsys, frame, sequence, flags, message):
    assert draw(tmp_path / "scan.png", *flags, sequence=sequence, frame=frame) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and re.search(message, error)
    assert error.count("\n") == 1
    assert not (tmp_path / "scan.png").exists()


@pytest.mark.parametrize("name", ["file/scan.png", "folder"])
def test_an_output_that_cannot_be_written_is_one_line(tmp_path, capsys, name):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    assert draw(tmp_path / name) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith(f"error: {tmp_path / name.split('/')[0]}: ")
    assert printed.err.count("\n") == 1
    assert printed.out == ""


def test_runs_as_a_script_from_anywhere(tmp_path):
    script = str(ROOT / "tools" / "visualize.py")
    command = [sys.executable, script, "--data_path", str(TREE), "--output", "scan.png"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "scan.png").is_file()
