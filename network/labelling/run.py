"""The labelling of a list of scans: read ahead, fitted to the training, segmented, and written file by file."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import torch

from network.labelling.ahead import THREADS, ahead
from network.labelling.fits import Fits
from network.labelling.listed_scan import ListedScan, PastOf, PastScan, no_past
from network.preparing import Prepared
from network.result import Result
from network.segmenter import Segmenter
from utils import locations
from utils.errors import UserError, one_line
from utils.results.point_files import ENCODERS
from utils.results.prediction_records import PredictionRecords
from utils.scan.past_cloud import PastCloud
from utils.scan.point_cloud import PointCloud

_BATCH = {"cpu": 1, "cuda": 4}


@dataclass
class Outcome:
    """A count of the scans of one process: those labelled, and those that could not be.

    Attributes:
        labelled, skipped: number of scans that were labelled, and that were done already.
        seconds: time for those that were labelled, seconds.
        problems: a line for each scan that could not be labelled.
        failed: the targets of those scans.
    """

    labelled: int = 0
    skipped: int = 0
    seconds: float = 0.0
    problems: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)


Progress = Callable[[ListedScan, "Result | str | None"], object]
"""A function that is told of each scan when it is done: its result, what is wrong with it, or None if it was done."""

Keep = Callable[[Any, Result], object]
"""A function that takes a scan and its result, for whoever shows it later."""


class Labelling:
    """The work on a list of scans, which several processes may share.

    Args:
        segmenter: the network.
        read: reads a scan.
        fits: how scans are aligned.
        records: what is done already, and where files go.
        confidence: put the confidence of each point into files that can have it.
        keep: takes each result, for whoever shows it later; None: nobody does.
        past: lists the past of a scan.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        read: Callable[[Any], PointCloud],
        fits: Fits,
        records: PredictionRecords,
        confidence: bool,
        keep: Keep | None = None,
        past: PastOf = no_past,
    ) -> None:
        self._segmenter, self._read, self._fits, self._past = segmenter, read, fits, past
        self._records, self._confidence, self._keep = records, confidence, keep
        self._versions: dict[str, str] = {}

    def run(self, scans: Iterable[ListedScan], progress: Progress) -> Outcome:
        """Labels scans and writes their files. A scan that cannot be read is one line of `Outcome.problems`.

        Args:
            scans: the scans, in order.
            progress: called after each scan, with its result, with the line about what is wrong with it, or with None
                if it was done already.

        Raises:
            UserError: results cannot be written, are there already of other scans, or the network's outputs are NaN.
            OSError: results cannot be written.
        """
        outcome, kind = Outcome(), self._segmenter.device.type
        waiting: list[tuple[ListedScan, Prepared]] = []
        began = time.perf_counter()
        for scan, ready in ahead(self._ready, self._todo(scans, outcome, progress), THREADS.get(kind, 1)):
            if isinstance(ready, UserError):
                outcome.problems.append(one_line(ready))
                outcome.failed.append(scan.target)
                progress(scan, one_line(ready))
                continue
            waiting.append((scan, ready))
            if len(waiting) == _BATCH.get(kind, 1):
                self._segment(waiting, outcome, progress)
        if waiting:
            self._segment(waiting, outcome, progress)
        outcome.seconds = time.perf_counter() - began
        return outcome

    def _todo(self, scans: Iterable[ListedScan], outcome: Outcome, progress: Progress) -> Iterator[ListedScan]:
        for scan in scans:
            version = _version(scan, self._past(scan))  # before it is read
            if self._records.is_done(scan.target, scan.source, version):
                outcome.skipped += 1
                progress(scan, None)
            else:
                self._versions[scan.target] = version
                yield scan

    def _ready(self, scan: ListedScan) -> Prepared | UserError:
        try:
            past = read_past(self._past(scan), self._read)
            cloud, fit = self._read(scan), self._fits.of(scan)
            return self._segmenter.prepare(cloud, fit.alignment, fit.advice, past)
        except UserError as error:
            return error

    def _segment(self, waiting: list[tuple[ListedScan, Prepared]], outcome: Outcome, progress: Progress) -> None:
        began = time.perf_counter()
        try:
            results = self._segmenter.segment([ready for _, ready in waiting])
        except torch.OutOfMemoryError:
            if len(waiting) == 1:
                raise
            torch.cuda.empty_cache()
            results = [self._segmenter.segment([ready])[0] for _, ready in waiting]
        seconds = (time.perf_counter() - began) / len(waiting)
        for (scan, _), result in zip(waiting, results, strict=True):
            self._write(scan, result, seconds)
            if self._keep is not None:
                self._keep(scan, result)
            outcome.labelled += 1
            progress(scan, result)
        waiting.clear()

    def _write(self, scan: ListedScan, result: Result, seconds: float) -> None:
        began, records = time.perf_counter(), self._records
        records.begin(scan.target, scan.source, self._versions.pop(scan.target))
        contents = {suffix: ENCODERS[suffix](result, self._confidence) for suffix in records.suffixes}
        for suffix, content in contents.items():
            locations.write(records.file(scan.target, suffix), content)
        seconds += time.perf_counter() - began
        fit = self._fits.of(scan)
        records.finish(scan.target, scan.source, result, seconds, fit.alignment.flags(), fit.advice)


def read_past(past: Sequence[PastScan], read: Callable[[Any], PointCloud]) -> list[PastCloud]:
    """Reads past scans, the oldest first, as a bag is read; returns them in their order.

    One that cannot be read is left out, as one that is not there: it is named when its own turn comes.
    """
    found = []
    for one in reversed(past):
        with suppress(UserError):
            found.append(PastCloud(read(one.scan), one.motion, one.age))
    return found[::-1]


def _version(scan: ListedScan, past: Sequence[PastScan]) -> str:
    """Returns what changes when the file of a scan does, or its past: the files, the motions, the ages."""
    own = locations.version(scan.location)
    if not past:
        return own
    digest = hashlib.sha256()
    for one in past:
        facts = one.scan.source, locations.version(one.scan.location), one.motion.tolist(), one.age
        digest.update(repr(facts).encode("utf-8", "surrogateescape"))
    return f"{own}; {len(past)} past scans {digest.hexdigest()[:16]}"
