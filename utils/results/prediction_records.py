"""The notes beside predictions: what each was made of and how, so that a second run goes on where a first one ended."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from utils import locations
from utils.errors import UserError
from utils.results import bag_files
from utils.results.point_files import CONFIDENCE, FORMATS, PARTS, LabelledPoints

FOLDER = ".predict"
"""The folder of the notes on scans, below that of the results, and of the parts of bags."""

BAG_FOLDER = ".predict-bags"
"""The folder of the notes on bags, which may be called as scans are."""


@dataclass(frozen=True)
class PredictionRecord:
    """A frozen record of a labelled scan.

    Attributes:
        source: its file, as an absolute path or a URL, and for a bag the number of the scan in it.
        settings: what decides the labels: the checkpoint's digest, votes, precision, alignment, layout of the file.
        version: of its file, see `locations.version`, and of its past scans; a scan that has changed, or has another
            past, is labelled again.
        files: the suffixes of its files, of earlier runs too.
        former: the suffixes of files that may be there, but were made in another way or of another scan.
        points: number of points.
        unseen: number of those outside the volume of the network.
        seconds: time for labels and files, seconds; reading is done beside it.
        classes: name -> number of points, of the classes that occur.
        alignment: the flags that were applied, "" for none.
        advice: the flags that would put right what does not fit, "" for none; labels with an advice are probably wrong.
        complete: whether all files are there; a run that was ended while it wrote them has left this False.
        scans: of a bag: the targets of the scans that it holds.
    """

    source: str
    settings: dict[str, Any]
    files: tuple[str, ...]
    version: str = ""
    former: tuple[str, ...] = ()
    points: int = 0
    unseen: int = 0
    seconds: float = 0.0
    classes: dict[str, int] = field(default_factory=dict)
    alignment: str = ""
    advice: str = ""
    complete: bool = False
    scans: tuple[str, ...] = ()


class PredictionRecords:
    """The notes of a folder of results.

    Args:
        output: the folder, a path or a URL.
        settings: settings of this run, see `PredictionRecord`; None of a run that only looks.
        suffixes: suffixes of the files that this run makes of each scan.
        overwrite: take nothing as done.
        folder: the folder of the notes.
    """

    def __init__(
        self,
        output: str,
        settings: Mapping[str, Any] | None = None,
        suffixes: Sequence[str] = (),
        overwrite: bool = False,
        folder: str = FOLDER,
    ) -> None:
        self.output, self._settings, self.suffixes, self._overwrite = output, dict(settings or {}), suffixes, overwrite
        self._folder = folder

    def file(self, target: str, suffix: str) -> str:
        """Returns the location of a file of a scan; parts of bags lie in the folder of the notes."""
        below = f"{FOLDER}/{target}.{suffix}" if suffix in PARTS else f"{target}.{suffix}"
        return locations.join(self.output, below)

    def files(self, target: str) -> list[str]:
        """Returns the locations of the files of a scan."""
        return [self.file(target, suffix) for suffix in self.suffixes]

    @staticmethod
    def is_there(file: str) -> bool:
        """Returns whether there is such a file, or folder of a bag."""
        return locations.exists(file) or (file.endswith(".ros2") and locations.is_folder(file))

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

    def is_done(self, target: str, source: str, version: str = "") -> bool:
        """Returns whether all files of a scan are there, and were made of it in the way of this run.

        Args:
            target, source, version: of the scan; see `PredictionRecord`.

        Raises:
            UserError: files are there that were made of another scan or in another way, and may not be overwritten.
        """
        if self._overwrite:
            return False
        there = [file for file in self.files(target) if self.is_there(file)]
        if not there:
            return False
        found = self.find(target)
        if found is None:
            raise UserError(f"{there[0]}: is there already, and not from predict.py; {_WAYS_OUT}")
        if found.source != source:
            raise UserError(f"{there[0]}: is there already, of {found.source}; {_WAYS_OUT}")
        if not found.complete:
            return False
        changed = [key for key in self._settings if found.settings.get(key) != self._settings[key]]
        if changed and found.advice and set(changed) <= {"alignment", "fit"}:
            return False  # the advice is being followed
        if changed:
            raise UserError(f"{there[0]}: is there already, made with another {changed[0]}; {_WAYS_OUT}")
        return (
            len(there) == len(self.suffixes) and set(found.files).issuperset(self.suffixes) and found.version == version
        )

    def begin(self, target: str, source: str, version: str = "") -> None:
        """Notes that the files of a scan are being written."""
        found = self.find(target)
        files, former = list(self.suffixes), []
        if found is not None:
            alike = (found.source, found.version, found.settings) == (source, version, self._settings)
            other = _OF_CONFIDENCE if (CONFIDENCE in found.files) != (CONFIDENCE in files) else ()
            for suffix in found.files:
                (files if alike and found.complete and suffix not in other else former).append(suffix)
            former += found.former
        former = tuple(suffix for suffix in dict.fromkeys(former) if suffix not in files)
        self._write(target, PredictionRecord(source, self._settings, tuple(dict.fromkeys(files)), version, former))

    def finish(
        self, target: str, source: str, points: LabelledPoints, seconds: float, alignment: str, advice: str = ""
    ) -> None:
        """Notes that all files of a scan are there; see `PredictionRecord`."""
        begun = self.find(target)
        begun = begun or PredictionRecord(source, self._settings, tuple(self.suffixes))
        found = len(points), points.unseen, seconds, points.counts(), alignment, advice
        where = source, self._settings, begun.files, begun.version, begun.former
        self._write(target, PredictionRecord(*where, *found, complete=True))

    def begin_bag(self, target: str, source: str, version: str, scans: Sequence[str], advice: str) -> PredictionRecord:
        """Notes that the files of a bag are being written; `scans` are the targets of those in it."""
        files, former, found = tuple(self.suffixes), (), self.find(target)
        if found is not None:
            alike = (found.source, found.version, found.settings) == (source, version, self._settings)
            files = tuple(dict.fromkeys([*files, *(found.files if alike and found.complete else ())]))
            former = tuple(each for each in dict.fromkeys([*found.files, *found.former]) if each not in files)
        record = PredictionRecord(source, self._settings, files, version, former, advice=advice, scans=tuple(scans))
        self._write(target, record)
        return record

    def finish_bag(self, target: str, begun: PredictionRecord) -> None:
        """Notes that all files of a bag are there."""
        self._write(target, replace(begun, complete=True))

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
        return locations.join(self.output, f"{self._folder}/{target}.json")


_OF_CONFIDENCE = (CONFIDENCE, "ply")  # what --confidence changes
SUFFIXES = (CONFIDENCE, *FORMATS, *bag_files.FORMATS.values())
"""The suffixes of all files that may be made of scans, the longest first."""


class Results:
    """The files that predict.py has made, told by the notes beside them, in whichever folder they are.

    What has been looked up is remembered: `in` asks once for each folder.
    """

    def __init__(self) -> None:
        self._records: dict[str, list[PredictionRecords]] = {}

    def __contains__(self, location: str) -> bool:
        inner = locations.absolute(location)
        suffix = next((suffix for suffix in SUFFIXES if inner.endswith(f".{suffix}")), None)
        if suffix is None:
            return False
        stem = inner[: -len(suffix) - 1]
        folder = stem.rpartition("/")[0]
        while folder.rstrip("/") and not folder.endswith(":/"):
            for records in self._of(folder):
                found = records.find(stem[len(folder) + 1 :])
                if found is not None and suffix in (*found.files, *found.former):
                    return True
            folder = folder.rpartition("/")[0]
        return False

    def _of(self, folder: str) -> list[PredictionRecords]:
        if folder not in self._records:
            notes = [each for each in (FOLDER, BAG_FOLDER) if locations.is_folder(locations.join(folder, each))]
            self._records[folder] = [PredictionRecords(folder, folder=each) for each in notes]
        return self._records[folder]


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
        version=str(found["version"]),
        former=tuple(map(str, found["former"])),
        points=int(found["points"]),
        unseen=int(found["unseen"]),
        seconds=float(found["seconds"]),
        classes={str(name): int(points) for name, points in found["classes"].items()},
        alignment=str(found["alignment"]),
        advice=str(found["advice"]),
        complete=found["complete"] is True,
        scans=tuple(map(str, found.get("scans", ()))),
    )


def suffixes(formats: Sequence[str], confidence: bool) -> list[str]:
    """Returns the suffixes of the files of each scan: those of the formats, and the parts that bags are made of."""
    files = [name for name in formats if name in FORMATS]
    files += [CONFIDENCE] if files and confidence else []
    parts = PARTS[: 1 + confidence] if len(files) < len(formats) else ()
    return [*files, *parts]
