"""Past scans in tools/view.py, on a made-up drive past a wall and behind a car: what they show is known by hand."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from dataloader.datasets.nuscenes.source import NuScenes
from dataloader.datasets.past_sweeps import PastSweep
from tests.tools.test_view import has_color
from tests.tools.test_view import scans as key_frames
from tools import view
from tools.viewing.semantickitti import SemanticKITTIFrames
from utils.labels import LabelMap
from utils.pictures import scans as drawing

MULTISCAN = "config/label_mapping/semantic-kitti-multiscan.yaml"
WALL, CAR = 40, 15
NUMBERS = (0, 1, 3, 4)
SPEED = 2.0  # metres of the car in a scan
BUILDING, MOVING_CAR, STANDING_CAR, TREE = 50, 252, 10, 70


def sensor_pose(number):
    """Where the sensor is at a scan, (4, 4): kilometres from the origin, on a bend."""
    yaw = 0.1 * number
    pose = np.eye(4)
    pose[:2, :2] = [[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]]
    pose[:3, 3] = [3000 + 1.5 * number, -2000 + 0.2 * number**2, 5]
    return pose


def world(number):
    """The points of the wall and of the car at a scan, in the frame of the world."""
    rng = np.random.default_rng(0)
    wall = rng.uniform([3000, -1990, 4], [3020, -1989.9, 8], (WALL, 3))
    car = rng.uniform([3008, -2004, 4], [3012, -2002, 5.5], (CAR, 3))
    car[:, 0] += SPEED * number
    return np.concatenate([wall, car])


@dataclass(frozen=True)
class Drive:
    """A frozen record of the folder of sequences, and of the folder of predictions."""

    data: Path
    predictions: Path


@pytest.fixture
def drive(tmp_path):
    """Scans 0, 1, 3 and 4; predictions of 1, all tree, and of 4, all standing car, with confidences of 4 alone."""
    folder, run = tmp_path / "data" / "08", tmp_path / "run"
    predictions = run / "sequences" / "08" / "predictions"
    for path in (folder / "velodyne", folder / "labels", predictions):
        path.mkdir(parents=True)
    transform = np.array([[0, -1, 0, 0.01], [0, 0, -1, -0.08], [1, 0, 0, -0.27], [0, 0, 0, 1]])
    (folder / "calib.txt").write_text("Tr: " + " ".join(map(str, transform[:3].ravel())) + "\n")
    poses = [transform @ sensor_pose(number) @ np.linalg.inv(transform) for number in range(5)]
    (folder / "poses.txt").write_text("".join(" ".join(map(repr, p[:3].ravel().tolist())) + "\n" for p in poses))
    for number in NUMBERS:
        turned = sensor_pose(number)
        xyz = (world(number) - turned[:3, 3]) @ turned[:3, :3]
        np.column_stack([xyz, np.full(len(xyz), number / 10)]).astype("<f4").tofile(
            folder / "velodyne" / f"{number:06d}.bin"
        )
        raw = np.repeat([BUILDING, MOVING_CAR if number < 3 else STANDING_CAR], [WALL, CAR])
        raw.astype("<u4").tofile(folder / "labels" / f"{number:06d}.label")
    for number, raw in ((1, TREE), (4, STANDING_CAR)):
        np.full(WALL + CAR, raw, "<u4").tofile(predictions / f"{number:06d}.label")
    np.save(predictions / "000004.confidence.npy", np.full(WALL + CAR, 0.75, np.float32))
    return Drive(folder.parent, run)


def run(drive, *flags):
    return view.main([str(flag) for flag in ("--data_path", drive.data, "--label_mapping", MULTISCAN, *flags)])


@pytest.fixture
def shown(monkeypatch):
    """Takes the frames that the viewer would show."""
    calls = []
    monkeypatch.setattr(view, "view", lambda frames, *_: calls.append(frames))
    return calls


def test_past_scans_stand_where_they_were_with_their_own_age_labels_and_predictions(drive, shown):
    assert run(drive, "--predictions", drive.predictions, "--past_scans", 3) == 0
    frames = shown[0]
    scan = frames.read(3)
    count = WALL + CAR
    assert len(scan.xyz) == 3 * count and scan.age_unit == "scans"
    assert scan.age.reshape(3, count).T.tolist() == [[0, 1, 3]] * count  # there is no scan 2
    now, *past = scan.xyz.reshape(3, count, 3)
    for points, age in zip(past, (1, 3), strict=True):
        np.testing.assert_allclose(points[:WALL], now[:WALL], atol=2e-3)
        gone = np.linalg.norm(now[WALL:] - points[WALL:], axis=1)
        np.testing.assert_allclose(gone, SPEED * age, atol=2e-3)
    np.testing.assert_allclose(scan.intensity.reshape(3, count)[:, 0], [0.4, 0.3, 0.1])
    names = np.array(frames.names)
    assert names[scan.labels.reshape(3, count)[:, [0, -1]]].tolist() == [
        ["building", "car"],
        ["building", "car"],
        ["building", "moving-car"],
    ]
    (prediction,) = scan.predictions.values()
    assert names[prediction.reshape(3, count)[:, 0]].tolist() == ["car", "unlabeled", "vegetation"]
    (confidence,) = scan.confidences.values()
    assert np.array_equal(confidence.reshape(3, count)[:, 0], [0.75, np.nan, np.nan], equal_nan=True)
    assert len(frames.read(0).xyz) == count and not frames.read(0).age.any()  # nothing is from the future
    np.testing.assert_array_equal(scan.select(scan.current).xyz, plainly(drive).read(3).xyz)


def plainly(drive):
    """The frames without past scans."""
    return SemanticKITTIFrames(drive.data, "08", LabelMap.load(MULTISCAN))


def test_a_picture_has_past_scans_in_a_panel_of_their_own_and_nowhere_else(drive, tmp_path, monkeypatch):
    pictures = []
    monkeypatch.setattr(
        drawing, "_save_rows", lambda rows, content, title, legend, path, *_: pictures.append((rows, legend))
    )
    flags = ["--frame", "000004", "--predictions", drive.predictions, "--output", tmp_path / "scan.png"]
    assert run(drive, *flags) == 0
    assert run(drive, *flags, "--past_scans", 3) == 0
    (without, few), (rows, legend) = pictures
    captions, expected = ([caption for row in each for caption, _ in row] for each in (rows, without))
    beside = "With 2 past scans, coloured by age"
    share = 100 * CAR / (WALL + CAR)
    assert f"Errors (red): {share:.1f} % of the points are right" in expected
    assert captions == [*expected[:3], beside, *expected[3:]]
    ages = [patch.get_label() for patch in legend[len(few) :]]
    assert ages == ["age 0: this scan", "age 1 scan", "age 3 scans"]
    drawn = dict(pair for row in rows for pair in row)
    colors = [np.rint(255 * np.array(patch.get_facecolor()[:3])) for patch in legend[len(few) :]]
    assert all(has_color(drawn[beside], color) for color in colors)
    assert not any(has_color(drawn[caption], colors[-1]) for caption in expected)


def test_a_page_says_what_the_colours_of_the_ages_mean(drive, tmp_path):
    page = tmp_path / "scene.html"
    assert run(drive, "--frame", "000004", "--past_scans", 3, "--output", page) == 0
    text = page.read_text()
    assert "0 scans</span>" in text and "3 scans</span>" in text
    assert "</span> moving-car" in text and "</span> car" in text  # of scan 1, and of scan 4
    assert run(drive, "--frame", "000000", "--output", page) == 0
    assert " scans</span>" not in page.read_text()


def test_sweeps_of_nuscenes_have_their_age_in_seconds_and_no_points_of_the_own_car(demo_trees, tmp_path, monkeypatch):
    tree = demo_trees["nuScenes"]
    first, second = (key_frames(tree)[scene] for scene in ("scene-0103", "scene-0916"))
    motion = np.column_stack([np.eye(3), [1.0, 2.0, 3.0]])

    class WithPast(NuScenes):
        """The other scan is said to be half a second old."""

        def __init__(self, *args):
            assert args[5:] in ((), (4,))
            super().__init__(*args[:5])

        def past(self, index):
            return [PastSweep(self.frame(0), 0.5, motion, own_car=6.0)] if index else []

        def read_past(self, sweep, with_labels):
            return self.read(0, camera=None)

    monkeypatch.setattr("tools.viewing.nuscenes.NuScenes", WithPast)
    folder = tmp_path / "lidarseg" / "mini_val"
    folder.mkdir(parents=True)
    points = [np.fromfile(file, "<f4").reshape(-1, 5) for _, file in (first, second)]
    ids = [1 + np.arange(len(each)) % 16 for each in points]
    for (token, _), each in zip((first, second), ids, strict=True):
        each.astype(np.uint8).tofile(folder / f"{token}_lidarseg.bin")
    shown = []
    monkeypatch.setattr(view, "view", lambda frames, *_: shown.append(frames))
    flags = ["--dataset", "nuscenes", "--data_path", tree, "--predictions", tmp_path, "--past_sweeps", 4]
    assert view.main([str(flag) for flag in flags]) == 0
    scan = shown[0].read(1)
    kept = ~((np.abs(points[0][:, 0]) < 6) & (np.abs(points[0][:, 1]) < 6))
    assert 0 < kept.sum() < len(kept)
    count = len(points[1])
    assert scan.age_unit == "s" and scan.current.sum() == count and set(scan.age[count:]) == {0.5}
    np.testing.assert_allclose(scan.xyz[count:], points[0][kept, :3] + [1, 2, 3], atol=1e-4)
    np.testing.assert_array_equal(scan.predictions["prediction"], np.concatenate([ids[1], ids[0][kept]]))
    np.testing.assert_array_equal(scan.labels[count:], shown[0].read(0).labels[kept])
    pixels = [camera.picture.pixels for row in scan.cameras for camera in row]
    assert len(pixels) == 6
    assert all(len(each) == len(scan.xyz) and np.isnan(each[count:]).all() for each in pixels)


@pytest.mark.parametrize(
    ("change", "flags", "named"),
    [
        (None, ["--scans", "a.bin"], ["--past_scans", "--scans"]),
        (None, ["--subset", "fog/light"], ["--past_scans", "--subset"]),
        ("poses.txt", [], ["08/poses.txt: missing", "leave out --past_scans"]),
        ("calib.txt", [], ["08/calib.txt"]),
        ("lines", [], ["08/poses.txt: has 2 lines", "000004"]),
    ],
)
def test_what_past_scans_do_not_go_with_is_one_line(drive, shown, capsys, change, flags, named):
    poses = drive.data / "08" / "poses.txt"
    if change == "lines":
        poses.write_text("".join(poses.read_text().splitlines(keepends=True)[:2]))
    elif change:
        (drive.data / "08" / change).unlink()
    where = [] if "--scans" in flags else ["--data_path", drive.data]
    assert view.main([str(flag) for flag in (*where, *flags, "--past_scans", 2)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and all(name in error for name in named)
    assert not shown


def test_without_past_scans_nothing_is_read_of_poses(drive, shown):
    (drive.data / "08" / "poses.txt").unlink()
    assert run(drive, "--past_scans", 0) == 0
    scan = shown[0].read(3)
    assert scan.age is None and len(scan.xyz) == WALL + CAR


def test_past_scans_from_which_the_poses_jump_away_are_not_shown(drive, shown):
    file = drive.data / "08" / "poses.txt"
    poses = np.loadtxt(file)
    poses[3:, 3] += 1e5
    np.savetxt(file, poses)
    run(drive, "--sequence", "08", "--past_scans", 3)
    assert [set(shown[0].read(number).age) for number in (2, 3)] == [{0}, {0, 1}]
