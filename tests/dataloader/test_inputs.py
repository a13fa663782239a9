"""Which scans a command line names, and where their results go."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from dataloader.formats import npy
from dataloader.formats import open as formats
from dataloader.formats.clouds import OneCloud
from dataloader.formats.open import Layout
from dataloader.inputs import OpenFiles, find_inputs
from utils import locations

POINTS = np.random.default_rng(0).uniform(-9, 9, (30, 3)).astype(np.float32)


def put(*names: str) -> None:
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        suffix = Path(name).suffix.lower()
        if suffix == ".npy":
            np.save(name, POINTS)
        elif suffix in (".txt", ".csv"):
            np.savetxt(name, POINTS)
        else:
            np.column_stack([POINTS, POINTS[:, 0]]).astype("<f4").tofile(name)


def found(*arguments: str, is_result=lambda location: False):
    return find_inputs(arguments, OpenFiles(Layout()), is_result)


def targets(*arguments: str, is_result=lambda location: False) -> list[str]:
    inputs = found(*arguments, is_result=is_result)
    assert not inputs.problems
    return [scan.target for scan in inputs.scans]


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_files_are_called_by_their_names_and_folders_are_mirrored():
    put("a.bin", "far/b.npy", "drive/10.bin", "drive/9.bin", "drive/left/9.bin", "drive/.hidden.bin", "drive/9.label")
    assert targets("a.bin", "far/b.npy", "drive") == ["a", "b", "drive/10", "drive/9", "drive/left/9"]
    assert targets("./drive/", "a.bin", "drive/9.bin", "drive") == ["drive/10", "drive/9", "drive/left/9", "a"]
    assert targets(os.path.abspath("drive/left"), "*.bin") == ["left/9", "a"]
    assert targets("drive/**/*.bin") == ["10", "drive/9", "left/9"]


@pytest.mark.parametrize(
    "names, expected",
    [
        (("a.bin", "a.npy"), ["a.bin", "a.npy"]),
        (("x/a.bin", "y/a.bin", "b.bin"), ["x/a", "y/a", "b"]),
        (("x/a.bin", "y/a.bin", "y/a.npy"), ["x/a", "y/a.bin", "y/a.npy"]),
        (("p/x/a.bin", "q/x/a.bin"), ["p/x/a", "q/x/a"]),
        (("a.bin", "A.bin"), ["a.bin", "A.bin-2"]),
        (("a.bin", "a.confidence.bin"), ["a", "a.confidence.bin"]),
    ],
)
def test_no_two_scans_have_the_same_name(names, expected):
    put(*names)
    assert targets(*names) == expected


@pytest.mark.parametrize("folder", ["a.label", "A.ply", "a.json", "a.confidence.npy"])
def test_no_result_has_the_name_of_a_folder(folder):
    put("a.bin", f"{folder}/x.bin")
    assert targets("a.bin", folder) == ["a-2", f"{folder}/x"]


def test_every_name_of_a_result_can_be_written():
    long, wide = "n" * 251, "\u8f66" * 83
    put(f"{long}.bin", f"{wide}.bin", f"d/{long[1:]}0.bin", "summary.json/x.bin", ".predict/y.bin")
    found = targets(f"{long}.bin", f"{wide}.bin", "d", "summary.json", ".predict")
    assert found[3:] == ["scans/summary.json/x", "scans/.predict/y"] and len(set(found)) == 5
    for target in found:
        locations.write(locations.join("out", f"{target}.confidence.npy"), b"x")
        locations.write(locations.join("out", f".predict/{target}.json"), b"x")
    locations.write(locations.join("out", "summary.json"), b"x")
    assert found[0].startswith("n" * 150) and found[1].startswith("\u8f66" * 50)


def test_numbers_that_tell_scans_apart_are_no_names_of_others():
    put("A.bin", "a.bin", "a.bin-2.npy")
    assert len({target.lower() for target in targets("A.bin", "a.bin", "a.bin-2.npy")}) == 3


def test_ways_up_lead_to_the_file_that_they_name():
    put("c.bin", "b/c.bin", "far/deep/d.bin")
    assert len(targets("b/../c.bin", "b/c.bin")) == 2
    assert targets("b/../c.bin", "c.bin", "./b/../b/../c.bin") == ["c"]
    Path("link").symlink_to(Path("far/deep").absolute())
    put("far/c.bin")
    assert len(targets("c.bin", "link/../c.bin")) == 2  # the system follows the link first


def test_a_scan_is_the_same_from_whatever_folder_it_is_named(monkeypatch):
    put("one/a.npy", "two/a.npy")
    whole = found(os.path.abspath("one/a.npy")).scans[0].source
    sources = []
    for folder in ("one", "two"):
        with monkeypatch.context() as inside:
            inside.chdir(folder)
            sources.append(found("a.npy").scans[0].source)
    assert sources[0] == whole != sources[1]


def test_a_name_with_a_dot_or_a_slash_is_no_pattern():
    Path("empty").mkdir()
    put("a.foo")
    assert [scan.location for scan in found("./a.foo").scans] == ["a.foo"]
    for name in ("./empty", "empty/", "./empty/"):
        assert "no point files in the folder" in found(name).problems[0]


def test_two_folders_of_one_name_are_told_apart():
    put("one/lidar/1.bin", "one/lidar/2.bin", "two/lidar/1.bin")
    found = targets("one/lidar", "two/lidar")
    assert len(set(found)) == 3 and {"one/lidar/1", "two/lidar/1"} <= set(found)


def test_many_names_never_clash(tmp_path):
    rng = np.random.default_rng(1)
    folders = ["/".join(rng.choice(["a", "b"], rng.integers(0, 4))) for _ in range(200)]
    names = {f"{folder}/{rng.choice(['1', '2'])}{rng.choice(['.bin', '.npy'])}" for folder in folders}
    put(*(name.lstrip("/") for name in names))
    for arguments in ([*sorted(name.lstrip("/") for name in names)], ["a", "b", "."], [".", "a/b"]):
        found = targets(*arguments)
        assert len({target.lower() for target in found}) == len(found) == len(names)


def test_tables_of_text_count_only_where_nothing_else_does():
    put("kitti/velodyne/0.bin", "kitti/poses.txt", "texts/1.txt", "texts/2.csv")
    assert targets("kitti") == ["kitti/velodyne/0"]
    assert targets("texts") == ["texts/1", "texts/2"]
    assert targets("kitti/poses.txt") == ["poses"]


def test_results_are_no_input():
    put("drive/1.bin", "drive/2.npy", "drive/out/1.npy")
    assert targets("drive", is_result=lambda location: "/out/" in location) == ["drive/1", "drive/2"]


def test_links_to_folders_are_followed_but_not_in_a_circle():
    put("real/1.bin", "drive/2.bin")
    Path("drive/link").symlink_to(Path("real").absolute())
    Path("drive/loop").symlink_to(Path("drive").absolute())
    assert targets("drive") == ["drive/2", "drive/link/1"]


@pytest.mark.parametrize("argument", ["nothing.bin", "no*.bin", "empty", "/none/at/all"])
def test_what_names_nothing_is_a_problem_and_the_others_go_on(argument):
    Path("empty").mkdir()
    put("a.bin")
    inputs = found(argument, "a.bin")
    assert [scan.target for scan in inputs.scans] == ["a"] and len(inputs.problems) == 1
    assert inputs.problems[0].startswith(argument)


def test_scans_at_urls():
    put("a.npy")
    for name in ("d/1.npy", "d/e/2.npy", "other/1.npy"):
        locations.write(f"memory://scans/{name}", Path("a.npy").read_bytes())
    files = OpenFiles(Layout())
    inputs = find_inputs(["memory://scans/d", "memory://scans/other/*.npy", "a.npy"], files)
    assert not inputs.problems
    assert [scan.target for scan in inputs.scans] == ["d/1", "d/e/2", "1", "a"]
    for scan in inputs.scans:
        cloud = files.read(scan)
        assert np.array_equal(cloud.xyz, POINTS) and cloud.name == scan.location
    inputs = find_inputs(["memory://scans/none"], files)
    assert not inputs.scans and "memory://scans/none" in inputs.problems[0]


def test_a_damaged_file_at_a_url_is_named_by_its_url():
    locations.write("memory://bad/x.npy", b"\x93NUMPY nothing")
    files = OpenFiles(Layout())
    (scan,) = find_inputs(["memory://bad/x.npy"], files).scans
    with pytest.raises(Exception, match=r"memory://bad/x\.npy") as caught:
        files.read(scan)
    assert "/tmp" not in str(caught.value)


def test_a_file_is_not_closed_while_it_is_read(monkeypatch):
    put("a.npy")
    names = [f"memory://busy/{number}.npy" for number in range(7)]
    for name in names:
        locations.write(name, Path("a.npy").read_bytes())
    files, read, once = OpenFiles(Layout()), npy.read_npy, []
    scans = find_inputs(names, files).scans

    def slow(path, layout):
        if path.name == "0.npy":
            once.append(path)
            for other in scans[1:]:  # as other threads would
                files.read(other)
        return read(path, layout)

    monkeypatch.setitem(formats.OPENERS, ".npy", lambda path, layout, beside: OneCloud(path, layout, slow))
    assert np.array_equal(files.read(scans[0]).xyz, POINTS)
    files.read(scans[1])
    assert len(once) == 1 and not once[0].exists()  # it goes when others have taken its place


def test_what_is_compared_with_the_training_together():
    put(*(f"drive/{number}.bin" for number in range(9)), "drive/9.npy", "a.bin", "b.bin", "a.npy")
    groups = [scan.group for scan in found("drive", "a.bin", "b.bin", "a.npy").scans]
    assert groups == ["drive/*.bin"] * 9 + ["drive/*.npy", "a.bin", "b.bin", "a.npy"]
    assert {scan.group for scan in found(*(f"drive/{number}.bin" for number in range(9))).scans} == {"drive/*.bin"}
