"""Past scans of SemanticKITTI: which they are, where their points come to lie, and what is refused."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial import KDTree

from dataloader.datasets.semantickitti.frames import frame_numbers
from dataloader.datasets.semantickitti.poses import Track
from dataloader.datasets.semantickitti.source import SemanticKITTI
from tests.support.drives import MULTISCAN, multiscan, place, write_drive
from tests.support.networks import refusal
from tools.demo_world.options import DEFAULTS
from tools.demo_world.semantickitti import FRAME_TIME, _write_geometry, lidar_pose
from tools.demo_world.sensors import lidar
from tools.demo_world.street import world
from tools.demo_world.street.objects import Kind
from utils.labels import LabelMap
from utils.scan.motion import motion_between, move_points
from utils.scan.records import Frame


def opened(root: Path, past_scans: int = 1) -> SemanticKITTI:
    return SemanticKITTI(root, "valid", multiscan(), past_scans=past_scans)


def past_of(source: SemanticKITTI, index: int) -> list[tuple[str, str, float]]:
    return [(sweep.frame.sequence, sweep.frame.name, sweep.age) for sweep in source.past(index)]


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ([0, 1, 2, 3], {0: [], 1: [(0, 1)], 2: [(1, 1), (0, 2)], 3: [(2, 1), (1, 2), (0, 3)]}),
        ([0, 1, 4, 5, 9], {4: [(1, 3)], 5: [(4, 1)], 9: []}),
        ([0, 2, 4, 6], {2: [(0, 2)], 4: [(2, 2)], 6: [(4, 2)]}),  # every second scan
        ([0], {0: []}),
        ([7], {7: []}),
    ],
    ids=["a drive", "gaps", "every second", "one scan", "one scan in the middle"],
)
def test_past_scans_are_those_of_the_numbers_before(tmp_path, numbers, expected) -> None:
    """None twice, none from the future, none of another sequence; a gap is a gap, and an age a difference."""
    write_drive(tmp_path / "08", range(20))
    write_drive(tmp_path / "05", numbers)
    source = SemanticKITTI(tmp_path, "train", multiscan(train=["05"]), past_scans=3)
    for number, wanted in expected.items():
        listed = past_of(source, numbers.index(number))
        assert listed == [("05", f"{other:06d}", age) for other, age in wanted]
    both = SemanticKITTI(tmp_path, "trainval", multiscan(train=["05"]), past_scans=3)
    for index in range(len(both)):
        now = both.frame(index)
        names = [sweep.frame.name for sweep in both.past(index)]
        assert all(sweep.frame.sequence == now.sequence for sweep in both.past(index))
        assert names == sorted(set(names), reverse=True) and all(name < now.name for name in names)


def test_points_that_stand_still_lie_where_they_are_now(tmp_path) -> None:
    """By a Tr that turns every axis, and in sequences of other names, with files called as those of KITTI's raw data.

    The points are the same in all scans, row by row: no nearest neighbour hides a fault.
    """
    name = "2013_05_28_drive_0000_sync"
    write_drive(tmp_path / name, {f"{number:010d}": number for number in range(4)})
    source = SemanticKITTI(tmp_path, "valid", multiscan(valid=[name]), past_scans=2)
    now = source.read(3)
    assert [sweep.age for sweep in source.past(3)] == [1, 2]
    for sweep in source.past(3):
        measured = source.read_past(sweep, with_labels=True)
        moved = sweep.moved(measured)
        assert np.abs(measured.xyz - now.xyz).max() > 1
        assert np.abs(moved.xyz - now.xyz).max() < 3e-5
        assert np.array_equal(moved.labels, now.labels) and np.array_equal(moved.instances, now.instances)
        assert (moved.ages == sweep.age).all()
        assert not source.read_past(sweep, with_labels=False).labels.any()


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["000000", "000002", "000010"], {"000000": 0, "000002": 2, "000010": 10}),
        (["0000000000", "0000000003"], {"0000000000": 0, "0000000003": 3}),
        (["1", "2", "10"], {"1": 1, "2": 2, "10": 10}),
        (["000001", "000003", "copy", "7"], {"000001": 1, "000003": 3}),  # beside KITTI's, others have none
        (["1", "01", "10", "2"], {"01": 0, "1": 1, "2": 2, "10": 3}),  # two have one number: by order
        (["b", "a"], {"a": 0, "b": 1}),
        (["scan_10", "scan_9"], {"scan_9": 0, "scan_10": 1}),
        (["9.75", "10.5", "10.25"], {"9.75": 0, "10.25": 1, "10.5": 2}),
        (["1641634400198845", "999634400198845"], {"999634400198845": 0, "1641634400198845": 1}),
    ],
)  # fmt: skip
def test_numbers_of_scans(names, expected) -> None:
    assert frame_numbers(names) == expected
    assert frame_numbers(names[::-1]) == expected


def test_scans_that_are_called_by_times_go_by_their_order(tmp_path) -> None:
    stamps = {"9.75": 0, "10.25": 1, "10.75": 2}  # as text, 10.25 is the first
    write_drive(tmp_path / "08", stamps)
    source = opened(tmp_path, 5)
    found = {source.frame(index).name: [sweep.frame.name for sweep in source.past(index)] for index in range(3)}
    assert found == {"9.75": [], "10.25": ["9.75"], "10.75": ["10.25", "9.75"]}
    (tmp_path / "08/velodyne/10.25.bin").unlink()  # now it is not plain which line is whose
    message = refusal(opened, tmp_path, 5)
    assert "08/poses.txt: has 3 lines for 2 scans" in message and "10.75" in message


def test_a_scan_without_a_number_beside_others_has_no_past_and_is_none(tmp_path) -> None:
    write_drive(tmp_path / "08", {"000000": 0, "000001": 1, "000001_copy": 1, "000002": 2})
    source = opened(tmp_path, 5)
    found = {source.frame(index).name: [sweep.frame.name for sweep in source.past(index)] for index in range(4)}
    assert found["000001_copy"] == [] and found["000002"] == ["000001", "000000"]


def test_the_test_split_has_past_scans_without_labels(tmp_path) -> None:
    write_drive(tmp_path / "11", range(3), labels=False)
    source = SemanticKITTI(tmp_path, "test", multiscan(), past_scans=2)
    assert past_of(source, 2) == [("11", "000001", 1), ("11", "000000", 2)]
    assert not source.read_past(source.past(2)[0], with_labels=True).labels.any()


def test_without_past_scans_neither_poses_nor_calibration_are_wanted(tmp_path) -> None:
    folder = write_drive(tmp_path / "08", range(2))
    for file in ("poses.txt", "calib.txt"):
        (folder / file).unlink()
    assert SemanticKITTI(tmp_path, "valid", multiscan()).past(1) == ()


def replaced(name: str, text: str | None) -> Callable[[Path], None]:
    """Gives a file another text, or makes a folder of it."""

    def damage(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).mkdir() if text is None else (folder / name).write_text(text)

    return damage


def spoiled(line: int, word: int, text: str) -> Callable[[Path], None]:
    """Changes a word of poses.txt."""

    def damage(folder: Path) -> None:
        lines = [row.split() for row in (folder / "poses.txt").read_text().splitlines()]
        lines[line][word] = text
        (folder / "poses.txt").write_text("\n".join(map(" ".join, lines)))

    return damage


HERE = "1 0 0 0 0 1 0 0 0 0 1 0\n"
FAULTS: dict[str, tuple[Callable[[Path], None], str]] = {
    "no poses": (
        lambda folder: (folder / "poses.txt").unlink(),
        "poses.txt: cannot read the poses (no such file)",
    ),
    "a folder": (replaced("poses.txt", None), "poses.txt: cannot read the poses"),
    "empty": (replaced("poses.txt", "\n \n"), "poses.txt: the file has no poses"),
    "too few": (replaced("poses.txt", HERE * 3), "poses.txt: has 3 lines, but scan 000003 wants line 4"),
    "thirteen": (spoiled(1, 0, "1 0"), "poses.txt: line 2 has 13 numbers"),
    "not finite": (spoiled(2, 3, "nan"), "poses.txt: line 3"),
    "text": (spoiled(0, 5, "one"), "poses.txt: line 1 holds one"),
    "a mirror": (spoiled(0, 10, "-1"), "poses.txt: line 1 holds no rotation"),
    "slanted": (spoiled(0, 1, "0.01"), "poses.txt: line 1 holds no rotation"),
    "no calibration": (lambda folder: (folder / "calib.txt").unlink(), "calib.txt: cannot read the calibration"),
    "calibration a folder": (replaced("calib.txt", None), "calib.txt: cannot read the calibration"),
    "no Tr": (replaced("calib.txt", f"P2: {HERE}"), "calib.txt: key Tr is missing"),
    "Tr slanted": (replaced("calib.txt", "Tr: 1 .02 0 0 0 1 0 0 0 0 1 0"), "calib.txt: key Tr holds no rotation"),
    "Tr mirrors": (replaced("calib.txt", "Tr: 1 0 0 0 0 1 0 0 0 0 -1 0"), "calib.txt: key Tr holds no rotation"),
    "Tr infinite": (replaced("calib.txt", "Tr: 1 0 0 inf 0 1 0 0 0 0 1 0"), "calib.txt: key Tr must hold finite"),
    "Tr far away": (
        replaced("calib.txt", "Tr: 1 0 0 1e12 0 1 0 0 0 0 1 0"),
        "key Tr puts the camera 1e+12 m",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_damaged_geometry_is_one_line_with_the_file(tmp_path, fault) -> None:
    damage, wanted = FAULTS[fault]
    damage(write_drive(tmp_path / "08", range(4)))
    assert wanted in refusal(opened, tmp_path)


def test_windows_lines_comments_and_extra_lines_are_read(tmp_path) -> None:
    folder = write_drive(tmp_path / "08", range(3), lines=6)
    source = opened(tmp_path)
    expected = source.past(2)[0].motion
    poses = "# camera 0\n" + (folder / "poses.txt").read_text() + "\n"
    (folder / "poses.txt").write_bytes(b"\xef\xbb\xbf" + poses.replace("\n", "\r\n").encode())
    again = opened(tmp_path)
    assert np.array_equal(again.past(2)[0].motion, expected)


def test_raw_calibration_and_one_without_images_do(tmp_path) -> None:
    """KITTI's raw files in place of calib.txt, and a calib.txt with nothing but Tr."""
    folder = write_drive(tmp_path / "08", range(2))
    expected = opened(tmp_path).past(1)[0].motion
    transform = next(line for line in (folder / "calib.txt").read_text().splitlines() if line.startswith("Tr"))
    (folder / "calib.txt").write_text(transform)
    only = opened(tmp_path).past(1)[0].motion
    (folder / "calib.txt").unlink()
    tr = np.array(transform.split()[1:], float).reshape(3, 4)
    (folder / "calib_velo_to_cam.txt").write_text(
        f"calib_time: 15-Mar\nR: {' '.join(map(repr, tr[:, :3].ravel().tolist()))}\n"
        f"T: {' '.join(map(repr, tr[:, 3].tolist()))}\n"
    )
    (folder / "calib_cam_to_cam.txt").write_text("R_rect_00: 1 0 0 0 1 0 0 0 1\n")
    raw = opened(tmp_path).past(1)[0].motion
    assert np.array_equal(only, expected) and np.allclose(raw, expected, rtol=0, atol=1e-12)


def test_a_wall_of_the_made_world_is_one_wall_after_a_kilometre(tmp_path) -> None:
    """The plane through a wall as it is seen now holds the points of the same wall of the scans before.

    poses.txt and calib.txt are those that tools/make_demo_data.py writes: numbers as text, of camera 0.
    """
    now, numbers = 640, (638, 639, 640)
    assert now * FRAME_TIME * world.EGO_SPEED > 1000
    options = DEFAULTS["semantickitti"]
    _write_geometry(tmp_path, options, 0, now + 1)
    track = Track.read(tmp_path / "00", [Frame("00", f"{number:06d}", "") for number in numbers])
    street = world.build(options.seed, 0, (now + 1) * FRAME_TIME * world.EGO_SPEED)
    spec = lidar.LidarSpec(beams=24, azimuth_steps=768, range_noise=0, dropout=0, ghosts=0)
    walls = {number: walls_seen(street, number, spec) for number in numbers}
    checked, unmoved = [], []
    for sweep in track.past(Frame("00", f"{now:06d}", ""), 2):
        for wall, points in walls[int(sweep.frame.name)].items():
            moved = move_points(points, sweep.motion)
            poses = (lidar_pose(street, n * FRAME_TIME) for n in (int(sweep.frame.name), now))
            before, after = (
                xyz @ pose[:3, :3].T + pose[:3, 3] for xyz, pose in zip((points, moved), poses, strict=True)
            )
            assert np.abs(before - after).max() < 1e-4  # along the wall, too, at the same place of the world
            here = walls[now].get(wall, np.empty((0, 3)))
            if len(here) < 50:
                continue
            seen_twice = KDTree(here).query(moved)[0] < 0.3  # the same face of a house
            centre = here.mean(axis=0)
            _, size, axes = np.linalg.svd(here - centre, full_matrices=False)
            if seen_twice.sum() > 50 and size[2] < 0.002 * len(here) ** 0.5:  # one face, and no other
                checked.append(np.abs((moved - centre) @ axes[2])[seen_twice].max())
                unmoved.append(np.abs((points - centre) @ axes[2])[seen_twice].max())
    assert len(checked) > 3 and max(checked) < 0.001  # two centimetres are allowed
    assert max(unmoved) > 0.02


def walls_seen(street: world.World, number: int, spec: lidar.LidarSpec) -> dict[tuple[float, ...], np.ndarray]:
    """The points of every wall of a house, by the place of the wall in the world."""
    scene, pose = street.scene(number * FRAME_TIME), lidar_pose(street, number * FRAME_TIME)
    sweep = lidar.sweep(scene, pose, spec, np.random.default_rng(0))
    rows = np.flatnonzero(scene.primitives["kind"] == Kind.BUILDING)
    return {
        tuple(scene.primitives["centre"][row].tolist()): sweep.xyz[sweep.primitive == row]
        for row in rows
        if (sweep.primitive == row).any()
    }


def test_single_precision_would_lose_what_is_kept() -> None:
    """A kilometre from the start, poses composed in single precision are off by more than a hundred times as much."""
    now, past = place(640), place(638)
    now[:3, 3] += 1000
    past[:3, 3] += 1000
    xyz = np.random.default_rng(0).uniform(-50, 50, (100, 3)).astype(np.float32)
    exact = (np.linalg.inv(now) @ past @ np.vstack([xyz.T.astype(np.float64), np.ones(100)]))[:3].T
    narrow = np.linalg.inv(now.astype(np.float32)) @ past.astype(np.float32)
    lost = np.abs(xyz @ narrow[:3, :3].T + narrow[:3, 3] - exact).max()
    assert lost > 30 * np.abs(move_points(xyz, motion_between(past, now)) - exact).max()


REAL = Path(os.environ.get("TWODPASS_REAL_DATA", ""), "00")


@pytest.mark.skipif(
    "TWODPASS_REAL_DATA" not in os.environ or not (REAL / "velodyne/000001.bin").exists(),
    reason="set TWODPASS_REAL_DATA to a sequences folder with scans 000000 and 000001 of sequence 00, and its poses",
)
def test_the_two_real_scans_agree_in_their_classes(tmp_path) -> None:
    """What stands still in scan 1, moved into the frame of scan 0, has the class of its nearest neighbours there."""
    (tmp_path / "00").mkdir()
    for kind in ("velodyne", "labels"):
        (tmp_path / "00" / kind).mkdir()
        for name in (f"00000{number}.{'bin' if kind == 'velodyne' else 'label'}" for number in (0, 1)):
            shutil.copy(REAL / kind / name, tmp_path / "00" / kind)
    for name in ("poses.txt", "calib.txt"):
        shutil.copy(REAL / name, tmp_path / "00")
    source = SemanticKITTI(tmp_path, "train", LabelMap.load(MULTISCAN), past_scans=1)
    first, second = source.read(0), source.read(1)
    (sweep,) = source.past(1)
    forth = sweep.motion  # of scan 0 to scan 1; its inverse leads scan 1 into scan 0
    turned = forth[:, :3].T
    back = np.column_stack([turned, -turned @ forth[:, 3]])
    stands = (second.labels > 0) & (second.labels < 20)
    tree = KDTree(first.xyz[first.labels > 0])
    classes = first.labels[first.labels > 0]

    def agreement(xyz: np.ndarray) -> float:
        return float((classes[tree.query(xyz[stands])[1]] == second.labels[stands]).mean())

    moved, left = agreement(move_points(second.xyz, back)), agreement(second.xyz)
    wrong = agreement(move_points(second.xyz, forth))
    assert moved > 0.9 and moved > left > wrong
    # And as an item has it: scan 0 in the frame of scan 1.
    there = KDTree(sweep.moved(source.read_past(sweep, True)).xyz)
    assert (first.labels[there.query(second.xyz[stands])[1]] == second.labels[stands]).mean() > 0.9
