"""A look at KITTI's calibration before a training: whether the camera can be where the files say that it is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dataloader.datasets.camera import image_size, project
from dataloader.datasets.semantickitti.calibration import axis_of, is_upright, middle_of
from dataloader.formats.scan_check import Notes
from utils.errors import UserError

_LEAST_AHEAD = 0.1  # cosine of the angle between the camera's axis and x of the lidar; points with x <= 0 get no pixel
_LEAST_SPREAD = 0.05  # of the image that the points in it must cover
_LEAST_IN_VIEW = 0.01  # of the points of a scan, before the calibration is doubtful; KITTI's camera sees 15 %


def check_view(
    path: Path,
    calibration: NDArray[np.float64],
    scans: Sequence[tuple[Path, NDArray[np.float32], Path]],
    notes: Notes,
) -> None:
    """Looks whether the camera sees points of the first scan of a sequence; of others too, before it is refused.

    Args:
        path: calib.txt, for the lines about it.
        calibration: (3, 4), as `kitti_calibration.read_calibration` gives it.
        scans: file, (N, 3) points in metres, and image of some scans of the sequence, the first one first.
        notes: what is doubtful is added here.

    Raises:
        UserError: the camera does not look ahead, or sees none of the points.
    """
    x, y, z = axis_of(calibration)
    if x < _LEAST_AHEAD:
        raise UserError(
            f"{path}: by keys P2 and Tr the camera looks along ({x:.2f}, {y:.2f}, {z:.2f}) of the lidar, not ahead "
            "along its x; take calib.txt from the KITTI odometry calibration archive"
        )
    width, height = image_size(scans[0][2])
    column = middle_of(calibration)
    if not 0.25 < column / width < 0.75:
        text = f"key P2 has the camera's axis in column {column:.0f} of images {width} wide; is it of other images?"
        notes.add("axis", path, text)
    for scan, xyz, image in scans:
        width, height = image_size(image)
        pixels = project(xyz[xyz[:, 0] > 0], calibration, width, height, front="depth")
        pixels = pixels[pixels[:, 0] >= 0]
        if len(pixels):
            _note_doubts(path, scan, pixels, len(xyz), min(width, height), notes)
            break
    else:
        raise UserError(
            f"{path}: keys P2 and Tr put no point of {scans[0][0]} into its image ({width} x {height}); take "
            "calib.txt from the KITTI odometry calibration archive"
        )
    if not is_upright(calibration, height):
        notes.add("upright", path, "by keys P2 and Tr the camera is not upright: z of the lidar must point up")
    if np.linalg.det(calibration[:, :3]) < 0:
        notes.add("mirrored", path, "keys P2 and Tr mirror what they project: y of the lidar must point left")


def _note_doubts(path: Path, scan: Path, pixels: NDArray[np.float32], count: int, edge: int, notes: Notes) -> None:
    """Notes that few of the `count` points of a scan have (M, 2) `pixels`, or that these lie close together."""
    if len(pixels) < _LEAST_IN_VIEW * count:
        text = f"keys P2 and Tr put only {len(pixels)} of the {count} points of {scan} into its image"
        notes.add("view", path, text)
    elif np.ptp(pixels, axis=0).max() < _LEAST_SPREAD * edge:
        notes.add("spread", path, f"keys P2 and Tr put the points of {scan} close together in its image")
