"""Writers of predictions, which an evaluation calls scan by scan.

A `PredictionFormat` says how the predictions on a data set are stored in files. The format of SemanticKITTI has files
`sequences/<seq>/predictions/<frame>.label` with one uint32 raw class id per point of the scan, in file order. A
submission is a zip with `sequences/` at its top and an entry for every folder, as the benchmark's validator asks.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from utils.errors import UserError
from utils.files import whole_file, write_bytes
from utils.scan.records import Frame, Segmentation

Expected = tuple[Frame, int | None]
"""A frame that must have a prediction, and its number of points; None: not known."""


class Sink(Protocol):
    """A receiver of the results of all scans, closed after the last one."""

    def write(self, segmentation: Segmentation) -> None:
        """Takes one scan. Any process may call it, each for its own scans."""
        ...

    def finish(self, expected: Iterable[Expected]) -> Path:
        """Closes, on one process, after every process has written its scans; returns the path of what was made."""
        ...


class PredictionFormat(Protocol):
    """The file format of the predictions on a data set."""

    def predictions(self, directory: Path) -> Sink:
        """Returns a sink that keeps the predictions in `directory`."""
        ...

    def submission(self, directory: Path) -> Sink:
        """Returns a sink that also checks the predictions, and makes the archive for the benchmark server."""
        ...


@dataclass(frozen=True)
class PredictionFiles:
    """The files of a format, all of them below one directory.

    Attributes:
        path: returns the relative path of a frame's file, which holds one value per point, in the order of the scan.
        values: (K,) value of each learning id; its dtype is the one on disk.
        valid: (n,) values that the benchmark accepts.
        extra: further files, relative path -> content.
    """

    path: Callable[[Frame], str]
    values: NDArray[Any]
    valid: NDArray[Any]
    extra: Mapping[str, bytes] = field(default_factory=dict)


class PredictionWriter:
    """A sink that keeps one file per scan.

    Args:
        directory: folder of the files; it is made if it does not exist.
        files: the files to write below it.
    """

    def __init__(self, directory: str | Path, files: PredictionFiles) -> None:
        self.directory = Path(directory)
        self._files = files

    def write(self, segmentation: Segmentation) -> None:
        """Writes the file of one scan; a reader sees the whole file or none."""
        values = self._files.values[segmentation.prediction.cpu().numpy()]
        write_bytes(self._path(segmentation.whole.frame), values.tobytes())

    def finish(self, expected: Iterable[Expected]) -> Path:
        """Returns the folder; raises a UserError unless it has every expected frame with its number of points."""
        self._complete(list(expected))
        return self.directory

    def _path(self, frame: Frame) -> Path:
        return self.directory / self._files.path(frame)

    def _complete(self, expected: list[Expected]) -> None:
        """Checks the files of the scans, then adds the further files."""
        self._check_sizes(expected)
        for name, content in self._files.extra.items():
            write_bytes(self.directory / name, content)

    def _check_sizes(self, expected: list[Expected]) -> None:
        """Raises UserError unless every expected frame has a file of the right size."""
        if not expected:
            raise UserError(f"{self.directory}: the split has no frames; check data_path of the val_data_loader")
        missing = [frame for frame, _ in expected if not self._path(frame).is_file()]
        if missing:
            raise UserError(
                f"{self._path(missing[0])}: missing, {len(missing)} of {len(expected)} frames in all; "
                "run the test over the whole split"
            )
        width = self._files.values.itemsize
        for frame, points in expected:
            path = self._path(frame)
            size = path.stat().st_size
            if size == 0 or size % width or (points is not None and size != width * points):
                wanted = "whole points" if points is None else f"{points} points"
                raise UserError(
                    f"{path}: {size} bytes, not {wanted} of {width} bytes; run the test again to replace it"
                )


class SubmissionWriter(PredictionWriter):
    """A sink that also makes `submission.zip`, for the benchmark server.

    Args:
        directory: folder of the files and of the zip.
        files: the files to write below it, and to zip.
    """

    def finish(self, expected: Iterable[Expected]) -> Path:
        """Checks the files and zips exactly the expected ones. The same files give the same zip, byte by byte.

        Args:
            expected: every frame of the split, with its number of points (None: any number).

        Returns:
            `<directory>/submission.zip`.

        Raises:
            UserError: a frame is missing, has another number of points, or holds a point without a class.
            OSError: the zip cannot be written; the zip of an earlier test stays as it was.
        """
        frames = list(expected)
        self._complete(frames)
        target = self.directory / "submission.zip"
        with whole_file(target) as file, zipfile.ZipFile(file, "w") as archive:
            _add(archive, self._members(frames))
        return target

    def _members(self, frames: Iterable[Expected]) -> Iterator[tuple[str, bytes]]:
        """Yields path and content of every file of the zip."""
        for frame, _ in frames:
            content = self._path(frame).read_bytes()
            self._check_values(frame, content)
            yield self._files.path(frame), content
        yield from self._files.extra.items()

    def _check_values(self, frame: Frame, content: bytes) -> None:
        ids = np.frombuffer(content, dtype=self._files.values.dtype)
        invalid = ids[~np.isin(ids, self._files.valid)]
        if len(invalid):
            raise UserError(
                f"{self._path(frame)}: {len(invalid)} points have class id {invalid[0]}, which is none of the "
                "benchmark's classes; run the test again to replace the file"
            )


def _add(archive: zipfile.ZipFile, members: Iterable[tuple[str, bytes]]) -> None:
    """Adds files to a zip, and before the first file in a folder an entry for that folder."""
    folders: set[str] = set()
    for name, content in members:
        above = [f"{folder}/" for folder in reversed(PurePosixPath(name).parents) if folder.name]
        for folder in above:
            if folder not in folders:
                archive.writestr(_entry(folder, 0o40755), b"")
                folders.add(folder)
        # The fastest level: predictions shrink tenfold at any level, and a test set is 10 GB.
        archive.writestr(_entry(name, 0o100644), content, zipfile.ZIP_DEFLATED, compresslevel=1)


def _entry(name: str, mode: int) -> zipfile.ZipInfo:
    """Returns an entry with a fixed date, so that the time of day changes no byte of the zip."""
    entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
    entry.external_attr = mode << 16 | (0x10 if entry.is_dir() else 0)
    return entry
