"""Functions that read and list the files of a data set; a missing or damaged file gives an error of one clear line."""

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
    """Reads the content of a file, (bytes,) uint8.

    Args:
        path: the file.
        what: what the file is ("scan", "labels"), for the error message.

    Raises:
        UserError: the file cannot be read.
    """
    try:
        require_regular(path)
        return np.fromfile(path, dtype=np.uint8)
    except OSError as error:
        raise UserError(f"{path}: cannot read the {what} ({error.strerror}); unpack it again") from error


def read_point_file(
    path: str | Path, columns: int, copy: bool = True
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Reads a file of N points with float32 columns, of which the first four are x, y, z (metres) and intensity.

    Args:
        path: the file.
        columns: number of columns.
        copy: false: where the file's numbers are in order, return columns of its content, in which other columns lie
            between. That is faster if they are copied soon anyway.

    Returns:
        xyz: (N, 3) float32, metres, N > 0. A coordinate may be NaN or infinite if the file has it so. One that is
            farther away than `FARTHEST` becomes NaN: no sensor measures it, and its square overflows.
        intensity: (N,) float32 as in the file; values that are not finite or beyond `FARTHEST` become 0.

    Raises:
        UserError: the file is missing, empty, not a whole number of points, or recognisably something other than such
            points (see `point_layout`).
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
    in_order = words.max() < FARTHEST and words.min() > -FARTHEST  # not if one of them is NaN
    if in_order and not copy:
        return points[:, :3], points[:, 3]
    xyz = np.empty((len(points), 3), dtype=np.float32)
    for axis in range(3):  # column by column: numpy is slow at copying rows of three
        xyz[:, axis] = points[:, axis]
    intensity = points[:, 3].copy()
    if not in_order:
        xyz[(np.abs(xyz) > FARTHEST) & np.isfinite(xyz)] = np.nan
        # Through the batch statistics, one such intensity would affect every point.
        intensity[~(np.abs(intensity) < FARTHEST)] = 0.0
    return xyz, intensity


_COLUMNS = {4: "x, y, z, reflectance", 5: "x, y, z, intensity, ring"}


def empty_scan(path: str | Path) -> UserError:
    """Builds the error for a scan file without content."""
    return UserError(f"{path}: the scan holds no points; unpack it again or remove it with its label file")


_LABEL_WIDTHS: dict[float, str] = {1: "uint8", 2: "uint16", 4: "uint32", 8: "64-bit"}


def unequal(path: str | Path, labels: float, points: float, bytes_per_label: float, label_bytes: int) -> UserError:
    """Builds the error for a label file whose number of labels differs from the number of points of its scan.

    Args:
        path: the label file.
        labels, points: number of labels and of points.
        bytes_per_label: size of the scan file, bytes, divided by the number of labels.
        label_bytes: size that a label should have, bytes.
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
    """Lists the files in `folder` with a suffix: name without the suffix -> size in bytes.

    A folder that does not exist has no files.

    Raises:
        UserError: the size of a file cannot be read, it is not an ordinary file, or its suffix is in capital letters:
            skipped, it would be missing from a submission.
    """
    wanted = _sizes_in(folder, lambda name: name.lower().endswith(suffix) and not name.startswith("."))
    for name in wanted:
        if not name.endswith(suffix):
            raise UserError(f"{folder / name}: file names must end in {suffix}; rename it (and others like it)")
    return {name[: -len(suffix)]: size for name, size in wanted.items()}


def file_sizes(root: Path, names: Iterable[str]) -> dict[str, int]:
    """Looks up the sizes, bytes, of those files among `names` that exist.

    Args:
        root: the folder that the names start from.
        names: paths below `root`, with "/".

    Raises:
        UserError: the size of a file cannot be read, or it is not an ordinary file.
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
    """Returns the size of each wanted file, in the order of the folder, in which network drives read sizes fastest."""
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
    """Returns, sorted, those of `names` (paths below `root`, with "/") that do not exist.

    Every folder is listed once: asking for each file would take minutes on a network drive.
    """
    wanted = set(names)
    folders = {name.rpartition("/")[0] for name in wanted}
    for folder in folders:
        wanted.difference_update(f"{folder}/{name}" for name in _names_in(root / folder))
    return sorted(wanted)


def _names_in(folder: Path) -> list[str]:
    return os.listdir(folder) if folder.is_dir() else []
