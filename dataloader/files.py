"""Reading the files of a data set: what is missing or damaged ends in one clear line."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from utils.errors import UserError


def read_bytes(path: str | Path, what: str) -> NDArray[np.uint8]:
    """The content of a file, (bytes,) uint8.

    Raises:
        UserError: the file cannot be read; says that it is the `what` ("scan", "labels").
    """
    try:
        return np.fromfile(path, dtype=np.uint8)
    except OSError as error:
        raise UserError(f"{path}: cannot read the {what} ({error.strerror}); unpack it again") from error


def read_point_file(path: str | Path, columns: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """A file of points, float32 N x `columns`, of which the first four are x, y, z (m) and intensity.

    Returns:
        xyz: (N, 3) float32, metres, N > 0; a coordinate may be NaN or infinite if the file says so.
        intensity: (N,) float32 as in the file; one that is not finite reads as 0.

    Raises:
        UserError: the file is missing, empty, or not a whole number of points.
    """
    content = read_bytes(path, "scan")
    size = 4 * columns
    if content.size == 0:
        raise UserError(f"{path}: the scan holds no points; unpack it again or remove it with its label file")
    if content.size % size:
        raise UserError(f"{path}: {content.size} bytes are no multiple of {size} (truncated); unpack again")
    points = content.view("<f4").reshape(-1, columns)
    xyz = np.empty((len(points), 3), dtype=np.float32)
    for axis in range(3):  # column by column: numpy is slow at copying rows of three
        xyz[:, axis] = points[:, axis]
    intensity = points[:, 3].copy()
    if not np.isfinite(intensity).all():
        # One NaN intensity would spread through the batch statistics to every point.
        np.nan_to_num(intensity, copy=False, nan=0.0, posinf=0.0, neginf=0.0)
    return xyz, intensity


def list_stems(folder: Path, suffix: str) -> set[str]:
    """Names, without `suffix`, of the files in `folder` that have it; none if there is no such folder."""
    return {name[: -len(suffix)] for name in _names_in(folder) if name.endswith(suffix) and not name.startswith(".")}


def missing_files(root: Path, names: Iterable[str]) -> list[str]:
    """Those of `names` (paths below `root`, with "/") that are not there, sorted.

    Every folder is listed once: a look at each file would take minutes on a network drive.
    """
    wanted = set(names)
    folders = {name.rpartition("/")[0] for name in wanted}
    for folder in folders:
        wanted.difference_update(f"{folder}/{name}" for name in _names_in(root / folder))
    return sorted(wanted)


def _names_in(folder: Path) -> list[str]:
    return os.listdir(folder) if folder.is_dir() else []
