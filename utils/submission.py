"""Where predictions go: sinks that an evaluation feeds scan by scan.

Files follow the SemanticKITTI benchmark: `sequences/<seq>/predictions/<frame>.label`, one uint32 raw class id per
point of the scan, in file order; a submission is a zip with `sequences/` at its top.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

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


def prediction_path(directory: Path, frame: Frame) -> Path:
    """The file of `frame` below `directory`."""
    return directory / "sequences" / frame.sequence / "predictions" / f"{frame.name}.label"


class PredictionWriter:
    """A sink that keeps predictions as SemanticKITTI `.label` files.

    Args:
        directory: made if need be; files go to `sequences/<seq>/predictions/` below it.
        label_map: gives the raw ids.
    """

    def __init__(self, directory: str | Path, label_map: LabelMap) -> None:
        self.directory = Path(directory)
        self._to_raw = np.asarray(label_map.to_raw, dtype="<u4")

    def write(self, segmentation: Segmentation) -> None:
        """Write the file of one scan; a reader sees the whole file or none."""
        path = prediction_path(self.directory, segmentation.whole.frame)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}.partial")
        self._to_raw[segmentation.prediction.cpu().numpy()].tofile(partial)
        partial.replace(path)

    def finish(self, expected: Iterable[Expected]) -> Path:
        """The folder; raises UserError unless every expected frame is in it with its number of points."""
        _check_files(self.directory, list(expected))
        return self.directory


class SemanticKITTISubmission:
    """A sink that makes the zip the SemanticKITTI server takes.

    Args:
        directory: the label files and `submission.zip` go here.
        label_map: gives the raw ids.
    """

    def __init__(self, directory: str | Path, label_map: LabelMap) -> None:
        self.directory = Path(directory)
        self._writer = PredictionWriter(directory, label_map)
        # Raw id 0 is "unlabeled": the server counts such points as errors.
        self._valid_ids = np.unique(np.asarray(label_map.to_raw)[1:])

    def write(self, segmentation: Segmentation) -> None:
        """Write the file of one scan; a reader sees the whole file or none."""
        self._writer.write(segmentation)

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
        _check_files(self.directory, frames)
        target = self.directory / "submission.zip"
        partial = target.with_suffix(".zip.partial")
        try:
            # The fastest level: predictions shrink tenfold at any level, and a test set is 10 GB.
            with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
                for frame, _ in frames:
                    path = prediction_path(self.directory, frame)
                    content = path.read_bytes()
                    self._check_ids(path, np.frombuffer(content, dtype="<u4"))
                    archive.writestr(path.relative_to(self.directory).as_posix(), content)
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)
        return target

    def _check_ids(self, path: Path, ids: NDArray[np.uint32]) -> None:
        invalid = ids[~np.isin(ids, self._valid_ids)]
        if len(invalid):
            raise UserError(
                f"{path}: {len(invalid)} points have class id {invalid[0]}, which is none of the benchmark's classes; "
                "run the test again to write the file anew"
            )


def _check_files(directory: Path, expected: list[Expected]) -> None:
    """Raise UserError unless every expected frame has a file of the right size."""
    if not expected:
        raise UserError(f"{directory}: the split has no frames; check data_path and the split of the label mapping")
    missing = [frame for frame, _ in expected if not prediction_path(directory, frame).is_file()]
    if missing:
        raise UserError(
            f"{prediction_path(directory, missing[0])}: missing, {len(missing)} of {len(expected)} frames in all; "
            "run the test over the whole split"
        )
    for frame, points in expected:
        path = prediction_path(directory, frame)
        size = path.stat().st_size
        if size % 4 or (points is not None and size != 4 * points):
            wanted = "whole points" if points is None else f"{points} points"
            raise UserError(f"{path}: {size} bytes, not {wanted} of 4 bytes; run the test again to write it anew")
