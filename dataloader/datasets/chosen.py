"""A part of the training scans, for training with few labels: the choice, and the source that has these scans alone."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from dataloader.datasets.past_sweeps import PastSweep, SourceWithPast
from dataloader.datasets.source import Source, SourceWithPictures
from utils.feature_files import FeatureFiles, Picture
from utils.scan.records import Frame, Scan

_SEED = 0  # of the choice; not that of a run, so that all runs of a study see the same scans
_GOLDEN = (math.sqrt(5) - 1) / 2


def chosen_number(number: int, fraction: float) -> int:
    """Returns how many of `number` scans a fraction of them are: rounded, at least one."""
    return max(1, round(number * fraction))


def evenly_chosen(number: int, fraction: float) -> list[int]:
    """Chooses a fraction of scans that are listed one drive after another, in ascending order.

    They lie evenly along every drive: neighbouring gaps are of three lengths at most, whatever the fraction (the
    three-distance theorem of steps by the golden ratio). A smaller fraction is part of a larger one. The choice depends
    on the arguments alone.

    Args:
        number: of scans, at least 1.
        fraction: above 0, up to 1.
    """
    start = np.random.default_rng(_SEED).random()
    # No gap between the first 2 n places is as long as 1 / n, so that by then every scan has had its turn.
    places = (start + _GOLDEN * np.arange(2 * number + 2)) % 1.0
    in_turn = dict.fromkeys((places * number).astype(np.int64).tolist())
    return sorted(list(in_turn)[: chosen_number(number, fraction)])


def frame_list(frames: Iterable[Frame]) -> str:
    """Writes the names of scans as a text: a line `<sequence>/<frame>` for each."""
    return "".join(f"{frame.sequence}/{frame.name}\n" for frame in frames)


def fingerprint(frames: Sequence[Frame]) -> str:
    """Describes which scans these are: their number, and the first digits of the SHA-256 of `frame_list`."""
    return f"{len(frames)} ({hashlib.sha256(frame_list(frames).encode()).hexdigest()[:8]})"


def choose(source: Source, fraction: float) -> Source:
    """Restricts a source of labelled scans to a fraction of them, as `evenly_chosen` has it."""
    indices = evenly_chosen(len(source), fraction)
    return _ChosenWithPast(source, indices) if isinstance(source, SourceWithPast) else _Chosen(source, indices)


class _Chosen:
    """Some of the scans of a source; see `Source`.

    Args:
        source: all scans.
        indices: their numbers there, ascending.
    """

    def __init__(self, source: Source, indices: Sequence[int]) -> None:
        self._source, self._indices = source, tuple(indices)

    @property
    def num_cameras(self) -> int:
        return self._source.num_cameras

    @property
    def absent(self) -> tuple[str, ...]:
        return self._source.absent

    @property
    def notes(self) -> tuple[str, ...]:
        return self._source.notes

    def __len__(self) -> int:
        return len(self._indices)

    def frame(self, index: int) -> Frame:
        return self._source.frame(self._indices[index])

    def read(self, index: int, camera: int | None = 0) -> Scan:
        return self._source.read(self._indices[index], camera)

    @property
    def features(self) -> FeatureFiles | None:
        return self._pictures.features

    @features.setter
    def features(self, features: FeatureFiles | None) -> None:
        self._pictures.features = features

    def picture(self, index: int, camera: int) -> Picture:
        return self._pictures.picture(self._indices[index], camera)

    def pixels_of(self, picture: Picture) -> NDArray[np.uint8]:
        return self._pictures.pixels_of(picture)

    @property
    def _pictures(self) -> SourceWithPictures:
        assert isinstance(self._source, SourceWithPictures)
        return self._source


class _ChosenWithPast(_Chosen):
    """Some of the scans of a source, with the sweeps before each of them.

    All these sweeps give their points, for points cost no labels; those that are not chosen themselves give no labels.
    """

    def __init__(self, source: SourceWithPast, indices: Sequence[int]) -> None:
        super().__init__(source, indices)
        self._sweeps = source
        self._labelled = {_name(source.frame(index)) for index in indices}

    def past(self, index: int) -> Sequence[PastSweep]:
        return self._sweeps.past(self._indices[index])

    def read_past(self, sweep: PastSweep, with_labels: bool) -> Scan:
        return self._sweeps.read_past(sweep, with_labels and _name(sweep.frame) in self._labelled)


def _name(frame: Frame) -> tuple[str, str]:
    return frame.sequence, frame.name
