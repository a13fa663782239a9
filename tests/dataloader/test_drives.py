"""Drives: which scans are the past of which, by their names and the poses."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from dataloader.drives import Drives, find_drives, poses_nearby
from dataloader.formats.open import Layout
from dataloader.inputs import InputScan, OpenFiles, find_inputs
from dataloader.last_read import LastRead
from tests.support.networks import refusal
from utils import locations
from utils.scan.point_cloud import PointCloud
from utils.scan.trajectory import Ages


@pytest.fixture(autouse=True)
def in_its_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def write_scans(folder: str, *names: str) -> None:
    Path(folder).mkdir(parents=True, exist_ok=True)
    for name in names:
        np.save(f"{folder}/{name}.npy", np.ones((3, 4), np.float32))


def write_poses(path: str, count: int, start: int = 0, tum: bool = False) -> str:
    """Poses along x, one metre apart."""
    line = "{1} {0} 0 0 0 0 0 1" if tum else "1 0 0 {0} 0 1 0 0 0 0 1 0"
    Path(path).write_text("\n".join(line.format(start + row, 0.5 * row + 1) for row in range(count)))
    return path


def find(
    *inputs: str, poses=("poses.txt",), times=(), most=2, ages: Ages = "scans"
) -> tuple[Drives, tuple[InputScan, ...]]:
    scans = find_inputs(inputs, OpenFiles(Layout())).scans
    said: list[str] = []
    drives = find_drives(scans, poses, times, most, ages, said.append)
    assert said and all(line.isprintable() for line in said)
    return drives, scans


def past(*inputs: str, **options) -> dict[str, list[tuple[str, float, float]]]:
    """Name of each scan -> names of its past, how far back along x each lies, and how old it is."""
    drives, scans = find(*inputs, **options)
    return {
        Path(scan.location).stem: [
            (Path(one.scan.location).stem, -float(one.motion[0, 3]), one.age) for one in drives.past(scan)
        ]
        for scan in scans
    }


def test_a_gap_is_a_gap_and_nothing_comes_twice_or_from_the_future():
    write_scans("drive", "000000", "000001", "000002", "000004", "000007", "copy")
    write_poses("poses.txt", 8)
    assert past("drive") == {
        "000000": [],
        "000001": [("000000", 1, 1)],
        "000002": [("000001", 1, 1), ("000000", 2, 2)],
        "000004": [("000002", 2, 2)],
        "000007": [],
        "copy": [],  # beside scans that are called by numbers, it has none
    }
    assert past("drive/000002.npy", "drive/000004.npy", "drive/000002.npy") == {
        "000002": [], "000004": [("000002", 2, 2)],
    }  # fmt: skip
    write_poses("poses.txt", 5)  # one for each scan that has a number
    assert past("drive")["000004"] == [("000002", 1, 2)]


@pytest.mark.parametrize("name", ["scan_{}_top", "{}", "17{:08d}"])
def test_names_with_numbers_are_in_their_order(name):
    names = [name.format(number) for number in range(12)]
    write_scans("drive", *names)
    write_poses("poses.txt", 12)
    found = past("drive")
    assert found[names[11]] == [(names[10], 1, 1), (names[9], 2, 2)] and found[names[0]] == []
    drives, scans = find("drive")
    assert [Path(scan.location).stem for scan in drives.ordered(scans)] == names


def test_drives_are_apart_and_each_has_its_poses():
    for folder in "ab":
        write_scans(f"{folder}/scans", "000000", "000001")
    write_scans("a/scans/more", "000002")
    write_poses("a/poses.txt", 2)
    write_poses("b/scans/poses.txt", 2, start=5)
    write_poses("c.txt", 1)
    drives, scans = find("a", "b", poses=["a/poses.txt", "c.txt", "b/scans/poses.txt"])
    listed = {scan.target: [one.scan.target for one in drives.past(scan)] for scan in scans}
    assert listed == {
        "a/scans/000000": [], "a/scans/000001": ["a/scans/000000"], "a/scans/more/000002": [],
        "b/scans/000000": [], "b/scans/000001": ["b/scans/000000"],
    }  # fmt: skip
    assert len(find("a/scans/*.npy", "b")[0].past(scans[1])) == 1  # by name, beside or in the folder
    scans = find_inputs(["a", "b"], OpenFiles(Layout())).scans
    assert "names 2 files, and the scans are of 3 drives (a/scans/*.npy, " in refusal(
        find_drives, scans, ["a/poses.txt", "c.txt"], (), 2, "scans", print
    )
    Path("b/scans/poses.txt").unlink()
    assert "nor in the folder of b/scans/*.npy or beside" in refusal(
        find_drives,
        find_inputs(["a/scans/*.npy", "b"], OpenFiles(Layout())).scans,
        ["poses.txt"],
        (),
        2,
        "scans",
        print,
    )


def test_poses_of_the_camera_are_brought_to_the_lidar():
    """The car drives along z of its camera, which is x of the LiDAR."""
    write_scans("drive", "000000", "000001")
    Path("poses.txt").write_text("1 0 0 0 0 1 0 0 0 0 1 0\n1 0 0 0 0 1 0 0 0 0 1 2.5\n")
    Path("calib.txt").write_text("Tr: 0 -1 0 0.1 0 0 -1 0.2 1 0 0 0.3\n")
    assert past("drive")["000001"] == [("000000", 2.5, 1)]
    Path("calib.txt").write_text("Tr: 0 -1 0 0.1 0 0 -1 0.2 1 0 0.05 0.3\n")
    scans = find_inputs(["drive"], OpenFiles(Layout())).scans
    assert "calib.txt: key Tr holds no rotation" in refusal(find_drives, scans, ["poses.txt"], (), 2, "scans", print)
    write_poses("poses.txt", 2, tum=True)  # the sensor's own, whatever lies beside them
    assert past("drive")["000001"] == [("000000", 1, 1)]


def test_ages_in_seconds_are_of_the_times():
    write_scans("drive", *(f"{number:06d}" for number in (0, 1, 3)))
    write_poses("poses.txt", 4, tum=True)
    assert past("drive", ages="seconds")["000003"] == [("000001", 2, 1.0)]
    write_poses("poses.txt", 4)
    scans = find_inputs(["drive"], OpenFiles(Layout())).scans
    assert "--times" in refusal(find_drives, scans, ["poses.txt"], (), 2, "seconds", print)
    Path("times.txt").write_text("0\n0.125\n0.25\n0.5\n")
    assert past("drive", ages="seconds", times=["times.txt"])["000003"] == [("000001", 2, 0.375)]
    Path("times.txt").write_text("0\n0.125\n0.25\n")
    message = refusal(find_drives, scans, ["poses.txt"], ["times.txt"], 2, "seconds", print)
    assert "times.txt: has 3 times, and poses.txt has 4 poses" in message


@pytest.mark.parametrize("names, lines", [(["000000", "000003"], 3), (["a", "b"], 3), (["a", "b"], 1)])
def test_another_number_of_lines_is_refused(names, lines):
    write_scans("drive", *names)
    write_poses("poses.txt", lines)
    scans = find_inputs(["drive"], OpenFiles(Layout())).scans
    message = refusal(find_drives, scans, ["poses.txt"], (), 2, "scans", print)
    assert f"poses.txt: has {lines} poses, and there are 2 scans, the last is drive/{names[1]}.npy" in message


def test_poses_that_lie_there_are_found():
    write_scans("x/drive", "000000")
    scans = find_inputs(["x/drive"], OpenFiles(Layout())).scans
    assert poses_nearby(scans) is None and poses_nearby([]) is None
    write_poses("x/poses.txt", 1)
    assert poses_nearby(scans) == "x/poses.txt"
    write_poses("x/drive/poses.txt", 1)
    assert poses_nearby(scans) == "x/drive/poses.txt"


def test_poses_may_lie_in_a_store():
    for name in ("000000", "000001"):
        write_scans("x", name)
        locations.write(f"memory://drives/a/scans/{name}.npy", Path(f"x/{name}.npy").read_bytes())
    locations.write("memory://drives/a/poses.txt", Path(write_poses("poses.txt", 2)).read_bytes())
    Path("poses.txt").unlink()
    for poses in ("memory://drives/a/poses.txt", "poses.txt"):
        assert past("memory://drives/a/scans", poses=[poses])["000001"] == [("000000", 1, 1)]
    locations.write("memory://drives/a/poses.txt", b"1 2 3")
    scans = find_inputs(["memory://drives/a/scans"], OpenFiles(Layout())).scans
    message = refusal(find_drives, scans, ["poses.txt"], (), 2, "scans", print)
    assert message.startswith("memory://drives/a/poses.txt: line 1 has 3 numbers")


def test_clouds_that_are_kept_are_read_once():
    asked: list[str] = []

    def read(scan: InputScan) -> PointCloud:
        asked.append(scan.location)
        if scan.location == "bad":
            raise ValueError("damaged")
        return PointCloud(scan.location, np.ones((1, 3)))

    kept = LastRead(read, 3)
    scans = [InputScan(name, 0, name, "g") for name in "abcd"]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(kept, [*scans[:3]] * 8))
    assert sorted(asked) == ["a", "b", "c"]
    kept(scans[3])
    for scan in scans[::-1]:
        kept(scan)
    assert len(asked) == 5  # the one that was used longest ago had gone
    bad = InputScan("bad", 0, "bad", "g")
    for _ in range(2):
        with pytest.raises(ValueError, match="damaged"):
            kept(bad)
    assert asked.count("bad") == 1
