"""Thinning of past points by the class that an earlier prediction gave them, so that many past scans fit.

A past point is kept if the step of its class divides the age of its scan: 1 keeps the class in every past scan, 2 in
every second, and 0 in none. The predictions are the files that main.py writes with --save_prediction,
<folder>/sequences/<sequence>/predictions/<frame>.label, uint32 raw ids in the order of the points.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dataloader.formats.files import list_sizes, read_bytes
from utils.config.data import DatasetParams
from utils.errors import UserError
from utils.labels import LabelMap
from utils.paths import expand_home
from utils.scan.records import Frame

_KEY = "dataset_params.past_predictions"
_MOVING = range(252, 260)
_STEPS = {
    0: 0, 10: 0, 11: 2, 15: 2, 18: 2, 20: 2, 30: 2, 31: 2, 32: 2, 40: 0, 44: 4, 48: 4, 49: 4, 50: 0, 51: 4, 70: 0,
    71: 2, 72: 4, 80: 2, 81: 2, **dict.fromkeys(_MOVING, 1),
}  # fmt: skip
"""SemanticKITTI's raw id of a class -> its step. What is large and stands still says the same in every scan: roads,
buildings, vegetation and parked cars are left out, other ground comes every fourth scan. The track of what moves is
what past scans are for, and a fifth of a percent of the points: it is kept whole."""

_PLACES = ("", "sequences", "predictions/sequences", "submission/sequences")
"""Where the sequences may lie below the folder: itself, those of a test with all its results."""

_POINT_BYTES, _LABEL_BYTES = 16, 4


@dataclass(frozen=True)
class Thinning:
    """A frozen record of which past points are kept.

    Attributes:
        root: the folder with <sequence>/predictions.
        label_map: raw ids of the predictions to learning ids.
        steps: (K,) int64, the step of each learning id; 0: never kept.
    """

    root: Path
    label_map: LabelMap
    steps: NDArray[np.int64]

    @staticmethod
    def of(params: DatasetParams, label_map: LabelMap) -> Thinning | None:
        """Makes the thinning that `past_predictions` and `past_steps` ask for; None: past points stay as they are.

        Raises:
            UserError: there is no such folder, it has no predictions, a class has no usual step, or no point is kept.
        """
        if params.past_predictions is None or not params.past:
            return None
        thinning = Thinning(_root(params.past_predictions), label_map, _steps(params, label_map))
        if not any(thinning.keeps(age).any() for age in range(1, params.past + 1)):
            raise UserError(
                f"dataset_params.past_steps keep no class in any of {params.past} past scans; raise "
                f"dataset_params.past_scans to {thinning.steps[thinning.steps > 0].min()}, or lower the steps"
            )
        return thinning

    def keeps(self, age: float) -> NDArray[np.bool_]:
        """Tells, (K,) bool, which classes are kept in the scan that is `age` scans old."""
        return (self.steps > 0) & (age % np.maximum(self.steps, 1) == 0)

    def rows(self, frame: Frame, age: float, index: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Tells which points of a past scan are kept.

        Args:
            frame: the past scan.
            age: how old it is, in scans.
            index: (N,) int64, rows of its points in its file; a point with -1 is in no file and is kept.

        Returns:
            (N,) bool.

        Raises:
            UserError: the prediction is missing, damaged or of another scan.
        """
        path = self._path(frame)
        predicted = self._read(path)
        if index.size and index.max() >= len(predicted):
            raise _of_another_scan(path, len(predicted), int(index.max()) + 1)
        return self.keeps(age)[predicted][index] | (index < 0)

    def check(self, frames: Sequence[Frame]) -> None:
        """Looks for the predictions of all scans of a sequence, and into the first.

        Raises:
            UserError: one is missing, or has another number of points than its scan.
        """
        folder = self._path(frames[0]).parent
        there, scans = list_sizes(folder, ".label"), list_sizes(Path(frames[0].path).parent, ".bin")
        if lacking := [frame for frame in frames if frame.name not in there]:
            raise self._missing(lacking, len(frames))
        for frame in frames:
            labels, points = there[frame.name] / _LABEL_BYTES, scans[frame.name] // _POINT_BYTES
            if labels != points:
                raise _of_another_scan(self._path(frame), labels, points)
        self._read(self._path(frames[0]))

    def _path(self, frame: Frame) -> Path:
        return self.root / frame.sequence / "predictions" / f"{frame.name}.label"

    def _read(self, path: Path) -> NDArray[np.uint8]:
        """Reads the learning ids of a prediction, (N,) uint8; the upper half of an id may hold an instance."""
        content = read_bytes(path, "prediction")
        if content.size % _LABEL_BYTES:
            raise UserError(f"{path}: {content.size} bytes are no multiple of {_LABEL_BYTES}; predict the scan again")
        return self.label_map.learning_ids(content.view("<u2")[::2], path)

    def _missing(self, lacking: Sequence[Frame], count: int) -> UserError:
        sequence, scans = lacking[0].sequence, Path(lacking[0].path).parent
        return UserError(
            f"{self._path(lacking[0])}: missing ({len(lacking)} of {count} scans of sequence {sequence} have no "
            f"prediction); {_KEY} wants one for each scan, of every split that is read: {_command(self.root, scans)}"
        )


def _command(root: Path, scans: Path) -> str:
    """Returns the command that predicts the scans of a sequence, whatever its split."""
    target = root / scans.parent.name / "predictions"
    return shlex.join(["python", "predict.py", "--checkpoint", "CHECKPOINT", "--output", str(target), f"{scans}/*.bin"])


def _of_another_scan(path: Path, labels: float, points: int) -> UserError:
    return UserError(
        f"{path}: {labels:g} labels for {points} points; prediction and scan do not belong together or one is "
        "truncated: predict the scan again"
    )


def _root(name: str) -> Path:
    folder = expand_home(name, key=_KEY)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; {_KEY} names one of predictions: {_MADE_BY}")
    for place in _PLACES:
        if any((folder / place).glob("*/predictions")):
            return folder / place
    raise UserError(f"{folder}: holds no sequences/<sequence>/predictions, which {_KEY} names: {_MADE_BY}")


_MADE_BY = "python main.py --test --save_prediction --checkpoint CHECKPOINT makes them, for each split"


def _steps(params: DatasetParams, label_map: LabelMap) -> NDArray[np.int64]:
    """Returns the step of each learning id: as given, else as usual for its raw id."""
    if params.past_steps is not None:
        return np.array(params.past_steps, dtype=np.int64)
    raw = label_map.to_raw.tolist()
    if unusual := [number for number, name in enumerate(raw) if name not in _STEPS]:
        raise UserError(
            f"dataset_params.past_steps is wanted for these classes, one step for each of {len(raw)} learning ids: "
            f"{label_map.names[unusual[0]]} (raw id {raw[unusual[0]]}) has no usual step"
        )
    return np.array([_STEPS[name] for name in raw])
