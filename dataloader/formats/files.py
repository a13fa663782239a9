"""Reading the files of a data set: what is missing or damaged ends in one clear line."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dataloader.formats.point_layout import FARTHEST, by_bytes_per_point, foreign_layout
from utils.errors import UserError
from utils.files import require_regular


def read_bytes(path: str | Path, what: str) -> NDArray[np.uint8]:
    """The content of a file, (bytes,) uint8.

    Raises:
        UserError: the file cannot be read; says that it is the `what` ("scan", "labels").
    """
    try:
        require_regular(path)
        return np.fromfile(path, dtype=np.uint8)
    except OSError as error:
        raise UserError(f"{path}: cannot read the {what} ({error.strerror}); unpack it again") from error


def read_point_file(path: str | Path, columns: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """A file of points, float32 N x `columns`, of which the first four are x, y, z (m) and intensity.

    Returns:
        xyz: (N, 3) float32, metres, N > 0; a coordinate may be NaN or infinite if the file says so. One farther away
            than `FARTHEST` reads as NaN: nothing measures it, and its square overflows.
        intensity: (N,) float32 as in the file; one that is not finite, or beyond `FARTHEST`, reads as 0.

    Raises:
        UserError: the file is missing, empty, not a whole number of points, or holds something else than such points
            as far as its bytes betray it (`point_layout`).
    """
    content = read_bytes(path, "scan")
    size = 4 * columns
    if content.size == 0:
        raise empty_scan(path)
    if foreign := foreign_layout(content, columns):
        raise UserError(
            f"{path}: holds {foreign}, where {columns} float32 columns are wanted ({_COLUMNS[columns]}); write such "
            "files, or unpack it again"
        )
    if content.size % size:
        raise UserError(f"{path}: {content.size} bytes are no multiple of {size} (truncated); unpack again")
    words = content.view("<f4")
    points = words.reshape(-1, columns)
    xyz = np.empty((len(points), 3), dtype=np.float32)
    for axis in range(3):  # column by column: numpy is slow at copying rows of three
        xyz[:, axis] = points[:, axis]
    intensity = points[:, 3].copy()
    if not (words.max() < FARTHEST and words.min() > -FARTHEST):  # also if one of them is NaN
        xyz[(np.abs(xyz) > FARTHEST) & np.isfinite(xyz)] = np.nan
        # One such intensity would spread through the batch statistics to every point.
        intensity[~(np.abs(intensity) < FARTHEST)] = 0.0
    return xyz, intensity


_COLUMNS = {4: "x, y, z, reflectance", 5: "x, y, z, intensity, ring"}


def empty_scan(path: str | Path) -> UserError:
    """The error of a scan file without content."""
    return UserError(f"{path}: the scan holds no points; unpack it again or remove it with its label file")


_LABEL_WIDTHS: dict[float, str] = {1: "uint8", 2: "uint16", 4: "uint32", 8: "64-bit"}


def unequal(path: str | Path, labels: float, points: float, bytes_per_label: float, label_bytes: int) -> UserError:
    """The error of a label file that has another number of points than its scan.

    Args:
        path: the label file.
        labels, points: how many there are.
        bytes_per_label: size of the scan file, divided by the number of labels.
        label_bytes: of a label, as it should be.
    """
    layout = by_bytes_per_point(bytes_per_label)
    cause = f"the scan has {bytes_per_label:g} bytes for each label, as has {layout}: " if layout else ""
    if (width := labels * label_bytes / points) in _LABEL_WIDTHS and width != label_bytes:
        return UserError(
            f"{path}: has {width:g} bytes for each of the {points:g} points, as have {_LABEL_WIDTHS[width]} labels, "
            f"where uint{8 * label_bytes} are wanted; write such files, or unpack scan and labels again"
        )
    return UserError(
        f"{path}: {labels:g} labels for {points:g} points; {cause}scan and labels do not belong together or one "
        "is truncated: unpack both again"
    )


def list_sizes(folder: Path, suffix: str) -> dict[str, int]:
    """Names, without `suffix`, of the files in `folder` that have it, and their sizes in bytes; none if there is no
    such folder.

    Raises:
        UserError: one of them cannot be looked at, or is no ordinary file, or has the suffix in capital letters: left
            out it would be missing from a submission.
    """
    wanted = _sizes_in(folder, lambda name: name.lower().endswith(suffix) and not name.startswith("."))
    for name in wanted:
        if not name.endswith(suffix):
            raise UserError(f"{folder / name}: file names must end in {suffix}; rename it (and others like it)")
    return {name[: -len(suffix)]: size for name, size in wanted.items()}


def file_sizes(root: Path, names: Iterable[str]) -> dict[str, int]:
    """Sizes in bytes of those of `names` (paths below `root`, with "/") that are there.

    Raises:
        UserError: as `list_sizes`.
    """
    wanted: dict[str, set[str]] = {}
    for name in names:
        folder, _, file = name.rpartition("/")
        wanted.setdefault(folder, set()).add(file)
    return {
        f"{folder}/{name}" if folder else name: size
        for folder, files in wanted.items()
        for name, size in _sizes_in(root / folder, files.__contains__).items()
    }


def _sizes_in(folder: Path, wanted: Callable[[str], bool]) -> dict[str, int]:
    """Size of each wanted file, in the order of the folder, for which network drives fetch sizes along with names."""
    found: dict[str, int] = {}
    if not folder.is_dir():
        return found
    with os.scandir(folder) as entries:
        for entry in entries:
            if not wanted(entry.name):
                continue
            try:
                status = entry.stat()
            except OSError as error:
                raise UserError(f"{entry.path}: cannot look at the file ({error.strerror}); unpack it again") from error
            if not stat.S_ISREG(status.st_mode):
                raise UserError(f"{entry.path}: is not an ordinary file; remove it, and unpack the archive again")
            found[entry.name] = status.st_size
    return found


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
