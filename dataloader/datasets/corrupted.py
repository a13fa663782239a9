"""Subsets of corrupted validation sets: what those of all data sets share, and the note of the tool that makes them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dataloader.corruptions.families import NOTE
from utils.errors import UserError
from utils.files import read_text
from utils.results.predictions import PredictionFiles, PredictionWriter, SubmissionWriter
from utils.scan.records import Frame, Scan, no_pixels


@dataclass(frozen=True)
class Origin:
    """The note that tools/make_corruptions.py writes beside the subsets it has made.

    Attributes:
        options: what decides their bytes: family, seed, mode, ...
        finished: names of the complete subsets, and how many scans each has; 0 if that is not noted.
    """

    options: dict[str, Any]
    finished: dict[str, int]

    @staticmethod
    def read(root: Path) -> Origin | None:
        """Reads the note of the subsets in `root`; None if there is no note, as in a published data set.

        Raises:
            UserError: the note is damaged.
        """
        path = root / NOTE
        if not path.exists():
            return None
        try:
            note = json.loads(read_text(path))
            finished = {name: int(entry.get("frames", 0)) for name, entry in note["subsets"].items()}
            return Origin(dict(note["options"]), finished)
        except (OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
            raise UserError(
                f"{path}: not readable as the note of tools/make_corruptions.py; make the subsets again elsewhere"
            ) from error


class CorruptedScans:
    """The scans of a subset that are there, without cameras; the sources of all layouts derive from it.

    Attributes:
        frames: every scan.
    """

    absent: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    num_cameras = 0
    frames: list[Frame]

    def __len__(self) -> int:
        return len(self.frames)

    def frame(self, index: int) -> Frame:
        """Tells which scan number `index` is; of nuScenes its scene, and the token of its LIDAR_TOP sample_data."""
        return self.frames[index]

    def _scan(
        self,
        frame: Frame,
        xyz: NDArray[np.float32],
        intensity: NDArray[np.float32],
        labels: NDArray[np.uint8],
        instances: NDArray[np.int32],
    ) -> Scan:
        count = len(xyz)
        return Scan(frame, xyz, intensity, labels, instances, np.arange(count, dtype=np.int64), no_pixels(count))


class SubsetFormat:
    """Predictions on a subset, filed as the subset itself is.

    Args:
        files: of its source.
    """

    def __init__(self, files: PredictionFiles) -> None:
        self._files = files

    def predictions(self, directory: Path) -> PredictionWriter:
        """Makes a sink that keeps the files."""
        return PredictionWriter(directory, self._files)

    def submission(self, directory: Path) -> SubmissionWriter:
        """Makes a sink that checks and zips them; no benchmark server takes them yet."""
        return SubmissionWriter(directory, self._files)


def no_labels(first: Path, lacking: int, count: int, name: str) -> UserError:
    """Makes the error about `lacking` of the `count` scans of a subset that have no labels, such as `first`."""
    return UserError(
        f"{first}: missing ({lacking} of {count} scans of {name} have no labels); unpack or make the subset again"
    )
