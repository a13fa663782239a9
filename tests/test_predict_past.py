"""predict.py with poses, end to end: each scan is labelled with those before it."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import main as main_program
import predict
from dataloader.inputs import OpenFiles
from dataloader.last_read import LastRead
from tests.support.bags import message, write_bag
from tests.support.checkpoints import small_config, write_checkpoint
from tests.support.demo import TINY
from tests.support.pictures import leave_out_pictures
from tools.demo_world import semantickitti
from utils.command.process import run_program
from utils.paths import REPOSITORY

FRAMES = 5
NAMES = [f"{number:06d}" for number in range(FRAMES)]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    config = small_config(config=REPOSITORY / "config" / "SPVCNN-multiscan-demo.yaml")
    return write_checkpoint(tmp_path_factory.mktemp("checkpoint") / "multiscan.ckpt", config)


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("tree") / "sequences"
    semantickitti.write_tree(folder, replace(TINY, train_frames=1, val_frames=FRAMES))
    return folder


@pytest.fixture
def drive(tree, tmp_path, monkeypatch) -> Path:
    """The folder `drive` with sequence 08, which is the current one's child."""
    monkeypatch.chdir(tmp_path)
    leave_out_pictures(monkeypatch)
    return Path(shutil.copytree(tree / "08", "drive"))


def run(checkpoint: Path, *arguments: str | Path) -> int:
    command = ["--checkpoint", str(checkpoint), "--fit", "off", *map(str, arguments)]
    command += [] if "--cpu" in arguments else ["--cpu"]
    return run_program(lambda: predict.main([*command, "--columns", "x,y,z,i"]))


def labels(folder: str | Path) -> dict[str, bytes]:
    """Content of the label files of a folder, by the names of the scans."""
    return {path.stem: path.read_bytes() for path in Path(folder).rglob("*.label")}


def error_of(capsys) -> str:
    return capsys.readouterr().err.strip().splitlines()[-1]


def test_labels_are_those_of_a_test_with_a_gap(checkpoint, tree, drive, capsys):
    (drive / "velodyne" / "000002.bin").unlink()
    assert run(checkpoint, drive / "velodyne", "--poses", drive / "poses.txt", "--output", "out") == 0
    said = capsys.readouterr().out
    assert "5 poses for drive/velodyne/*.bin, one for each number from 0 on" in said and "Tr of drive/calib.txt" in said
    whole = Path(shutil.copytree(tree, "sequences"))
    shutil.rmtree(whole / "08")
    shutil.copytree(drive, whole / "08")
    (whole / "08" / "labels" / "000002.label").unlink()
    settings = [f"dataset_params.val_data_loader.data_path={whole}", "dataset_params.val_data_loader.num_workers=0"]
    command = ["--checkpoint", str(checkpoint), "--cpu", "--test", "--save_prediction", "--set", *settings]
    assert run_program(lambda: main_program.main(command)) == 0
    (tested,) = Path("logs").glob("*/*/test_*/predictions")
    assert labels("out") == labels(tested) and sorted(labels(tested)) == ["000000", "000001", "000003", "000004"]
    # Without the past it is something else, but for the first scan; that it is none here is said once.
    capsys.readouterr()
    assert run(checkpoint, drive / "velodyne", "--output", "alone") == 0
    said = capsys.readouterr().out
    assert said.count("trained with the 2 scans before each") == 1 and "--poses drive/poses.txt" in said
    assert run(checkpoint, drive / "velodyne", "--past_scans", "0", "--output", "none") == 0
    assert "trained with" not in capsys.readouterr().out and labels("none") == labels("alone")
    assert [name for name in labels("out") if labels("out")[name] == labels("alone")[name]] == ["000000"]


def test_a_second_run_does_what_has_changed(checkpoint, drive, capsys):
    command = [drive / "velodyne", "--poses", drive / "poses.txt", "--output", "out"]

    def labelled(*flags: str) -> set[str]:
        before = {path: path.stat().st_mtime_ns for path in Path("out").rglob("*.label")}
        assert run(checkpoint, *command, *flags) == 0
        return {path.stem for path in Path("out").rglob("*.label") if path.stat().st_mtime_ns != before.get(path)}

    assert labelled() == set(NAMES) and labelled() == set() == labelled("--past_scans", "2")
    whole = labels("out")
    Path("out/velodyne/000003.label").unlink()
    assert labelled() == {"000003"} and labels("out") == whole
    # Poses that say something else are another input, for the scans that they are about.
    lines = (drive / "poses.txt").read_text().splitlines()
    numbers = lines[1].split()
    (drive / "poses.txt").write_text("\n".join([lines[0], " ".join([*numbers[:-1], "1.5"]), *lines[2:]]))
    assert labelled() == {"000001", "000002", "000003"}
    (drive / "poses.txt").write_text("\n".join(lines))
    assert labelled() == {"000001", "000002", "000003"} and labels("out") == whole
    # So is a past scan that is another one, or has gone.
    os.utime(drive / "velodyne" / "000003.bin", (1, 1))
    assert labelled() == {"000003", "000004"}
    (drive / "velodyne" / "000000.bin").unlink()
    assert labelled() == {"000001", "000002"}
    for flags in (["--past_scans", "1"], ["--past_scans", "0"]):
        assert run(checkpoint, *command, *flags) == 2
        assert "made with another past_scans; give --overwrite" in error_of(capsys)
    assert run(checkpoint, *command[:1], "--output", "out") == 2
    assert "made with another past_scans" in error_of(capsys)


def test_several_processes_make_what_one_makes_which_reads_each_file_once(checkpoint, drive, monkeypatch):
    read, asked = OpenFiles.read, []

    def counting(files: OpenFiles, scan):
        asked.append(Path(scan.location).stem)
        return read(files, scan)

    monkeypatch.setattr(OpenFiles, "read", counting)
    flags = ["--poses", drive / "poses.txt", "--confidence"]
    assert run(checkpoint, drive / "velodyne", *flags, "--output", "one") == 0
    assert sorted(asked) == NAMES
    asked.clear()

    caches: list[LastRead] = []

    def in_turn(devices, work):
        found = []
        for rank in range(devices.count):
            caches[0] = LastRead(caches[0]._read, caches[0]._most)  # each process has one of its own
            found.append(work(torch.device("cpu"), rank, devices.count))
        return found

    def last_read(read, most: int):
        caches.append(LastRead(read, most))
        return lambda scan: caches[0](scan)

    monkeypatch.setattr("network.training.sharing.share_out", in_turn)
    monkeypatch.setattr(predict, "LastRead", last_read)
    assert run(checkpoint, drive / "velodyne", *flags, "--cpu", "2", "--output", "two") == 0
    assert sorted(asked) == sorted([*NAMES, "000000", "000001"])  # the past of the first scan of the second process
    assert labels("one") == labels("two") and len(labels("two")) == FRAMES
    assert json.loads(Path("two/summary.json").read_text())["labelled"] == FRAMES


def test_bags_and_folders_side_by_side(checkpoint, drive):
    scans = [np.fromfile(path, "<f4").reshape(-1, 4) for path in sorted((drive / "velodyne").iterdir())]
    Path("other").mkdir()
    for number, points in enumerate(scans[1:4]):
        np.save(f"other/scan_{number + 8}.npy", points)
    Path("made").mkdir()
    write_bag(Path("made"), "mcap alone", {"/points": [message(points, ros1=False) for points in scans]})
    (bag,) = (path.rename("recorded.mcap") for path in Path("made").iterdir())
    lines = (drive / "poses.txt").read_text().splitlines()
    Path("other.txt").write_text("\n".join(lines[1:4]))
    shutil.copy(drive / "calib.txt", ".")
    inputs = [drive / "velodyne", "other", bag]
    poses = [
        text for file in (drive / "poses.txt", "other.txt", drive / "poses.txt") for text in ("--poses", str(file))
    ]
    assert run(checkpoint, *inputs, *poses, "--output", "out") == 0
    expected = labels("out/velodyne")
    assert list(labels(f"out/{bag.stem}").values()) and labels(f"out/{bag.stem}") == expected
    others = labels("out/other")
    assert others["scan_10"] == expected["000003"] and others["scan_9"] != expected["000002"]  # it lacks the first one
    # The name of the file alone is that in or beside each folder; a file of poses in it is no scan.
    shutil.move("other.txt", "other/poses.txt")
    shutil.copy("calib.txt", "other")
    assert run(checkpoint, drive / "velodyne", "other", "--poses", "poses.txt", "--output", "again") == 0
    assert labels("again/velodyne") == expected and labels("again/other") == others


def test_a_past_scan_that_cannot_be_read_is_a_gap(checkpoint, drive, capsys):
    (drive / "velodyne" / "000002.bin").write_bytes(b"123")
    command = [drive / "velodyne", "--poses", drive / "poses.txt", "--output"]
    assert run(checkpoint, *command, "damaged") == 2
    assert capsys.readouterr().err.count("error: drive/velodyne/000002.bin") == 1
    (drive / "velodyne" / "000002.bin").unlink()
    assert run(checkpoint, *command, "gone") == 0
    assert labels("damaged") == labels("gone") and len(labels("gone")) == 4


def test_a_sequence_of_one(checkpoint, drive):
    one = drive / "velodyne" / "000003.bin"
    assert run(checkpoint, one, "--poses", drive / "poses.txt", "--output", "one") == 0
    assert run(checkpoint, one, "--output", "alone") == 0
    assert labels("one") == labels("alone") and len(labels("one")) == 1


def test_a_scan_whose_past_is_not_among_the_inputs_is_said_to_have_none(checkpoint, drive, capsys):
    one = drive / "velodyne" / "000003.bin"
    assert run(checkpoint, one, "--poses", drive / "poses.txt", "--output", "one") == 0
    assert "none of these scans has a past" in capsys.readouterr().out
    assert run(checkpoint, drive / "velodyne" / "000002.bin", one, "--poses", "poses.txt", "--output", "two") == 0
    assert "none of these scans has a past" not in capsys.readouterr().out


def test_poses_are_in_the_unit_of_the_scans(checkpoint, drive):
    """In millimetres, the poses of the LiDAR itself."""
    last = [0, 0, 0, 1]
    numbers = (drive / "calib.txt").read_text().split("Tr:")[1].split()[:12]
    calibration = np.vstack([np.array(numbers, float).reshape(3, 4), last])
    lines = []
    for line in (drive / "poses.txt").read_text().splitlines():
        pose = np.vstack([np.array(line.split(), float).reshape(3, 4), last])
        pose = np.linalg.inv(calibration) @ pose @ calibration
        pose[:3, 3] *= 1000
        lines.append(" ".join(map(repr, pose[:3].ravel().tolist())))
    Path("mm").mkdir()
    Path("mm/poses.txt").write_text("\n".join(lines))
    for path in (drive / "velodyne").iterdir():
        points = np.fromfile(path, "<f4").reshape(-1, 4).astype(np.float64)
        np.save(f"mm/{path.stem}.npy", points * [1000, 1000, 1000, 1])
    assert run(checkpoint, drive / "velodyne", "--poses", drive / "poses.txt", "--output", "m") == 0
    assert run(checkpoint, "mm", "--poses", "poses.txt", "--length_scale", "1/1000", "--output", "mm_out") == 0
    for name, content in labels("m").items():
        other = np.frombuffer(labels("mm_out")[name], "<u4")
        assert (other == np.frombuffer(content, "<u4")).mean() > 0.99


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["--past_scans", "2"], "--past_scans 2 goes with --poses"),
        (["--times", "times.txt"], "--times goes with --poses"),
        (["--poses", "none.txt"], "--poses none.txt: there is no such file here, nor in the folder of"),
        (["--poses", "x/none.txt"], "x/none.txt: cannot read the poses"),
        (["--poses", "drive/calib.txt"], "drive/calib.txt: line 1 has 13 numbers"),
        (["--poses", "drive/poses.txt", "--times", "drive/poses.txt"], "has learned ages in scans"),
        (["--poses", "drive/poses.txt", "--poses", "drive/poses.txt"], "--poses names 2 files"),
        (["--poses", "cut.txt"], "cut.txt: has 3 poses, and there are 5 scans"),
    ],
)
def test_what_does_not_go_is_one_line(checkpoint, drive, capsys, arguments, said):
    Path("cut.txt").write_text("\n".join((drive / "poses.txt").read_text().splitlines()[:3]))
    assert run(checkpoint, drive / "velodyne", "--output", "out", *arguments) == 2
    error = error_of(capsys)
    assert error.startswith("error: ") and said in error and not Path("out").exists()


def test_networks_of_single_scans_refuse_poses(drive, tmp_path, capsys):
    single = write_checkpoint(tmp_path / "single.ckpt", small_config())
    flags = [drive / "velodyne", "--output", "out", "--poses", drive / "poses.txt"]
    assert run(single, *flags) == 2
    assert "--poses: the network was trained on single scans" in error_of(capsys)
    assert run(single, *flags, "--past_scans", "0") == 0
