"""The notes beside predictions: what each was made of and how, so that a second run goes on where a first one ended."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from utils import locations
from utils.errors import UserError
from utils.results.point_files import FORMATS, LabelledPoints

FOLDER = ".predict"
"""The folder of the notes, below that of the results."""


@dataclass(frozen=True)
class PredictionRecord:
    """A frozen record of a labelled scan.

    Attributes:
        source: its file, and for a bag the number of the scan in it.
        settings: what decides the labels: the checkpoint's digest, votes, precision, alignment, layout of the file.
        files: the suffixes of its files, of earlier runs too.
        points: number of points.
        unseen: number of those outside the volume of the network.
        seconds: time for labels and files, seconds; reading is done beside it.
        classes: name -> number of points, of the classes that occur.
        alignment: the flags that were applied, "" for none.
        complete: whether all files are there; a run that was ended while it wrote them has left this False.
    """

    source: str
    settings: dict[str, Any]
    files: tuple[str, ...]
    points: int = 0
    unseen: int = 0
    seconds: float = 0.0
    classes: dict[str, int] = field(default_factory=dict)
    alignment: str = ""
    complete: bool = False


class PredictionRecords:
    """The notes of a folder of results.

    Args:
        output: the folder, a path or a URL.
        settings: settings of this run, see `PredictionRecord`; None of a run that only looks.
        suffixes: suffixes of the files that this run makes of each scan.
        overwrite: take nothing as done.
    """

    def __init__(
        self,
        output: str,
        settings: Mapping[str, Any] | None = None,
        suffixes: Sequence[str] = (),
        overwrite: bool = False,
    ) -> None:
        self.output, self._settings, self._suffixes, self._overwrite = output, dict(settings or {}), suffixes, overwrite

    def files(self, target: str) -> list[str]:
        """Returns the locations of the files of a scan."""
        return [locations.join(self.output, f"{target}.{suffix}") for suffix in self._suffixes]

    def is_result(self, location: str) -> bool:
        """Returns whether a file is one that predict.py has made in this folder."""
        inner, outer = locations.absolute(location), locations.absolute(self.output).rstrip("/") + "/"
        suffix = next((suffix for suffix in SUFFIXES if inner.endswith(f".{suffix}")), None)
        if suffix is None or not inner.startswith(outer):
            return False
        found = self.find(inner[len(outer) : -len(suffix) - 1])
        return found is not None and suffix in found.files

    def refuse_inputs(self, targets: Iterable[str], inputs: Iterable[str]) -> None:
        """Refuses to write results over the scans that they are made of, also with `overwrite`.

        Raises:
            UserError: a result would be written over one of `inputs`.
        """
        sources = {locations.absolute(location): location for location in inputs}
        for target in targets:
            for file in self.files(target):
                if (source := sources.get(locations.absolute(file))) is not None:
                    raise UserError(f"{source}: its labels would be written over it; choose another --output")

    def is_done(self, target: str, source: str) -> bool:
        """Returns whether all files of a scan are there, and were made of it in the way of this run.

        Raises:
            UserError: files are there that were made of another scan or in another way, and may not be overwritten.
        """
        if self._overwrite:
            return False
        there = [file for file in self.files(target) if locations.exists(file)]
        if not there:
            return False
        found = self.find(target)
        if found is None:
            raise UserError(f"{there[0]}: is there already, and not from predict.py; {_WAYS_OUT}")
        if found.source != source:
            raise UserError(f"{there[0]}: is there already, of {found.source}; {_WAYS_OUT}")
        if not found.complete:
            return False
        if changed := [key for key in self._settings if found.settings.get(key) != self._settings[key]]:
            raise UserError(f"{there[0]}: is there already, made with another {changed[0]}; {_WAYS_OUT}")
        return len(there) == len(self._suffixes)

    def begin(self, target: str, source: str) -> None:
        """Notes that the files of a scan are being written."""
        found = self.find(target)
        before = () if found is None or found.source != source else found.files
        files = tuple(dict.fromkeys([*before, *self._suffixes]))
        self._write(target, PredictionRecord(source, self._settings, files))

    def finish(self, target: str, source: str, points: LabelledPoints, seconds: float, alignment: str) -> None:
        """Notes that all files of a scan are there; see `PredictionRecord`."""
        begun = self.find(target)
        files = tuple(self._suffixes) if begun is None else begun.files
        found = len(points), points.unseen, seconds, points.counts(), alignment
        self._write(target, PredictionRecord(source, self._settings, files, *found, complete=True))

    def _write(self, target: str, record: PredictionRecord) -> None:
        locations.write(self._note(target), (json.dumps(asdict(record)) + "\n").encode())

    def find(self, target: str) -> PredictionRecord | None:
        """Returns the note of a scan; None: there is none, or it is damaged."""
        note = self._note(target)
        if not locations.exists(note):
            return None
        try:
            return _checked(json.loads(locations.read(note)))
        except (ValueError, TypeError, KeyError, RecursionError):
            return None

    def _note(self, target: str) -> str:
        return locations.join(self.output, f"{FOLDER}/{target}.json")


CONFIDENCE = "confidence.npy"
SUFFIXES = (CONFIDENCE, *FORMATS)
"""The suffixes of all files that may be made of a scan, the longest first."""

_WAYS_OUT = "give --overwrite, or another --output"


def _checked(found: Any) -> PredictionRecord:
    """Returns the record of values from a file.

    Raises:
        TypeError, KeyError, ValueError: a value is missing or of another type.
    """
    return PredictionRecord(
        source=str(found["source"]),
        settings=dict(found["settings"]),
        files=tuple(map(str, found["files"])),
        points=int(found["points"]),
        unseen=int(found["unseen"]),
        seconds=float(found["seconds"]),
        classes={str(name): int(points) for name, points in found["classes"].items()},
        alignment=str(found["alignment"]),
        complete=found["complete"] is True,
    )
