"""KITTI's three forms of one calibration, from a rig that is made up here and projects point by point."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dataloader.datasets.semantickitti.calibration import RAW_FILES, axis_of, is_upright, middle_of, read_calibration
from utils.errors import UserError

FOCAL, CENTRE, SHIFT = 700.0, (600.0, 180.0), (45.0, 0.2, 0.003)


def turn(axis: int, degrees: float) -> np.ndarray:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    i, j = [k for k in range(3) if k != axis]
    matrix = np.eye(3)
    matrix[i, i], matrix[i, j], matrix[j, i], matrix[j, j] = c, -s, s, c
    return matrix


# x ahead, y left, z up -> right, down, ahead; mounted a little askew, and levelled by the rectification.
MOUNTED = turn(0, 0.7) @ turn(2, -0.4) @ np.array([[0.0, -1, 0], [0, 0, -1], [1, 0, 0]])
PLACED = np.array([0.02, -0.08, -0.27])
LEVELLED = turn(1, 0.5) @ turn(0, -0.6)


def pixel(point: np.ndarray) -> np.ndarray:
    """(u, v, w) of a point of the lidar, step by step."""
    unrectified = MOUNTED @ point + PLACED
    x, y, z = LEVELLED @ unrectified
    return np.array([FOCAL * x + CENTRE[0] * z + SHIFT[0], FOCAL * y + CENTRE[1] * z + SHIFT[1], z + SHIFT[2]])


def line(key: str, values: np.ndarray, separator: str = ":") -> str:
    return f"{key}{separator} " + " ".join(f"{value:.12e}" for value in np.ravel(values)) + "\n"


P2 = np.array([[FOCAL, 0, CENTRE[0], SHIFT[0]], [0, FOCAL, CENTRE[1], SHIFT[1]], [0, 0, 1, SHIFT[2]]])
VELO = np.column_stack([MOUNTED, PLACED])
OTHER = line("P0", np.eye(3, 4)) + line("P3", 2 * np.eye(3, 4))
ODOMETRY = OTHER + line("P2", P2) + line("Tr", LEVELLED @ VELO)
OBJECT = OTHER + line("P2", P2) + line("R0_rect", LEVELLED) + line("Tr_velo_to_cam", VELO) + line(
    "Tr_imu_to_velo", np.eye(3, 4)
)  # fmt: skip
TRACKING = OTHER + line("P2", P2) + line("R_rect", LEVELLED, "") + line("Tr_velo_cam", VELO, "")
CAMERAS = "calib_time: 09-Jan-2012 13:57:47\n" + line("R_02", np.eye(3)) + line("P_rect_02", P2) + line(
    "R_rect_00", LEVELLED
) + line("R_rect_02", turn(1, 30)) + line("P_rect_03", 2 * P2)  # fmt: skip
LIDAR = "calib_time: 15-Mar-2012 11:37:16\n" + line("R", MOUNTED) + line("T", PLACED) + "delta_f: 0 0\ndelta_c: 0 0\n"


def write(folder: Path, form: str) -> Path:
    if form == "raw":
        for name, text in zip(RAW_FILES, (CAMERAS, LIDAR), strict=True):
            (folder / name).write_text(text)
    else:
        (folder / "calib.txt").write_text(
            {"odometry": ODOMETRY, "object": OBJECT, "tracking": TRACKING, "raw in one": CAMERAS + LIDAR}[form]
        )
    return folder / "calib.txt"


@pytest.mark.parametrize("form", ["odometry", "object", "tracking", "raw", "raw in one"])
def test_every_form_projects_as_the_rig_does(tmp_path, form) -> None:
    calibration = read_calibration(write(tmp_path, form))
    for point in np.random.default_rng(0).uniform(-40, 40, (50, 3)):
        np.testing.assert_allclose(calibration @ [*point, 1], pixel(point), rtol=1e-9, atol=1e-7)
    assert axis_of(calibration)[0] > 0.99 and is_upright(calibration, 376)


def test_windows_marks_are_no_part_of_the_keys(tmp_path) -> None:
    path = write(tmp_path, "odometry")
    plain = read_calibration(path)
    path.write_bytes(b"\xef\xbb\xbf" + ODOMETRY.replace("\n", "\r\n").encode())
    np.testing.assert_array_equal(read_calibration(path), plain)
    assert middle_of(plain) == pytest.approx(P2[0, 2])


def test_a_camera_that_is_turned_is_told(tmp_path) -> None:
    rolled = turn(2, 90) @ MOUNTED
    (tmp_path / "calib.txt").write_text(line("P2", P2) + line("Tr", np.column_stack([rolled, PLACED])))
    assert not is_upright(read_calibration(tmp_path / "calib.txt"), 376)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (line("P2", P2), "key Tr is missing (and R0_rect and Tr_velo_to_cam"),
        (line("P2", P2) + line("Tr_velo_to_cam", VELO), "and R0_rect, of"),
        (line("P2", P2) + line("R0_rect", LEVELLED) + line("R", MOUNTED), "and Tr_velo_to_cam, of"),
        (line("Tr", VELO), "key P2 is missing"),
        (OBJECT.replace("R0_rect: ", "R0_rect: 1 "), "key R0_rect must hold 9 numbers"),
        (CAMERAS + LIDAR.replace("T: ", "T: nan "), "key T must hold 3 numbers"),
        (line("P2", P2) + line("Tr", 0 * VELO), "key Tr holds no rotation (its determinant is 0)"),
        (line("P2", P2) + line("Tr", 1000 * VELO), "key Tr holds no rotation"),
        (line("P2", P2) + line("R0_rect", 0 * LEVELLED) + line("Tr_velo_to_cam", VELO), "R0_rect times Tr_velo_to_cam"),
        (line("P2", P2) + line("Tr", np.full(12, 1e300)), "key Tr holds no rotation"),
        (line("P2", 1e304 * P2) + line("Tr", VELO), "too large"),
        (line("P2", 0 * P2) + line("Tr", VELO), "key P2 projects onto a line or a point"),
        ("\0" * 100, "key P2"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(tmp_path, text, wanted) -> None:
    path = tmp_path / "calib.txt"
    path.write_text(text)
    with np.errstate(all="raise"), pytest.raises(UserError) as caught:
        read_calibration(path)
    assert str(path) in str(caught.value) and wanted in str(caught.value) and "\n" not in str(caught.value)


def test_half_of_the_raw_files_is_named(tmp_path) -> None:
    write(tmp_path, "raw")
    (tmp_path / RAW_FILES[1]).unlink()
    with pytest.raises(UserError, match=r"calib_velo_to_cam\.txt: cannot read"):
        read_calibration(tmp_path / "calib.txt")
