"""The bags of labelled clouds that a run makes: one for each bag, and one for the files of one kind in a folder."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from dataloader.drives import Drives, numbered
from dataloader.inputs import InputScan, OpenFiles
from dataloader.target_names import possible, told_apart
from utils import locations
from utils.errors import UserError
from utils.results.prediction_records import PredictionRecords
from utils.scan.cloud_message import CloudMessage

_PERIOD = 10**8  # nanoseconds between scans whose times are not known: most sensors turn ten times a second
_TOPIC, _FRAME = "/points", "lidar"  # of files


@dataclass(frozen=True)
class PlannedBag:
    """A frozen record of a bag to be made.

    Attributes:
        target: where it goes below the output folder, without a suffix: "drive".
        recording: what its scans come from, see `InputScan.recording`.
        scans: the scans, in the order of the drive.
        stamps: the time of each, nanoseconds; scans of a bag have those of their messages.
    """

    target: str
    recording: str
    scans: tuple[InputScan, ...]
    stamps: tuple[int, ...]

    @property
    def source(self) -> str:
        """The name of the recording in notes."""
        return locations.absolute(self.recording)

    def version(self, records: PredictionRecords, done: Sequence[InputScan], confidence: bool) -> str:
        """Returns what changes when the content of the bag does: its scans, their files, past and times."""
        stamps = dict(zip(self.scans, self.stamps, strict=True))
        digest = hashlib.sha256(repr(confidence).encode())
        for scan in done:
            found = records.find(scan.target)
            facts = scan.source, found and found.version, stamps[scan]
            digest.update(repr(facts).encode("utf-8", "surrogateescape"))
        return digest.hexdigest()[:32]

    def messages(self, files: OpenFiles, done: Sequence[InputScan]) -> Iterator[tuple[InputScan, CloudMessage]]:
        """Reads scans again, one after the other, with all their fields.

        Raises:
            UserError: a file is damaged now.
        """
        stamps = dict(zip(self.scans, self.stamps, strict=True))
        for scan in done:
            found = files.message(scan) or CloudMessage.of_cloud(files.read(scan), _TOPIC, _FRAME, stamps[scan])
            yield scan, found


@dataclass(frozen=True)
class BagJob:
    """A frozen record of the bags that a run makes.

    Attributes:
        bags: the bags.
        records: what is done of them, and where they go; its suffixes are those of their formats.
        confidence: whether clouds have the confidences.
    """

    bags: Sequence[PlannedBag]
    records: PredictionRecords
    confidence: bool


def plan_bags(scans: Sequence[InputScan], drives: Drives) -> list[PlannedBag]:
    """Plans the bags of the scans of a run.

    Args:
        scans: all scans.
        drives: their times, where there are any.
    """
    recordings: dict[str, list[InputScan]] = defaultdict(list)
    for scan in scans:
        recordings[scan.recording].append(scan)
    names = [possible(_name(members)) for members in recordings.values()]
    targets = told_apart(names, beside=[scan.target for scan in scans])
    planned = []
    for target, (recording, members) in zip(targets, recordings.items(), strict=True):
        ordered = _stamped(members, drives)
        planned.append(PlannedBag(target, recording, tuple(ordered), tuple(ordered.values())))
    return planned


def check_bags(bags: Sequence[PlannedBag], records: PredictionRecords, overwrite: bool) -> None:
    """Checks that the bags of an earlier run may be replaced, before anything is labelled.

    Raises:
        UserError: a bag would be written over an input, over what another run has made, or over one that holds scans
            which are not among those of this run.
    """
    records.refuse_inputs([bag.target for bag in bags], [scan.location for bag in bags for scan in bag.scans])
    for bag in bags:
        records.is_done(bag.target, bag.source)
        found = records.find(bag.target)
        lost = sorted(set(found.scans if found else ()) - {scan.target for scan in bag.scans})
        if lost and not overwrite and any(map(records.is_there, records.files(bag.target))):
            raise UserError(
                f"{records.files(bag.target)[0]}: is there already, and holds {len(lost)} scans that are not named now "
                f"({lost[0]}); name them, too, or give --overwrite, or another --output"
            )


def _name(scans: Sequence[InputScan]) -> str:
    """Returns the folder of the results of a recording, or the name of a lone scan, or that of the scans' folder."""
    folders = {str(PurePosixPath(scan.target).parent) for scan in scans}
    if len(folders) == 1 and (folder := folders.pop()) != ".":
        return folder
    if len(scans) == 1:
        return scans[0].target
    return PurePosixPath(scans[0].recording.replace("\\", "/")).parent.name or "scans"


def _stamped(scans: Sequence[InputScan], drives: Drives) -> dict[InputScan, int]:
    """Puts scans in order, with their times: those of their poses, or ten a second by their numbers."""
    found, _ = numbered(scans)
    if len(found) < len(scans):  # beside numbers of six digits, other names have none
        found = dict(enumerate(scans))
    seconds = {scan: drives.seconds(scan) for scan in found.values()}
    stamps = {
        scan: number * _PERIOD if (time := seconds[scan]) is None else round(time * 1e9)
        for number, scan in found.items()
    }
    return dict(sorted(stamps.items(), key=lambda item: item[1]))
