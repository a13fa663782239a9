"""What is done to one frame: read, corrupted, written; or found finished, and only counted."""

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
    """Writes frames of corrupted subsets; what it does to one depends on nothing but its fields and the frame.

    Attributes:
        clean: the clean set, without its list of frames (it travels to the worker processes).
        family: "yan" or "robo3d".
        seed: of all draws.
        output: folder of the subsets.
        subsets: by name; `CLEAN_FOLDER` is no key of it.
    """

    clean: CleanSet
    family: str
    seed: int
    output: Path
    subsets: dict[str, CorruptedSubset]

    def __call__(self, job: tuple[str, CleanFrame]) -> FrameResult:
        """One frame of one subset, unless it is finished.

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
        """Makes a frame's own random numbers, whichever process makes it and whatever was made before."""
        words = (self.family, self.clean.sensor.name, name, frame.key)
        return np.random.default_rng([self.seed, *(zlib.crc32(word.encode()) for word in words)])

    def _write_clean(self, name: str, frame: CleanFrame) -> None:
        scan, labels = self.files(name, frame)
        _, entries = self.clean.read(frame)  # complains if a file is damaged
        # A copy and no link: who writes into one tree does not change the other.
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
        # The labels come last: where they are, the frame is finished.
        _write(labels, self._raw_labels(subset, corrupted, entries), self.clean.label_type)

    def _raw_labels(self, subset: CorruptedSubset, corrupted: Sweep, entries: np.ndarray) -> np.ndarray:
        kept = entries if subset.instances else semantic(entries)
        return np.where(corrupted.altered, subset.label, kept[corrupted.rows])


@dataclass(frozen=True)
class FrameResult:
    """What became of a frame.

    Attributes:
        change: of the number of points, as a share of it.
        ignored: share of the points left over that the metrics ignore.
        drawn: parameters that were drawn for this frame.
    """

    change: float
    ignored: float
    drawn: dict[str, float]


def _write(path: Path, values: np.ndarray, kind: str) -> None:
    write_bytes(path, values.astype(kind).tobytes())
