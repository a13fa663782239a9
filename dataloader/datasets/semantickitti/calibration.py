"""KITTI's calibration files -> where a point of the lidar falls in the left colour image (Geiger et al., CVPR 2012).

The three forms in which KITTI publishes the same numbers are read:

    odometry    calib.txt: P2, Tr
    object      calib.txt: P2, R0_rect, Tr_velo_to_cam (tracking: R_rect, Tr_velo_cam), Tr = R0_rect Tr_velo_to_cam
    raw data    calib_cam_to_cam.txt: P_rect_02, R_rect_00; calib_velo_to_cam.txt: R, T; Tr = R_rect_00 [R | T]
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from utils.errors import UserError
from utils.files import require_regular
from utils.scan.trajectory import rotation_fault

RAW_FILES = ("calib_cam_to_cam.txt", "calib_velo_to_cam.txt")
"""In place of calib.txt."""

_PROJECTIONS = ("P2", "P_rect_02")
_RECTIFICATIONS = ("R0_rect", "R_rect", "R_rect_00")
_TRANSFORMS = ("Tr_velo_to_cam", "Tr_velo_cam")
_APART = 1e4  # from the LiDAR to the camera, metres, or millimetres in data of one's own
_LARGEST = 1 << 20  # bytes of a calibration file; KITTI's have 4,000

_Entries = Mapping[str, str]


def read_calibration(path: str | Path) -> NDArray[np.float64]:
    """Reads the (3, 4) float64 map from (x, y, z, 1) in the velodyne frame to (u, v, w): P2 @ [Tr; 0 0 0 1].

    Args:
        path: calib.txt. Where there is none, `RAW_FILES` in its folder are read.

    Raises:
        UserError: the file is missing, lacks P2 or what gives Tr, one of them has another number of numbers or one that
            is not finite, or they are no projection and no rotation.
    """
    path, entries = _read(Path(path))
    projection = _projection(entries, path)
    transform = _lidar_to_camera(entries, path)
    with np.errstate(over="ignore", invalid="ignore"):
        calibration = projection @ transform
        volume = np.linalg.det(calibration[:, :3])
    if not np.isfinite(calibration).all() or not np.isfinite(volume):
        raise UserError(
            f"{path}: keys P2 and Tr give numbers that are too large (up to {np.abs(projection).max():.3g} and "
            f"{np.abs(transform).max():.3g}); unpack the calibration again"
        )
    if volume == 0:
        raise UserError(f"{path}: key P2 projects onto a line or a point; unpack the calibration again")
    return calibration


def read_lidar_to_camera(path: str | Path) -> NDArray[np.float64]:
    """Reads the (4, 4) float64 map Tr from the velodyne frame to that of camera 0.

    Arguments and errors are those of `read_calibration`, but a projection is not wanted, and the rotation must be exact
    to a thousandth: it moves points at a distance.
    """
    path, entries = _read(Path(path))
    transform = _lidar_to_camera(entries, path)
    if (fault := rotation_fault(transform[None, :3, :3])) is not None:
        raise UserError(f"{path}: key Tr holds no rotation ({fault[1]}); repair it, or unpack the calibration again")
    if (distance := float(np.abs(transform[:3, 3]).max())) > _APART:
        raise UserError(
            f"{path}: key Tr puts the camera {distance:.3g} m from the LiDAR; repair it, or unpack the calibration "
            "again"
        )
    return transform


def lidar_poses(poses: NDArray[np.float64], transform: NDArray[np.float64]) -> NDArray[np.float64]:
    """Computes the poses of the LiDAR, L = Tr^-1 P Tr, from those of camera 0, (N, 4, 4), and Tr, (4, 4)."""
    return np.linalg.inv(transform) @ poses @ transform


def axis_of(calibration: NDArray[np.float64]) -> NDArray[np.float64]:
    """Computes the direction in which the camera looks, (3,) of length 1 in the lidar's frame."""
    return calibration[2, :3] / np.linalg.norm(calibration[2, :3])


def middle_of(calibration: NDArray[np.float64]) -> float:
    """Computes the column of the image that the axis of the camera meets, in pixels."""
    return float(calibration[0, :3] @ calibration[2, :3] / (calibration[2, :3] @ calibration[2, :3]))


def is_upright(calibration: NDArray[np.float64], height: int) -> bool:
    """Returns whether what is higher for the lidar is higher in the image, of `height` rows, more than to the side."""
    down = calibration[1, :3] - height / 2 * calibration[2, :3]
    return bool(-down[2] > abs(down[1]))


def _read(path: Path) -> tuple[Path, _Entries]:
    """Reads the entries of calib.txt, or of KITTI's two raw files; returns the file to name, too."""
    raw = [path.with_name(name) for name in RAW_FILES]
    if path.exists() or not any(file.exists() for file in raw):
        return path, _entries(path)
    return raw[0], {key: numbers for file in raw for key, numbers in _entries(file).items()}


def _entries(path: Path) -> dict[str, str]:
    """Reads key -> numbers from lines "key: numbers" and, in KITTI's tracking data, of "key numbers"."""
    try:
        require_regular(path)
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            lines = file.read(_LARGEST).splitlines()
    except OSError as error:
        raise UserError(
            f"{path}: cannot read the calibration ({error.strerror}); unpack the KITTI odometry calibration there"
        ) from error
    found = {}
    for line in lines:
        key, colon, numbers = line.partition(":")
        if not colon:
            key, _, numbers = line.strip().partition(" ")
        found[key.strip()] = numbers
    return found


def _projection(entries: _Entries, path: Path) -> NDArray[np.float64]:
    key = _first_of(_PROJECTIONS, entries)
    if key is None:
        raise UserError(f"{path}: key P2 is missing; take calib.txt from the KITTI odometry calibration archive")
    return _matrix(entries, key, (3, 4), path)


def _lidar_to_camera(entries: _Entries, path: Path) -> NDArray[np.float64]:
    """Computes the (4, 4) map from the velodyne frame to that of the rectified camera 0."""
    if "Tr" in entries:
        transform = _homogeneous(_matrix(entries, "Tr", (3, 4), path))
        key = "Tr"
    else:
        rectification, key = _first_of(_RECTIFICATIONS, entries), _first_of(_TRANSFORMS, entries)
        lacking = [] if rectification else ["R0_rect"]
        if key is None and not {"R", "T"} <= entries.keys():
            lacking.append("Tr_velo_to_cam")
        if rectification is None or "Tr_velo_to_cam" in lacking:
            raise UserError(
                f"{path}: key Tr is missing (and {' and '.join(lacking)}, of KITTI's object calibration, too); take "
                "calib.txt from the KITTI odometry calibration archive"
            )
        if key is not None:
            unrectified = _matrix(entries, key, (3, 4), path)
        else:
            unrectified = np.hstack([_matrix(entries, "R", (3, 3), path), _matrix(entries, "T", (3, 1), path)])
        rotation = _matrix(entries, rectification, (3, 3), path)
        with np.errstate(over="ignore", invalid="ignore"):
            transform = _homogeneous(np.hstack([rotation, np.zeros((3, 1))])) @ _homogeneous(unrectified)
        key = f"{rectification} times {key or 'R'}"
    with np.errstate(over="ignore", invalid="ignore"):
        size = abs(float(np.linalg.det(transform[:3, :3])))
    if not abs(size - 1) < 0.1:
        raise UserError(f"{path}: key {key} holds no rotation (its determinant is {size:.3g}); unpack it again")
    return transform


def _first_of(keys: tuple[str, ...], entries: _Entries) -> str | None:
    return next((key for key in keys if key in entries), None)


def _homogeneous(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.vstack([matrix, [0.0, 0.0, 0.0, 1.0]])


def _matrix(entries: _Entries, key: str, shape: tuple[int, int], path: Path) -> NDArray[np.float64]:
    try:
        matrix = np.array([float(number) for number in entries[key].split()]).reshape(shape)
    except ValueError as error:
        count = shape[0] * shape[1]
        raise UserError(f"{path}: key {key} must hold {count} numbers; unpack the calibration again") from error
    if not np.isfinite(matrix).all():
        raise UserError(f"{path}: key {key} must hold finite numbers only; unpack the calibration again")
    return matrix
