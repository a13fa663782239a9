"""The labels of a scan as nuScenes-lidarseg files them (Fong et al., RA-L 2022)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dataloader.formats.files import read_bytes, unequal
from dataloader.formats.scan_check import NUSCENES
from utils.labels import LabelMap


def read_labels(path: str | Path, count: int, label_map: LabelMap) -> NDArray[np.uint8]:
    """Reads a nuScenes-lidarseg label file.

    Args:
        path: the file.
        count: points in the scan.
        label_map: indices of category.json to learning ids.

    Returns:
        (count,) uint8 learning ids.

    Raises:
        UserError: the file is missing, has another number of points, or holds an index that category.json has not.
    """
    raw = read_bytes(path, "labels")
    if raw.size != count:
        raise unequal(path, raw.size, count, NUSCENES.point_bytes * count / max(raw.size, 1), NUSCENES.label_bytes)
    return label_map.learning_ids(raw, path)
