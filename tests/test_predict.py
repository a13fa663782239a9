"""predict.py, end to end: files of any format in, labels out."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import laspy
import numpy as np
import plyfile
import pytest

import main as main_program
import predict
from tests.conftest import ROOT
from tests.support.checkpoints import small_config, write_checkpoint
from tests.support.demo import kitti_points
from tests.support.point_files import write_every_format
from utils import locations
from utils.command.process import run_program
from utils.scan.records import Frame, Scan, no_pixels
from utils.scan.sensor import SEMANTICKITTI
from utils.scan.statistics import measure


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("predict") / "best.ckpt", small_config())


@pytest.fixture
def scans(demo_trees, tmp_path, monkeypatch) -> Path:
    """A folder `drive` with two scans, which is the current one's child."""
    monkeypatch.chdir(tmp_path)
    Path("drive").mkdir()
    for path in (demo_trees["SemanticKITTI"] / "00" / "velodyne").iterdir():
        points = points_of(path)
        # A size that fits five columns, too, would be asked about.
        points[: len(points) // 5 * 5 - 1].tofile(Path("drive", path.name))
    return Path("drive")


def run(checkpoint: Path, *arguments: str | Path) -> int:
    command = ["--checkpoint", str(checkpoint), "--cpu", "--fit", "off", *map(str, arguments)]
    return run_program(lambda: predict.main(command))


def labels(path: str | Path) -> np.ndarray:
    return np.fromfile(path, "<u4")


def points_of(path: Path) -> np.ndarray:
    return np.fromfile(path, "<f4").reshape(-1, 4)


def test_labels_are_those_of_a_test_whatever_the_format(checkpoint, scans, demo_trees):
    points = points_of(scans / "000000.bin")
    points[:, 3] = np.round(points[:, 3] * 65535) / 65535  # .las has no others
    Path("all").mkdir()
    paths = write_every_format(Path("all"), points)
    assert run(checkpoint, *paths, "--output", "out") == 0
    assert run(checkpoint, *Path("all").glob("survey.*"), "--output", "maps", "--intensity_scale", "1/65535") == 0
    files = [path for path in Path("out").rglob("*.label") if "survey" not in path.name]
    expected = labels("out/kitti.label")
    assert len(files) == len(paths) - 2 and len(set(expected.tolist())) > 1
    for path in (*files, "maps/survey.las.label", "maps/survey.laz.label"):
        assert np.array_equal(labels(path), expected), path

    tree = Path(shutil.copytree(demo_trees["SemanticKITTI"], "sequences"))
    arguments = ["--checkpoint", str(checkpoint), "--cpu", "--test", "--save_prediction", "--set"]
    settings = [f"dataset_params.val_data_loader.data_path={tree}", "dataset_params.val_data_loader.num_workers=0"]
    assert run_program(lambda: main_program.main([*arguments, *settings])) == 0
    (tested,) = Path("logs").glob("*/*/test_*/predictions/sequences/08/predictions/000000.label")
    assert run(checkpoint, tree / "08" / "velodyne" / "000000.bin", "--output", "again", "--columns", "x,y,z,i") == 0
    assert np.array_equal(labels("again/000000.label"), labels(tested)) and len(set(labels(tested).tolist())) > 1


def test_all_formats_at_once_and_a_summary(checkpoint, scans, capsys):
    formats = ("label", "npy", "ply", "las")
    assert run(checkpoint, scans, "--output", "out", "--format", *formats, "--confidence") == 0
    for name in ("000000", "000001"):
        points, ids = points_of(scans / f"{name}.bin"), labels(f"out/drive/{name}.label")
        confidence = np.load(f"out/drive/{name}.confidence.npy")
        assert len(points) == len(ids) == len(confidence) and confidence.max() <= 1
        inside = ((points[:, :3] > [-50, -50, -4]) & (points[:, :3] < [50, 50, 2])).all(axis=1)
        assert np.array_equal(confidence > 0, inside)
        assert np.array_equal(np.load(f"out/drive/{name}.npy"), ids)
        vertex = plyfile.PlyData.read(f"out/drive/{name}.ply")["vertex"]
        assert np.array_equal(vertex["label"], ids) and np.array_equal(vertex["confidence"], confidence)
        assert np.array_equal(np.stack([vertex[axis] for axis in "xyz"], 1), points[:, :3])
        las = laspy.read(f"out/drive/{name}.las")
        assert np.array_equal(las["label"], ids) and np.array_equal(las["confidence"], confidence)
        assert np.abs(las.xyz - points[:, :3]).max() < 1e-4
    summary = json.loads(Path("out/summary.json").read_text())
    assert summary["scans"] == summary["labelled"] == 2 and summary["problems"] == []
    total = sum(len(labels(path)) for path in Path("out/drive").glob("*.label"))
    assert summary["points"] == total == sum(summary["classes"].values())
    assert "2 of 2 scans labelled" in capsys.readouterr().out
    assert not list(Path("out").rglob("*.partial"))


def test_a_second_run_does_what_is_missing(checkpoint, scans, capsys):
    assert run(checkpoint, scans, "--output", "out") == 0
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in Path("out").rglob("*.label")}
    Path("out/drive/000001.label").unlink()
    capsys.readouterr()
    assert run(checkpoint, scans, "--output", "out") == 0
    assert "1 of 2 scans labelled" in capsys.readouterr().out
    first = Path("out/drive/000000.label")
    assert first.stat().st_mtime_ns == before[first][0]
    assert all(path.read_bytes() == content for path, (_, content) in before.items())
    # Another way to make them is refused, and nothing changes; --overwrite takes it.
    assert run(checkpoint, scans, "--output", "out", "--num_vote", "2") == 2
    assert "another num_vote; give --overwrite" in capsys.readouterr().err
    assert first.read_bytes() == before[first][1]
    assert run(checkpoint, scans, "--output", "out", "--num_vote", "2", "--overwrite") == 0
    assert first.stat().st_mtime_ns != before[first][0]


def test_bad_files_are_named_and_the_others_go_on(checkpoint, scans, capsys):
    Path("drive/cut.bin").write_bytes(b"\0" * 37)
    Path("drive/empty.npy").write_bytes(b"")
    nothing = np.full((40, 4), np.nan, np.float32)
    np.save("drive/nothing.npy", nothing)
    far = points_of(scans / "000000.bin") + np.array([1e4, 0, 0, 0], np.float32)
    np.save("drive/far.npy", far)
    assert run(checkpoint, "nowhere.bin", scans, "--output", "out") == 2
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    lines = captured.err.strip().splitlines()
    for name in ("nowhere.bin", "cut.bin", "empty.npy", "nothing.npy", "far.npy"):
        assert sum(name in line for line in lines[:-1]) == 1, name
    assert "5 of 7 inputs could not be used, as said above: nowhere.bin, drive/cut.bin" in lines[-1] and all(
        line.startswith("error: ") for line in lines
    )
    assert {path.name for path in Path("out").rglob("*.label")} == {"000000.label", "000001.label"}
    assert len(json.loads(Path("out/summary.json").read_text())["problems"]) == 5


def test_points_without_a_return_are_ignored(checkpoint, scans):
    points = points_of(scans / "000000.bin")
    points[::3, :3] = np.nan
    np.save("holes.npy", points)
    np.save("without.npy", points[np.isfinite(points[:, 0])])
    assert run(checkpoint, "holes.npy", "without.npy", "--output", "out", "--format", "label", "las") == 0
    found = labels("out/holes.label")
    assert not found[::3].any()
    assert np.array_equal(found[np.isfinite(points[:, 0])], labels("out/without.label"))


def test_results_beside_the_scans(checkpoint, scans, capsys):
    """They are no scans of the next run, and no scan is written over."""
    for path in list(scans.iterdir()):
        np.save(path.with_suffix(".npy"), points_of(path))
        path.unlink()
    before = {path: path.read_bytes() for path in scans.iterdir()}
    assert run(checkpoint, scans, "--output", ".", "--format", "label", "las", "--confidence") == 0
    assert run(checkpoint, scans, "--output", ".", "--format", "label", "las", "--confidence") == 0
    assert "0 of 2 scans labelled, 2 were done already (--overwrite: again); " in capsys.readouterr().out
    for overwrite in ([], ["--overwrite"]):
        assert run(checkpoint, scans, "--output", ".", "--format", "npy", *overwrite) == 2
        assert "its labels would be written over it" in capsys.readouterr().err
    assert all(path.read_bytes() == content for path, content in before.items())


def test_urls_in_and_out(checkpoint, scans, tmp_path):
    for path in scans.iterdir():
        locations.write(f"memory://in/drive/{path.name}", path.read_bytes())
    assert run(checkpoint, "memory://in/drive", "--output", "memory://out/labels") == 0
    assert run(checkpoint, f"file://{tmp_path}/drive", "--output", f"file://{tmp_path}/there") == 0
    assert run(checkpoint, "drive", "--output", "here") == 0
    for name in ("000000", "000001"):
        expected = Path(f"here/drive/{name}.label").read_bytes()
        assert locations.read(f"memory://out/labels/drive/{name}.label") == expected
        assert Path(f"there/drive/{name}.label").read_bytes() == expected
    assert json.loads(locations.read("memory://out/labels/summary.json"))["labelled"] == 2


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["drive"], "--output"),
        (["drive", "--output", "out", "--dtype", "f8"], "--dtype"),
        (["drive", "--view", "--overwrite"], "--overwrite"),
        (["drive", "--view", "--cpu", "2"], "--view"),
        (["none.bin", "--output", "out"], "nothing to label"),
    ],
)
def test_flags_that_do_not_go_together(checkpoint, scans, capsys, arguments, said):
    assert run(checkpoint, *arguments) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ") and said in error and not Path("out").exists()


def test_several_processes_make_what_one_makes(checkpoint, scans, programs):
    shutil.copy(scans / "000000.bin", scans / "000002.bin")
    Path("drive/bad.bin").write_bytes(b"123")
    assert run(checkpoint, scans, "--output", "one", "--format", "label", "ply", "mcap") == 2
    flags = ("--cpu", 2, "--format", "label", "ply", "mcap", "--fit", "off")
    command = ("--checkpoint", checkpoint, "drive", "--output", "two", *flags)
    both = programs.run_as_torchrun(ROOT / "predict.py", *command)
    said, errors = "".join(done.stdout for done in both), "".join(done.stderr for done in both)
    assert both[0].returncode == 2 and "Traceback" not in errors
    assert said.count("3 of 4 scans labelled") == 1 and errors.count("error: drive/bad.bin") == 1
    for path in Path("one").rglob("*.[lp][al][by]*"):
        assert path.read_bytes() == Path("two", *path.parts[1:]).read_bytes()
    assert Path("one/drive.mcap").read_bytes() == Path("two/drive.mcap").read_bytes()
    one, two = (json.loads(Path(name, "summary.json").read_text()) for name in ("one", "two"))
    assert one["classes"] == two["classes"] and one["problems"] == two["problems"]


@pytest.fixture(scope="module")
def informed(tmp_path_factory) -> Path:
    """A checkpoint that knows its training scans, which are a demo's."""
    records = []
    for frame in (0, 12, 24):
        points = kitti_points(0, frame).astype(np.float32)
        none = np.zeros(len(points), np.int32)
        place = Frame("00", "0", "0"), points[:, :3].copy(), points[:, 3].copy()
        records.append(Scan(*place, none.astype(np.uint8), none, none.astype(np.int64), no_pixels(len(points))))
    statistics = measure(records, 3, 20, SEMANTICKITTI)
    return write_checkpoint(tmp_path_factory.mktemp("informed") / "best.ckpt", small_config(), statistics)


def test_a_scan_that_does_not_fit_is_put_right_by_the_flags_that_are_advised(informed, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    points = kitti_points(1, 4).astype(np.float64)
    np.save("scan.npy", points.astype(np.float32))
    disturbed = np.column_stack([-points[:, 1] + 431234.5, points[:, 0] + 5432100.25, points[:, 2] + 80])
    np.save("map.npy", np.column_stack([disturbed, points[:, 3] * 255]))

    def predict_it(*arguments: str) -> str:
        assert run_program(lambda: predict.main(["--checkpoint", str(informed), "--cpu", *arguments])) == 0
        return capsys.readouterr().out

    assert "warning" not in predict_it("scan.npy", "--output", "out")
    with pytest.raises(AssertionError):  # no point lies inside the volume
        predict_it("map.npy", "--output", "out")
    (line,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("warning: map.npy"))
    advice = line.partition("put it right with ")[2].partition(" (or")[0]
    assert {"--axes", "--center", "--intensity_scale"} <= set(advice.split())
    assert "warning" not in predict_it("map.npy", "--output", "advised", *advice.split())
    # Labels that were written despite a misfit are replaced by what was advised, without --overwrite.
    np.save("bright.npy", np.column_stack([points[:, :3], points[:, 3] * 255]).astype(np.float32))
    assert "warning: bright.npy" in predict_it("bright.npy", "--output", "out")
    assert "warning" not in predict_it("bright.npy", "--output", "out", "--intensity_scale", "1/255")
    assert np.mean(labels("out/bright.label") == labels("out/scan.label")) > 0.99
    said = predict_it("map.npy", "--output", "auto", "--fit", "auto")
    assert f"aligned with {advice}" in said
    expected = labels("out/scan.label")
    for folder in ("advised", "auto"):
        assert np.mean(labels(f"{folder}/map.label") == expected) > 0.95
    assert json.loads(Path("auto/summary.json").read_text())["files"]["map"]["alignment"] == advice
