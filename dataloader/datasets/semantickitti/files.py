"""The files of a scan in KITTI's layout: points, and SemanticKITTI's labels of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dataloader.formats.files import read_bytes, read_point_file, unequal
from dataloader.formats.scan_check import KITTI
from utils.labels import LabelMap


def read_points(path: str | Path, copy: bool = True) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Reads a KITTI velodyne file; the arguments are those of `read_point_file`.

    Returns:
        xyz: (N, 3) float32, metres, N > 0. intensity: (N,) float32, finite.

    Raises:
        UserError: the file is missing, empty, or not a whole number of points.
    """
    return read_point_file(path, columns=4, copy=copy)


def read_labels(path: str | Path, count: int, label_map: LabelMap) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """Reads a SemanticKITTI label file.

    Args:
        path: the file.
        count: points in the scan.
        label_map: raw ids to learning ids.

    Returns:
        labels: (count,) uint8 learning ids. instances: (count,) int32.

    Raises:
        UserError: the file is missing, has another number of points, or holds an id that the map does not know.
    """
    content = read_bytes(path, "labels")
    if content.size != 4 * count:
        scan_bytes = KITTI.point_bytes * count
        raise unequal(path, content.size / 4, count, 4 * scan_bytes / max(content.size, 1), KITTI.label_bytes)
    halves = content.view("<u2").reshape(-1, 2)
    return label_map.learning_ids(halves[:, 0], path), halves[:, 1].astype(np.int32)
