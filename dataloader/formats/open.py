"""The reader of each format of point files, by suffix: `open_clouds` opens any of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from dataloader.formats import bag, bin, las, npy, pcd, ply, text
from dataloader.formats.clouds import Clouds, OneCloud, check_file
from dataloader.formats.layout import Layout, parse_columns, parse_dtype
from utils.errors import UserError
from utils.scan.point_cloud import PointCloud

__all__ = [
    "SUFFIXES",
    "Clouds",
    "Layout",
    "is_bag",
    "is_bag_folder",
    "is_point_file",
    "open_clouds",
    "parse_columns",
    "parse_dtype",
]

Opener = Callable[[Path, Layout, Iterator[Path] | None], Clouds]


def _one(
    reader: Callable[[Path, Layout], PointCloud], path: Path, layout: Layout, beside: Iterator[Path] | None
) -> Clouds:
    return OneCloud(path, layout, reader)


OPENERS: dict[str, Opener] = {
    ".pcd.bin": bin.open_nuscenes,
    ".bin": bin.open_bin,
    ".pcd": partial(_one, pcd.read_pcd),
    ".ply": partial(_one, ply.read_ply),
    ".las": partial(_one, las.read_las),
    ".laz": partial(_one, las.read_las),
    ".npy": partial(_one, npy.read_npy),
    ".npz": partial(_one, npy.read_npz),
    ".txt": partial(_one, text.read_text),
    ".csv": partial(_one, text.read_text),
    ".xyz": partial(_one, text.read_text),
    ".asc": partial(_one, text.read_text),
    ".pts": partial(_one, text.read_text),
    ".bag": bag.open_bag,
    ".mcap": bag.open_bag,
    ".db3": bag.open_bag,
}
"""Suffix -> what opens such a file; a longer suffix stands before a shorter one that it ends with."""

SUFFIXES = tuple(OPENERS)
"""The known suffixes, in small letters; those of files may have capital letters."""


def _suffix(path: Path) -> str | None:
    """Returns the known suffix of a file; None if there is none."""
    return next((suffix for suffix in SUFFIXES if path.name.lower().endswith(suffix)), None)


def is_point_file(path: Path) -> bool:
    """Returns whether a name is that of a file of points, as far as its suffix tells; hidden files are none."""
    return _suffix(path) is not None and not path.name.startswith(".")


def is_bag(path: Path) -> bool:
    """Returns whether a file, as far as its suffix tells, or a folder holds several clouds."""
    suffix = _suffix(path)
    return (suffix is not None and OPENERS[suffix] is bag.open_bag) or bag.is_bag_folder(path)


def is_bag_folder(path: Path) -> bool:
    """Returns whether a path is a folder that is a ROS 2 bag, and therefore one input."""
    return bag.is_bag_folder(path)


def open_clouds(path: Path, layout: Layout, beside: Iterator[Path] | None = None) -> Clouds:
    """Opens a file of point clouds by its suffix; its content is untrusted.

    The points are read, and their damage is found, when they are asked for. The result can be given to other processes.

    Args:
        path: the file; a folder for a ROS 2 bag.
        layout: what the user has said about it.
        beside: further files of the same recording, whose sizes may tell the layout of a `.bin`, as may those of the
            others in its folder.

    Raises:
        UserError: no reader knows the suffix, the file cannot be read, or its layout is not certain and has to be
            said; for a bag also: the library is not installed, or the index is damaged.
    """
    if bag.is_bag_folder(path):
        return bag.open_bag(path, layout, beside)
    suffix = _suffix(path)
    if suffix is None:
        known = " ".join(dict.fromkeys(SUFFIXES))
        if path.is_dir():
            raise UserError(f"{path}: is a folder, but no ROS 2 bag (it has no metadata.yaml of one)")
        raise UserError(f"{path}: no format of points has this suffix; known are {known} and folders of ROS 2 bags")
    check_file(path)
    return OPENERS[suffix](path, layout, beside)
