from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dataloader.catalogue import DATA_SETS
from tools import view
from utils.labels import LabelMap
from utils.pictures.raster import NOT_JUDGED

ROOT = Path(__file__).parents[2]
TREE = ROOT / "tests" / "golden" / "semantickitti_tree" / "sequences"
KITTI, NUSCENES = (LabelMap.load(DATA_SETS[name].label_mapping_path) for name in ("SemanticKITTI", "nuScenes"))


def draw(output, *flags, sequence="08", frame="000000", data_path=TREE):
    flags = ["--data_path", data_path, "--sequence", sequence, "--frame", frame, "--output", output, *flags]
    return view.main([str(flag) for flag in flags])


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
    common = np.bincount(KITTI.to_learning[raw], minlength=len(KITTI.names))[1:].argmax() + 1
    assert has_color(read(output), KITTI.colors[common])


@pytest.mark.parametrize("level", [".", "sequences"])
def test_predictions_are_shown_beside_the_labels(tmp_path, level):
    predict_everything_as(252, tmp_path / level)  # moving-car: shown as car
    without, beside = tmp_path / "without.png", tmp_path / "with.png"
    assert draw(without) == 0
    assert draw(beside, "--predictions", tmp_path) == 0
    assert read(beside).shape[1] > read(without).shape[1]
    assert has_color(read(beside), KITTI.colors[1])


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
        ("000000", "08", ["--subset", "rain/heavy"], r"Robo3D.SemanticKITTI-C.rain.heavy.velodyne.000000\.bin"),
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


@pytest.mark.parametrize("name", ["view", "visualize"])
def test_runs_as_a_script_from_anywhere(tmp_path, name):
    """The former name works, too."""
    script = str(ROOT / "tools" / f"{name}.py")
    command = [sys.executable, script, "--data_path", str(TREE), "--output", "scan.png"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "scan.png").is_file()


def corrupted(folder, raw, count=400):
    """Writes the golden scan as a sequence or subset in `folder`, its first points labelled `raw`."""
    labels = np.fromfile(TREE / "08" / "labels" / "000000.label", "<u4")
    labels[:count] = raw
    for kind in ("velodyne", "labels"):
        (folder / kind).mkdir(parents=True)
    shutil.copy(TREE / "08" / "velodyne" / "000000.bin", folder / "velodyne")
    labels.tofile(folder / "labels" / "000000.label")


@pytest.mark.parametrize("where", ["sequences/08", "Robo3D/SemanticKITTI-C/fog/heavy"])
def test_added_points_are_white_and_named_but_not_judged(tmp_path, where, monkeypatch):
    legends = []
    monkeypatch.setattr(
        "utils.pictures.scans._legend", lambda present, _, names: legends.append([names[c] for c in present])
    )
    monkeypatch.setattr(
        "utils.pictures.scans._save_rows", lambda rows, *_: legends.append([name for name, _ in rows[0]])
    )
    shown = []
    monkeypatch.setattr("utils.pictures.scans.birds_eye_view", lambda xyz, lidar, rgb, size: shown.append(rgb))
    (tmp_path / "sequences").mkdir()
    corrupted(tmp_path / where, raw=23 | 5 << 16)
    # Of the points that are left, the prediction has one class right.
    raw = np.fromfile(tmp_path / where / "labels" / "000000.label", "<u4")[400:] & 0xFFFF
    learning = KITTI.to_learning[raw]
    common = np.bincount(learning, minlength=20)[1:].argmax() + 1
    predict_everything_as(KITTI.to_raw[common], tmp_path)
    share = 100 * (learning == common).sum() / (learning > 0).sum()
    subset = ["--subset", "fog/heavy"] if "Robo3D" in where else []
    (tmp_path / "labels").mkdir()
    shutil.copy(tmp_path / "08" / "predictions" / "000000.label", tmp_path / "labels")
    flags = [*subset, "--predictions", tmp_path]
    assert draw(tmp_path / "scan.png", *flags, data_path=tmp_path / "sequences") == 0
    assert "crosstalk (added, ignored)" in legends[0]
    assert f"Errors (red): {share:.1f} % of the points are right" in legends[1]
    assert (shown[0][:400] == 255).all() and not (shown[0][400:] == 255).all(axis=1).any()
    assert (shown[2][:400] == NOT_JUDGED).all()


def test_an_unknown_id_is_an_error_in_a_sequence_and_ignored_in_a_subset(tmp_path, capsys):
    corrupted(tmp_path / "sequences" / "08", raw=24)
    assert draw(tmp_path / "scan.png", data_path=tmp_path / "sequences") == 2
    assert "label id 24 on 400 points is not in the label mapping" in capsys.readouterr().err
    corrupted(tmp_path / "SemanticKITTI-C" / "fog_light", raw=24)
    assert draw(tmp_path / "scan.png", "--subset", "fog_light", data_path=tmp_path / "sequences") == 0


@pytest.fixture
def tree(demo_trees):
    return demo_trees["nuScenes"]


def draw_nuscenes(output, tree, *flags):
    flags = ["--dataset", "nuscenes", "--data_path", tree, "--output", output, *flags]
    return view.main([str(flag) for flag in flags])


def scans(tree, version="v1.0-mini"):
    """Reads token and file of the key frames of the LiDAR, by scene and time, from the tables alone."""
    tables = {
        name: json.loads((tree / version / f"{name}.json").read_text()) for name in ("scene", "sample", "sample_data")
    }
    scenes = {scene["token"]: scene["name"] for scene in tables["scene"]}
    samples = {s["token"]: (scenes[s["scene_token"]], s["timestamp"]) for s in tables["sample"]}
    lidar = [d for d in tables["sample_data"] if "LIDAR_TOP" in d["filename"] and d["is_key_frame"]]
    found = sorted((*samples[d["sample_token"]], d["token"], tree / d["filename"]) for d in lidar)
    return {scene: (token, file) for scene, _, token, file in found}


def predict(folder, eval_set, scan, learning, more=0):
    """Predicts one class for all points, and for `more` that do not exist."""
    token, file = scan
    path = folder / "lidarseg" / eval_set / f"{token}_lidarseg.bin"
    path.parent.mkdir(parents=True)
    np.full(file.stat().st_size // 20 + more, learning, dtype=np.uint8).tofile(path)


def test_nuscenes_labels_by_number_and_by_token(tree, tmp_path):
    token, file = scans(tree)["scene-0916"]  # the last of mini_val, which has one scan of each of its two scenes
    assert draw_nuscenes(tmp_path / "number.png", tree, "--frame", 1) == 0
    assert draw_nuscenes(tmp_path / "token.png", tree, "--frame", token) == 0
    picture = read(tmp_path / "number.png")
    assert np.array_equal(picture, read(tmp_path / "token.png"))
    category = json.loads((tree / "v1.0-mini" / "category.json").read_text())
    names = {entry["index"]: entry["name"] for entry in category}
    raw = np.fromfile(tree / "lidarseg" / "v1.0-mini" / f"{token}_lidarseg.bin", np.uint8)
    assert raw.size == file.stat().st_size // 20
    assert names[np.bincount(raw).argmax()] == "flat.driveable_surface"
    assert has_color(picture, (0, 207, 191))


def test_nuscenes_predictions_are_shown_beside_the_labels(tree, tmp_path):
    predict(tmp_path, "mini_val", scans(tree)["scene-0103"], 9)  # trailer
    without, beside = tmp_path / "without.png", tmp_path / "with.png"
    assert draw_nuscenes(without, tree) == 0
    assert draw_nuscenes(beside, tree, "--predictions", tmp_path) == 0
    assert read(beside).shape[1] > 1.5 * read(without).shape[1]
    trailers = [(read(path) == (255, 140, 0)).all(axis=2).sum() for path in (without, beside)]
    assert trailers[1] > 5 * trailers[0] + 5000


def test_nuscenes_test_split_shows_predictions_alone(tree, tmp_path):
    (scan, *_) = scans(tree, "v1.0-test").values()
    predict(tmp_path, "test", scan, 16)
    flags = ["--version", "v1.0-test", "--split", "test", "--predictions", tmp_path]
    assert draw_nuscenes(tmp_path / "scan.png", tree, *flags) == 0
    assert has_color(read(tmp_path / "scan.png"), NUSCENES.colors[16])


def test_nuscenes_cameras_are_shown_as_they_are_on_the_car(tree, tmp_path, monkeypatch):
    """A camera's points lie in its direction; x points right and y ahead."""
    drawn = []
    monkeypatch.setattr("tools.viewing.scan.draw_scan", lambda *args, **kwargs: drawn.append(args))
    assert draw_nuscenes(tmp_path / "scan.png", tree) == 0
    xyz, cameras = drawn[0][0], drawn[0][-1]
    directions = xyz[:, :2] / np.linalg.norm(xyz[:, :2], axis=1, keepdims=True)
    middle = np.array([[np.median(directions[~np.isnan(c.pixels[:, 0])], axis=0) for c in row] for row in cameras])
    right, ahead = middle[..., 0], middle[..., 1]
    assert (ahead[0] > 0).all() and (ahead[1] < 0).all()
    assert (right[:, 0] < -0.5).all() and (np.abs(right[:, 1]) < 0.4).all() and (right[:, 2] > 0.5).all()
    assert len({c.image.tobytes() for row in cameras for c in row}) == 6


@pytest.mark.parametrize("lacking", ["pictures", "poses"])
def test_nuscenes_without_cameras(tree, tmp_path, lacking):
    part = tmp_path / "part"
    (part / "samples").mkdir(parents=True)
    for name in ("lidarseg", "samples/LIDAR_TOP" if lacking == "pictures" else "samples/*"):
        for path in tree.glob(name):
            (part / path.relative_to(tree)).symlink_to(path)
    shutil.copytree(tree / "v1.0-mini", part / "v1.0-mini")
    if lacking == "poses":
        (part / "v1.0-mini" / "ego_pose.json").unlink()
    assert draw_nuscenes(tmp_path / "with.png", tree) == 0
    assert draw_nuscenes(tmp_path / "without.png", part) == 0
    with_cameras, without = read(tmp_path / "with.png"), read(tmp_path / "without.png")
    assert with_cameras.shape[0] > without.shape[0] and with_cameras.shape[1] == without.shape[1]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--frame", "2"], r"--frame 2: .* mini_val .* 0 to 1"),
        (["--frame", "f" * 32], r"--frame f+: "),
        (["--frame", "-1"], r"--frame -1: "),
        (["--split", "val"], r"val: no split of v1\.0-mini"),
        (["--version", "v1.0-test", "--split", "test"], r"the split test has no labels; give --predictions"),
        (["--subset", "rain/heavy"], r"Robo3D.nuScenes-C.rain.heavy: no scans of the subset rain/heavy there"),
        (["--predictions", "nowhere"], r"nowhere.lidarseg.mini_val.*_lidarseg\.bin: missing"),
        (["--label_mapping", "nowhere.yaml"], r"nowhere\.yaml"),
    ],
)
def test_nuscenes_errors_are_one_line(tree, tmp_path, capsys, flags, message):
    assert draw_nuscenes(tmp_path / "scan.png", tree, *flags) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and re.search(message, error)
    assert error.count("\n") == 1
    assert not (tmp_path / "scan.png").exists()


@pytest.mark.parametrize(
    ("learning", "more", "message"), [(1, 3, r"\d+ predictions for \d+ points"), (17, 0, "class 17 is none of 1 to 16")]
)
def test_nuscenes_predictions_that_do_not_fit(tree, tmp_path, capsys, learning, more, message):
    predict(tmp_path, "mini_val", scans(tree)["scene-0103"], learning, more)
    assert draw_nuscenes(tmp_path / "scan.png", tree, "--predictions", tmp_path) == 2
    error = capsys.readouterr().err
    assert re.search(message, error) and "_lidarseg.bin" in error and error.count("\n") == 1
