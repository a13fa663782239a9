from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dataloader.catalogue import DATA_SETS
from network.weights.description import describe
from tools import view
from utils.config.loading import load_config
from utils.errors import UserError
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
    draw_nuscenes(tmp_path / "scan.png", tree, *flags)  # the first to open a version says that it makes its index
    capsys.readouterr()
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


@pytest.fixture
def shown(monkeypatch):
    """Takes what the viewer would show: frames, host, port and the number of the first one."""
    calls = []
    monkeypatch.setattr(view, "view", lambda *arguments: calls.append(arguments))
    return calls


def show(*flags):
    return view.main([str(flag) for flag in flags])


def kitti_pictures(scan):
    return {camera.picture.name: camera.picture.image.shape for row in scan.cameras for camera in row}


def test_the_viewer_gets_all_scans_of_a_sequence(shown, tmp_path, capsys):
    predict_everything_as(252, tmp_path, frame="000001")
    flags = ["--data_path", TREE, "--frame", "000001", "--predictions", tmp_path, "--port", 0]
    assert show(*flags) == 0
    (frames, host, port, start) = shown[0]
    assert (len(frames), host, port, start) == (2, "127.0.0.1", 0, 1)
    assert f"{tmp_path}: 1 of 2 scans have no prediction there" in capsys.readouterr().out
    for index in range(2):
        scan, name = frames.read(index), f"00000{index}"
        points = np.fromfile(TREE / "08" / "velodyne" / f"{name}.bin", "<f4").reshape(-1, 4)
        np.testing.assert_array_equal(np.column_stack([scan.xyz, scan.intensity]), points)
        raw = np.fromfile(TREE / "08" / "labels" / f"{name}.label", "<u4") & 0xFFFF
        np.testing.assert_array_equal(scan.labels, KITTI.to_learning[raw])
        assert scan.title == frames.title(index) == f"Sequence 08, scan {name}"
        image = Image.open(TREE / "08" / "image_2" / f"{name}.png")
        assert kitti_pictures(scan) == {"the camera": (image.height, image.width, 3)}
        assert [set(ids) for ids in scan.predictions.values()] == [[], [{1}]][index]
    assert frames.num_classes == 20 and frames.names[:20] == KITTI.names and len(frames.colors) == len(frames.names)


def test_only_the_scan_that_is_asked_for_is_read(shown, tmp_path):
    shutil.copytree(TREE / "08", tmp_path / "08")
    for damaged in ("velodyne/000001.bin", "labels/000001.label", "image_2/000001.png"):
        (tmp_path / "08" / damaged).write_bytes(b"abc")
    assert show("--data_path", tmp_path) == 0
    frames = shown[0][0]
    assert len(frames.read(0).xyz)
    with pytest.raises(UserError, match=r"velodyne.000001\.bin"):
        frames.read(1)


def test_scans_without_labels_and_predictions_are_shown_too(shown):
    assert show("--data_path", TREE, "--sequence", 11) == 0
    scan = shown[0][0].read(0)
    assert scan.labels is None and not scan.predictions and len(scan.xyz)


def test_two_predictions_side_by_side(shown, tmp_path):
    for raw, name in ((10, "a"), (70, "b")):
        predict_everything_as(raw, tmp_path / name / "predictions")
    both = ["--data_path", TREE, "--predictions", tmp_path / "a" / "predictions", tmp_path / "b" / "predictions"]
    assert show(*both, "--host", "0.0.0.0") == 0
    frames, host, *_ = shown[0]
    assert host == "0.0.0.0"
    assert {name: set(ids) for name, ids in frames.read(0).predictions.items()} == {"a": {1}, "b": {15}}
    assert draw(tmp_path / "two.png", *both[2:]) == 0
    assert draw(tmp_path / "one.png", *both[2:4]) == 0
    two, one = read(tmp_path / "two.png"), read(tmp_path / "one.png")
    assert two.shape[1] == one.shape[1] and two.shape[0] > one.shape[0]
    assert has_color(two, KITTI.colors[1]) and has_color(two, KITTI.colors[15])


def test_half_a_run_is_shown_but_a_picture_needs_its_prediction(shown, tmp_path, capsys):
    predict_everything_as(10, tmp_path, frame="000001")
    assert draw(tmp_path / "scan.png", "--predictions", tmp_path) == 2
    error = capsys.readouterr().err
    assert "sequences/08/predictions/000000.label: missing" in error and error.count("\n") == 1
    assert draw(tmp_path / "scan.png", "--predictions", tmp_path, frame="000001") == 0


def test_a_corrupted_subset_and_the_folder_of_robust_test(shown, tmp_path):
    (tmp_path / "sequences").mkdir()
    corrupted(tmp_path / "Robo3D" / "SemanticKITTI-C" / "fog" / "heavy", raw=23)
    kept = tmp_path / "run" / "subsets" / "fog" / "heavy" / "predictions" / "labels"
    predict_everything_as(10, tmp_path)
    shutil.copytree(tmp_path / "08" / "predictions", kept)
    flags = ["--data_path", tmp_path / "sequences", "--subset", "fog/heavy", "--predictions", tmp_path / "run"]
    assert show(*flags) == 0
    frames = shown[0][0]
    scan = frames.read(0)
    assert set(scan.predictions["prediction"]) == {1} and not scan.cameras
    assert {frames.names[label] for label in scan.labels[:400]} == {"crosstalk (added, ignored)"}


def test_nuscenes_in_the_viewer(tree, shown, tmp_path):
    assert show("--dataset", "nuscenes", "--data_path", tree) == 0
    split, *_ = shown[0]
    token, file = scans(tree)["scene-0916"]
    assert show("--dataset", "nuscenes", "--data_path", tree, "--sequence", "scene-0916", "--start", token) == 0
    scene, _, _, start = shown[1]
    assert (len(split), len(scene), start) == (2, 1, 0)
    points = np.fromfile(file, "<f4").reshape(-1, 5)
    for scan in (split.read(1), scene.read(0)):
        np.testing.assert_array_equal(np.column_stack([scan.xyz, scan.intensity]), points[:, :4])
        assert [len(row) for row in scan.cameras] == [3, 3]
        assert token in scan.title and scan.labels is not None
    # The labels that predict.py writes for the folder of the scans.
    raw = NUSCENES.to_raw[9]
    stem = file.name.removesuffix(".pcd.bin")
    out = tmp_path / "LIDAR_TOP"
    out.mkdir(parents=True)
    np.full(len(points), raw, "<u4").tofile(out / f"{stem}.label")
    assert show("--dataset", "nuscenes", "--data_path", tree, "--predictions", out.parent) == 0
    assert [set(shown[2][0].read(i).predictions.get("prediction", ())) for i in range(2)] == [set(), {9}]


def test_a_page_of_its_own(tmp_path, capsys):
    predict_everything_as(10, tmp_path)
    page = tmp_path / "new" / "scene.html"
    assert draw(page, "--predictions", tmp_path) == 0
    assert f"wrote {page}" in capsys.readouterr().out
    text = page.read_text()
    assert text.lstrip().lower().startswith("<!doctype html>") and text.rstrip().endswith("</html>")
    assert "Sequence 08, scan 000000" in text and "</span> car" in text
    assert draw(page, "--frames", 5) == 0  # two are there
    assert "2 scans" in page.read_text()


def test_the_classes_of_a_checkpoint(shown, tmp_path, capsys):
    path = tmp_path / "own.ckpt"
    names = ("nothing", "thing", "other thing")
    colors = np.array([[0, 0, 0], [1, 2, 3], [4, 5, 6]], dtype=np.uint8)
    to_learning = np.full(1 << 16, 255, dtype=np.uint8)
    to_learning[[0, 7, 9]] = 0, 1, 2
    own = LabelMap(names, to_learning, np.array([0, 7, 9], np.uint32), colors, {}, {0: "n", 7: "t", 9: "o"})
    config = load_config(ROOT / "config" / "2DPASS-demo.yaml", ["model_params.num_classes=3"])
    torch.save({"2dpass": {"description": describe(config, own, None), "geometry": {}}}, path)
    np.save(tmp_path / "scan.npy", np.ones((5, 3), np.float32))
    (tmp_path / "out").mkdir()
    np.array([0, 7, 9, 9, 7], "<u4").tofile(tmp_path / "out" / "scan.label")
    flags = ["--scans", tmp_path / "scan.npy", "--predictions", tmp_path / "out"]
    assert show(*flags, "--checkpoint", path) == 0
    frames = shown[0][0]
    assert tuple(frames.names) == names and frames.read(0).predictions["prediction"].tolist() == [0, 1, 2, 2, 1]
    torch.save({}, path)
    assert show(*flags, "--checkpoint", path) == 2
    assert "does not hold its classes" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        ([], ["--data_path", "--scans"]),
        (["--data_path", TREE, "--scans", "a.bin"], ["--data_path", "--scans"]),
        (["--data_path", TREE, "--output", "a.png", "--port", 1], ["--port", "--output"]),
        (["--data_path", TREE, "--output", "a.html", "--host", "0.0.0.0"], ["--host", "--output"]),
        (["--data_path", TREE, "--split", "val"], ["--split", "nuscenes"]),
        (["--data_path", TREE, "--version", "v1.0-mini"], ["--version", "nuscenes"]),
        (["--data_path", TREE, "--corruption_path", "a"], ["--corruption_path", "--subset"]),
        (["--data_path", TREE, "--topic", "a"], ["--topic", "--scans"]),
        (["--data_path", TREE, "--output", "a.png", "--frames", 2], ["--frames", "FILE.html"]),
        (["--scans", "a.bin", "--dtype", "float64"], ["--dtype", "--columns"]),
        (["--scans", "a.bin", "--sequence", "08"], ["--sequence", "--scans"]),
        (["--scans", "a.bin", "--subset", "fog_light"], ["--subset", "--scans"]),
        (["--data_path", TREE, "--checkpoint", "a", "--label_mapping", "b"], ["--checkpoint", "--label_mapping"]),
        (["--data_path", TREE, "--predictions", *"abc"], ["--predictions", "at most 2"]),
        (["--dataset", "nuscenes", "--data_path", "x", "--version", "v2"], ["v2"]),
    ],
)
def test_flags_that_do_not_go_together_are_one_line(shown, capsys, flags, named):
    assert show(*flags) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and all(name in error for name in named)
    assert not shown
