"""The predictions of scans on disk: where their files lie below a folder, and how they are read, point by point.

A folder may be one of a test, of a submission, of a run of robust_test.py, or the --output of predict.py:

    *.label            uint32 raw id per point      predictions on SemanticKITTI, and of predict.py
    *.npy              (N,) raw ids                 of predict.py
    *_lidarseg.bin     uint8 learning id per point  predictions on nuScenes
    *.confidence.npy   (N,) float 0..1              beside any of them
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dataloader.formats.files import read_bytes
from utils.errors import UserError
from utils.files import require_regular
from utils.labels import RAW_IDS, LabelMap
from utils.results.conditions import conditions_of_prediction

MOST = 2
"""Predictions that can be shown beside each other."""

_TEST_FOLDERS = ("", "predictions", "submission")
"""What of the folder of a test holds predictions."""


@dataclass(frozen=True)
class Places:
    """A frozen record of where the predictions of scans lie below a folder of them.

    Attributes:
        folders: folders below it, the usual one first; "" for itself.
        files: for each scan the names that its file may have in them, the usual one first.
        subset: name of the corrupted subset that the scans are; "" for clean scans. robust_test.py has a folder of
            predictions for each subset, so that the folder of its run will do, too.
        made_by: what writes such files, for messages.
    """

    folders: Sequence[str]
    files: Sequence[Sequence[str]]
    subset: str = ""
    made_by: str = "a test or predict.py"

    def below(self, folder: Path) -> list[str]:
        """Lists the folders below `folder` in which the files may lie, in the order in which they are looked for."""
        of_subset = [f"{self.subset}/predictions"] if self.subset else []
        bases = [*_TEST_FOLDERS, *of_subset, f"subsets/{self.subset or 'clean'}/predictions"]
        return [os.path.join(folder, base, name) for base in bases for name in self.folders]


@dataclass(frozen=True)
class Predictions:
    """A frozen record of the predictions in one folder.

    Attributes:
        name: what tells them apart from others.
        folder: as it was given.
        files: the file of each scan, or where the usual one would be.
        lacking: the numbers of the scans that have none.
        conditions: of their scores, a line (`utils.results.conditions`).
    """

    name: str
    folder: Path
    files: Sequence[str]
    lacking: frozenset[int]
    conditions: str = ""

    def read(
        self, index: int, count: int, scan: str | Path, label_map: LabelMap
    ) -> tuple[NDArray[np.uint8], NDArray[np.float32] | None]:
        """Reads the prediction of a scan.

        Args:
            index: number of the scan, which must have one.
            count: its number of points.
            scan: its file, for messages.
            label_map: raw ids to learning ids.

        Returns:
            (count,) uint8 learning ids; (count,) float32 confidences, 0..1, or None where there are none.

        Raises:
            UserError: the file is damaged, or has another number of points than the scan.
        """
        path = Path(self.files[index])
        read = next(reader for suffix, reader in _READERS.items() if path.name.endswith(suffix))
        ids = read(path, count, scan, label_map)
        beside = path.with_name(f"{path.stem}.confidence.npy")
        return ids, _read_confidence(beside, count, scan) if beside.is_file() else None


def open_predictions(folders: Sequence[Path], places: Places) -> tuple[Predictions, ...]:
    """Finds the predictions of scans in folders.

    Args:
        folders: none, one or two of them.
        places: where the files of the scans lie in them.

    Raises:
        UserError: there are more, one is given twice, or one has no prediction of any of the scans.
    """
    if len(folders) > MOST:
        raise UserError(f"--predictions {folders[MOST]}: at most {MOST} predictions are shown beside each other")
    full = [Path(os.path.realpath(folder)) for folder in folders]
    if len(set(full)) < len(full):
        raise UserError(f"--predictions {folders[0]} {folders[1]}: the same folder twice; give two different ones")
    names = _told_apart(full) if len(full) > 1 else ["prediction"]
    return tuple(_find(name, folder, places) for name, folder in zip(names, folders, strict=False))


def no_prediction(predictions: Predictions, index: int, places: Places) -> UserError:
    """Makes the error that a scan has no prediction."""
    return UserError(
        f"{predictions.files[index]}: missing; --predictions must be a folder that {places.made_by} has written for "
        f"{places.subset or 'these scans'}"
    )


def _find(name: str, folder: Path, places: Places) -> Predictions:
    @cache
    def names_in(path: str) -> frozenset[str]:  # one look for each folder: a look for each file takes minutes
        return frozenset(os.listdir(path)) if os.path.isdir(path) else frozenset()

    def find(candidates: Sequence[str]) -> str | None:
        for base in there:
            for candidate in candidates:
                path = os.path.join(base, candidate)
                parent, file = os.path.split(path)
                if file in names_in(parent):
                    return path
        return None

    bases = places.below(folder)
    there = [base for base in bases if os.path.isdir(base)]
    found = [find(candidates) for candidates in places.files]
    usual = [os.path.join(bases[0], candidates[0]) for candidates in places.files]
    files = [path or instead for path, instead in zip(found, usual, strict=True)]
    lacking = {number for number, path in enumerate(found) if path is None}
    result = Predictions(name, folder, files, frozenset(lacking))
    if len(lacking) == len(files):
        raise no_prediction(result, 0, places)
    first = next(path for path in found if path is not None)
    return replace(result, conditions=conditions_of_prediction(Path(first)))


def _told_apart(folders: Sequence[Path]) -> list[str]:
    """Returns the last parts of paths in which they differ: "test_1" and "test_2" of test_1/predictions and so on."""
    parts = [folder.parts for folder in folders]
    while len({each[-1:] for each in parts}) == 1:
        parts = [each[:-1] for each in parts]
    return [each[-1] if each else os.sep for each in parts]


def _read_raw(path: Path, count: int, scan: str | Path, label_map: LabelMap) -> NDArray[np.uint8]:
    content = read_bytes(path, "predictions")
    if content.size != 4 * count:
        raise _unequal(path, content.size / 4, count, scan)
    return label_map.learning_ids(content.view("<u2")[::2], path)  # the upper half is the instance


def _read_array(path: Path, count: int, scan: str | Path, label_map: LabelMap) -> NDArray[np.uint8]:
    array = _load(path, count, scan, kinds="iu")
    if not ((array >= 0) & (array < RAW_IDS)).all():
        raise UserError(f"{path}: holds ids outside of 0 to {RAW_IDS - 1}; run predict.py again")
    return label_map.learning_ids(array.astype(np.uint16), path)


def _read_learning(path: Path, count: int, scan: str | Path, label_map: LabelMap) -> NDArray[np.uint8]:
    prediction = read_bytes(path, "predictions")
    if prediction.size != count:
        raise _unequal(path, prediction.size, count, scan)
    last = len(label_map.names) - 1
    if prediction.max() > last:
        raise UserError(f"{path}: class {prediction.max()} is none of 1 to {last}; run the test again")
    return prediction


_READERS: dict[str, Callable[[Path, int, str | Path, LabelMap], NDArray[np.uint8]]] = {
    "_lidarseg.bin": _read_learning,
    ".label": _read_raw,
    ".npy": _read_array,
}
"""End of the file name -> (file, points of the scan, file of the scan, label map) to learning ids."""


def _read_confidence(path: Path, count: int, scan: str | Path) -> NDArray[np.float32]:
    array = np.nan_to_num(_load(path, count, scan, kinds="f").astype(np.float32), nan=0.0)
    if not ((array >= 0) & (array <= 1)).all():
        raise UserError(f"{path}: holds confidences outside of 0 to 1; run predict.py again")
    return array


def _load(path: Path, count: int, scan: str | Path, kinds: str) -> NDArray[Any]:
    """Reads a `.npy` file of one number for each of `count` points."""
    try:
        require_regular(path)
        # Mapped, since what the header says of the size is checked against the file then.
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError, SyntaxError, TypeError, MemoryError, OverflowError) as error:
        raise UserError(f"{path}: cannot be read as a .npy array of numbers; write it again") from error
    if not isinstance(array, np.ndarray) or array.ndim != 1 or array.dtype.kind not in kinds:
        raise UserError(f"{path}: must hold one number for each point, an array (N,); write it again")
    if len(array) != count:
        raise _unequal(path, len(array), count, scan)
    return np.array(array)


def _unequal(path: Path, found: float, count: int, scan: str | Path) -> UserError:
    return UserError(f"{path}: {found:g} predictions for {count} points of {scan}; they belong to other data")
