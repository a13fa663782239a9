"""Where predictions go: sinks that an evaluation feeds scan by scan.

How a data set files its predictions is a `PredictionFormat`. That of SemanticKITTI is here:
`sequences/<seq>/predictions/<frame>.label`, one uint32 raw class id per point of the scan, in file order; a submission
is a zip with `sequences/` at its top.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from utils.errors import UserError
from utils.labels import LabelMap
from utils.structures import Frame, Segmentation

Expected = tuple[Frame, int | None]
"""A frame that must be there, and its number of points where known."""


class Sink(Protocol):
    """Takes the result of every scan, and closes once all are there."""

    def write(self, segmentation: Segmentation) -> None:
        """Take one scan. Any process may call it, each for its own scans."""
        ...

    def finish(self, expected: Iterable[Expected]) -> Path:
        """Close, on one process, after every process has written its scans. Returns what was made."""
        ...


class PredictionFormat(Protocol):
    """How the predictions on a data set are filed."""

    def predictions(self, directory: Path) -> Sink:
        """A sink that keeps them in `directory`."""
        ...

    def submission(self, directory: Path) -> Sink:
        """A sink that also checks them and makes of them what the benchmark server takes."""
        ...


@dataclass(frozen=True)
class PredictionFiles:
    """The files of a format, all of them below one directory.

    Attributes:
        path: relative path of a frame's file, which holds one value per point of the scan, in its order.
        values: (K,) the value of each learning id; its dtype is the one on disk.
        valid: the values that the benchmark accepts.
        extra: further files, relative path -> content.
    """

    path: Callable[[Frame], str]
    values: NDArray[Any]
    valid: NDArray[Any]
    extra: Mapping[str, bytes] = field(default_factory=dict)


class PredictionWriter:
    """A sink that keeps one file per scan.

    Args:
        directory: made if need be.
        files: the files to write below it.
    """

    def __init__(self, directory: str | Path, files: PredictionFiles) -> None:
        self.directory = Path(directory)
        self._files = files

    def write(self, segmentation: Segmentation) -> None:
        """Write the file of one scan; a reader sees the whole file or none."""
        values = self._files.values[segmentation.prediction.cpu().numpy()]
        _write_whole(self._path(segmentation.whole.frame), values.tobytes())

    def finish(self, expected: Iterable[Expected]) -> Path:
        """The folder; raises UserError unless every expected frame is in it with its number of points."""
        self._complete(list(expected))
        return self.directory

    def _path(self, frame: Frame) -> Path:
        return self.directory / self._files.path(frame)

    def _complete(self, expected: list[Expected]) -> None:
        """Check the scans' files, then add those of the whole."""
        self._check_sizes(expected)
        for name, content in self._files.extra.items():
            _write_whole(self.directory / name, content)

    def _check_sizes(self, expected: list[Expected]) -> None:
        """Raise UserError unless every expected frame has a file of the right size."""
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
                    f"{path}: {size} bytes, not {wanted} of {width} bytes; run the test again to write it anew"
                )


class SubmissionWriter(PredictionWriter):
    """A sink that also makes `submission.zip`, for the benchmark server.

    Args:
        directory: the files and the zip go here.
        files: the files to write below it, and to zip.
    """

    def finish(self, expected: Iterable[Expected]) -> Path:
        """Check the files and zip exactly the expected ones.

        Args:
            expected: every frame of the split, with its number of points (None: any number).

        Returns:
            `<directory>/submission.zip`.

        Raises:
            UserError: a frame is missing, has another number of points, or holds a point without a class.
        """
        frames = list(expected)
        self._complete(frames)
        target = self.directory / "submission.zip"
        partial = target.with_suffix(".zip.partial")
        try:
            # The fastest level: predictions shrink tenfold at any level, and a test set is 10 GB.
            with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
                for frame, _ in frames:
                    content = self._path(frame).read_bytes()
                    self._check_values(frame, content)
                    archive.writestr(self._files.path(frame), content)
                for name, content in self._files.extra.items():
                    archive.writestr(name, content)
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)
        return target

    def _check_values(self, frame: Frame, content: bytes) -> None:
        ids = np.frombuffer(content, dtype=self._files.values.dtype)
        invalid = ids[~np.isin(ids, self._files.valid)]
        if len(invalid):
            raise UserError(
                f"{self._path(frame)}: {len(invalid)} points have class id {invalid[0]}, which is none of the "
                "benchmark's classes; run the test again to write the file anew"
            )


class SemanticKITTIFormat:
    """SemanticKITTI `.label` files; what the semantic-kitti-api and its server read.

    Args:
        label_map: gives the raw ids.
    """

    def __init__(self, label_map: LabelMap) -> None:
        to_raw = np.asarray(label_map.to_raw, dtype="<u4")
        # Raw id 0 is "unlabeled": the server counts such points as errors.
        self._files = PredictionFiles(_kitti_path, to_raw, valid=np.unique(to_raw[1:]))

    def predictions(self, directory: Path) -> PredictionWriter:
        """Keeps the label files."""
        return PredictionWriter(directory, self._files)

    def submission(self, directory: Path) -> SubmissionWriter:
        """Makes the zip of the label files."""
        return SubmissionWriter(directory, self._files)


def _kitti_path(frame: Frame) -> str:
    return f"sequences/{frame.sequence}/predictions/{frame.name}.label"


def _write_whole(path: Path, content: bytes) -> None:
    """Write a file that a reader sees whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}.partial")
    partial.write_bytes(content)
    partial.replace(path)
