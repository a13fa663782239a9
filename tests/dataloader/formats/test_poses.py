"""Files of poses and of times."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dataloader.formats.poses import read_poses, read_times, read_trajectory
from tests.support.networks import refusal


def turned(yaw: float, pitch: float, roll: float) -> np.ndarray:
    """The rotation about z, after that about y, after that about x."""
    (ca, sa), (cb, sb), (cc, sc) = ((np.cos(angle), np.sin(angle)) for angle in (yaw, pitch, roll))
    about_z = np.array([[ca, -sa, 0], [sa, ca, 0], [0, 0, 1]])
    about_y = np.array([[cb, 0, sb], [0, 1, 0], [-sb, 0, cb]])
    return about_z @ about_y @ np.array([[1, 0, 0], [0, cc, -sc], [0, sc, cc]])


def some_poses(count: int = 4) -> np.ndarray:
    poses = np.tile(np.eye(4), (count, 1, 1))
    for number, pose in enumerate(poses):
        pose[:3, :3] = turned(2.9 * number, 0.4 * number, -1.1 * number)
        pose[:3, 3] = [1e6 + number, -number, 7.25]
    return poses


def line(pose: np.ndarray) -> str:
    return " ".join(map(repr, pose[:3].reshape(-1).tolist()))


def quaternion(rotation: np.ndarray) -> np.ndarray:
    """x, y, z, w of a rotation: the eigenvector of 1 is the axis, and the trace tells the angle."""
    values, vectors = np.linalg.eig(rotation)
    axis = np.real(vectors[:, np.argmin(np.abs(values - 1))])
    angle = np.arccos(np.clip((np.trace(rotation) - 1) / 2, -1, 1))
    x, y, z = axis
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    sign = np.sign(np.sum(cross * (rotation - rotation.T))) or 1
    return np.append(sign * axis * np.sin(angle / 2), np.cos(angle / 2))


def test_both_forms_hold_the_same_poses(tmp_path):
    poses, times = some_poses(), [1.7e9 + 0.1 * number for number in range(4)]
    kitti, tum = tmp_path / "kitti.txt", tmp_path / "tum.txt"
    kitti.write_text("\n".join(map(line, poses)) + "\r\n\n")
    numbers = [[time, *pose[:3, 3], *quaternion(pose[:3, :3])] for time, pose in zip(times, poses, strict=True)]
    rows = ["# timestamp tx ty tz qx qy qz qw", *(" ".join(map(repr, map(float, row))) for row in numbers)]
    tum.write_text("\ufeff" + "\n".join(rows[1:2] + rows[:1] + rows[2:]), encoding="utf-8")
    found = read_trajectory(kitti)
    assert np.array_equal(found.poses, poses) and found.times is None and np.array_equal(read_poses(kitti), poses)
    found = read_trajectory(tum)
    assert np.allclose(found.poses, poses, atol=1e-7) and found.times is not None and found.times.tolist() == times
    (tmp_path / "times.txt").write_text("0.000000e+00\n1.036224e-01\n2.071e-01\n")
    assert read_times(tmp_path / "times.txt").tolist() == [0, 0.1036224, 0.2071]


GOOD = [line(pose) for pose in some_poses()]
TUM = ["1.0 0 0 0 0 0 0 1", "1.1 0 0 0 0 0 0 1", "1.2 0 0 0 0 0 0 1"]


def with_line(lines: list[str], number: int, changed: str) -> bytes:
    return "\n".join([*lines[: number - 1], changed, *lines[number:]]).encode()


@pytest.mark.parametrize(
    "content, said",
    [
        (b"", "has no poses"),
        (b"# nothing\n\n", "has no poses"),
        (with_line(GOOD, 3, "1 2 3"), "line 3 has 3 numbers"),
        (with_line(GOOD, 2, ""), "line 2 has 0 numbers"),
        (with_line(GOOD, 2, GOOD[0] + " 1"), "line 2 has 13 numbers"),
        (with_line(GOOD, 2, TUM[0]), "line 2 has 8 numbers"),
        (with_line(GOOD, 4, GOOD[3].replace("7.25", "nan")), "line 4 must hold finite numbers"),
        (with_line(GOOD, 4, GOOD[3].replace("7.25", "-inf")), "line 4 must hold finite numbers"),
        (with_line(GOOD, 4, GOOD[3].replace("7.25", "1e300")), "line 4 must hold finite numbers"),
        (with_line(GOOD, 4, GOOD[3].replace("7.25", "1e999")), "line 4 must hold finite numbers"),
        (with_line(GOOD, 4, GOOD[3].replace("7.25", "1_0")), "line 4 holds 1_0"),
        (with_line(GOOD, 1, GOOD[0].replace("7.25", "\x1b[31m")), r"line 1 holds '\x1b[31m'"),
        (with_line(GOOD, 3, "1 0 0 0 0 1 0 0 0 0 -1 0"), "line 3 holds no rotation (its determinant is -1"),
        (with_line(GOOD, 3, "0 " * 12), "line 3 holds no rotation"),
        (with_line(GOOD, 3, "2 0 0 0 0 2 0 0 0 0 2 0"), "line 3 holds no rotation"),
        ("\n".join(GOOD).encode("utf-16"), "no text, as UTF-16"),
        (bytes(range(1, 255)), "line "),
        (with_line(TUM, 2, "1.1 0 0 0 0 0 0 0"), "line 2 holds no rotation (the length of its quaternion is 0"),
        (with_line(TUM, 2, "1.1 0 0 0 1 1 1 1"), "line 2 holds no rotation (the length of its quaternion is 2"),
        (with_line(TUM, 2, "1.1 nan 0 0 0 0 0 1"), "line 2 must hold finite numbers"),
        (with_line(TUM, 2, "nan 0 0 0 0 0 0 1"), "line 2 must hold a time"),
        (with_line(TUM, 2, "1700000000000000000 0 0 0 0 0 0 1"), "line 2 must hold a time in seconds"),
        (with_line(["#", *TUM], 3, "1.0 0 0 0 0 0 0 1"), "the time of line 3 is not later"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_damaged_poses_are_one_line_with_file_and_line(tmp_path, content, said):
    path = tmp_path / "poses.txt"
    path.write_bytes(content)
    message = refusal(read_trajectory, path)
    assert message.startswith(f"{path}: ") and said in message and message.isprintable()


@pytest.mark.parametrize(
    "content, said",
    [
        ("", "has no times"),
        ("1\n1\n", "the time of line 2 is not later"),
        ("1\n2 3", "line 2 has 2"),
        ("1\nx", "line 2"),
        ("1\nnan", "line 2"),
    ],
)
def test_damaged_times_are_one_line(tmp_path, content, said):
    path = tmp_path / "times.txt"
    path.write_text(content)
    assert said in refusal(read_times, path)


def test_files_that_are_too_large_are_not_read(tmp_path):
    path = tmp_path / "poses.txt"
    with path.open("wb") as file:
        file.truncate(1 << 30)
    assert "too large for a file of poses" in refusal(read_trajectory, path)


def test_what_is_no_file_and_the_poses_of_semantickitti(tmp_path):
    for path in (tmp_path / "none.txt", tmp_path, Path("/dev/zero")):
        assert refusal(read_trajectory, path).startswith(f"{path}: cannot read the poses")
    path = tmp_path / "tum.txt"
    path.write_text("\n".join(TUM))
    assert "line 1 has 8 numbers, and 12" in refusal(read_poses, path)
