"""The corruption of one frame: it is read, corrupted and written, or only counted if its files exist."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dataloader.corruptions.families import CorruptedSubset
from dataloader.corruptions.sweep import Sweep
from dataloader.formats.files import read_bytes
from tools.corrupting.clean import CleanFrame, CleanSet, semantic
from utils.corruptions import CLEAN_FOLDER
from utils.errors import UserError
from utils.files import write_bytes


@dataclass(frozen=True)
class Corruptor:
    """A writer of frames of corrupted subsets; its output depends only on its fields and on the frame.

    Attributes:
        clean: the clean set, without its list of frames (it travels to the worker processes).
        family: "yan" or "robo3d".
        seed: seed of all random numbers.
        output: folder of the subsets.
        subsets: the subsets by name, without `CLEAN_FOLDER`.
    """

    clean: CleanSet
    family: str
    seed: int
    output: Path
    subsets: dict[str, CorruptedSubset]

    def __call__(self, job: tuple[str, CleanFrame]) -> FrameResult:
        """Writes one frame of one subset, unless it is finished, and counts its points.

        Raises:
            UserError: a file of the clean set is damaged, or no point is left.
        """
        name, frame = job
        scan, labels = self.files(name, frame)
        drawn = {} if name == CLEAN_FOLDER else self.subsets[name].draw(self.generator(name, frame))
        if not (scan.is_file() and labels.is_file()):
            write = self._write_clean if name == CLEAN_FOLDER else self._write_corrupted
            write(name, frame)
        before = self.clean.count(frame)
        after = np.fromfile(labels, self.clean.label_type)
        ignored = np.count_nonzero(self.clean.learning_ids(after) == 0)
        return FrameResult(len(after) / before - 1, ignored / len(after), drawn)

    def files(self, name: str, frame: CleanFrame) -> tuple[Path, Path]:
        """Returns the files of scan and labels of a frame in a subset."""
        return self.output / name / frame.scan_to, self.output / name / frame.labels_to

    def generator(self, name: str, frame: CleanFrame) -> np.random.Generator:
        """Makes the random number generator of a frame, which does not depend on processes or on other frames."""
        words = (self.family, self.clean.sensor.name, name, frame.key)
        return np.random.default_rng([self.seed, *(zlib.crc32(word.encode()) for word in words)])

    def _write_clean(self, name: str, frame: CleanFrame) -> None:
        scan, labels = self.files(name, frame)
        _, entries = self.clean.read(frame)  # raises a UserError if a file is damaged
        # A copy and no link: a change of one file must not change the other.
        write_bytes(scan, read_bytes(frame.scan, "scan").data)
        _write(labels, entries, self.clean.label_type)

    def _write_corrupted(self, name: str, frame: CleanFrame) -> None:
        subset, (scan, labels) = self.subsets[name], self.files(name, frame)
        sweep, entries = self.clean.read(frame)
        corrupted = subset.apply(sweep, self.generator(name, frame))
        if len(corrupted) == 0:
            raise UserError(f"{frame.scan}: no point is left of it in {name}; leave that subset out of --subsets")
        columns = [corrupted.xyz, corrupted.intensity]
        if self.clean.columns == 5:
            columns.append(corrupted.ring)
        _write(scan, np.column_stack(columns), "<f4")
        # The labels are written last: if they exist, the frame is finished.
        _write(labels, self._raw_labels(subset, corrupted, entries), self.clean.label_type)

    def _raw_labels(self, subset: CorruptedSubset, corrupted: Sweep, entries: np.ndarray) -> np.ndarray:
        kept = entries if subset.instances else semantic(entries)
        return np.where(corrupted.altered, subset.label, kept[corrupted.rows])


@dataclass(frozen=True)
class FrameResult:
    """The counts of a finished frame.

    Attributes:
        change: relative change of the number of points; -0.1: a tenth is lost.
        ignored: share of the remaining points that the metrics ignore, 0..1.
        drawn: parameters that were drawn for this frame, by name.
    """

    change: float
    ignored: float
    drawn: dict[str, float]


def _write(path: Path, values: np.ndarray, kind: str) -> None:
    write_bytes(path, values.astype(kind).tobytes())
