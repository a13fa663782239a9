"""The reader of each format of point files, by suffix: `open_clouds` opens any of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from utils.scan.point_cloud import PointCloud


@dataclass(frozen=True)
class Layout:
    """A frozen record of what the user says about files that do not say it themselves.

    Attributes:
        columns: names of the columns of tables without a header (`x`, `y`, `z`, `i`, and `_` for one to be left out),
            of `.bin`, `.npy`, `.npz` and text; None: found out where it is certain.
        dtype: type of the numbers of `.bin`, a NumPy name such as "<f4"; with `columns` only.
        topic: the topic of a bag; None: the only one with points.
    """

    columns: tuple[str, ...] | None = None
    dtype: str = "<f4"
    topic: str | None = None


class Clouds(Protocol):
    """The point clouds of one file: one, or for a bag as many as the topic has messages."""

    def __len__(self) -> int: ...

    def label(self, index: int) -> str:
        """Returns what tells cloud `index` from the others of the file: "" for the only one, "000012" in a bag."""
        ...

    def read(self, index: int) -> PointCloud:
        """Reads a cloud; ascending numbers are fastest. It may be called from several threads, one call at a time.

        Raises:
            UserError: the file is damaged there.
        """
        ...


def open_clouds(path: Path, layout: Layout, beside: Iterator[Path] | None = None) -> Clouds:
    """Opens a file of point clouds by its suffix; its content is untrusted.

    Args:
        path: the file; a folder for a ROS 2 bag.
        layout: what the user has said about it.
        beside: further files of the same recording, whose sizes may tell the layout of a `.bin`.

    Raises:
        UserError: no reader knows the suffix, the library of the format is not installed, the file cannot be read or
            is damaged, it holds no point, or its layout is not certain and has to be said.
    """
    raise NotImplementedError
