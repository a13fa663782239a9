"""Drives: the listed scans that one sensor took one after the other, with its poses, from which each has its past.

A drive is the files of one kind in a folder, or a bag. Its scans are numbered by their names, as those of KITTI are, or
in their order where the names are no numbers. A line of the file of poses belongs to a scan by its number, from 0 on,
or, where there are as many lines as scans, by its place.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray

from dataloader.datasets.semantickitti.calibration import lidar_poses, read_lidar_to_camera
from dataloader.datasets.semantickitti.frames import frame_numbers
from dataloader.formats.poses import read_times, read_trajectory
from dataloader.inputs import InputScan, at_location
from utils import locations
from utils.errors import UserError
from utils.paths import expand_home
from utils.scan.motion import Motion
from utils.scan.trajectory import Ages, Trajectory

_SAID = 3  # drives that get a line each
_DIGITS = re.compile(r"(\D*)(\d+)(\D*)", re.ASCII)


@dataclass(frozen=True)
class PastInput:
    """A frozen record of a listed scan as the past of another one.

    Attributes:
        scan: which scan it is.
        motion: from its frame to that of the other one.
        age: how old it is then; see `utils.scan.records.Scan.age`.
    """

    scan: InputScan
    motion: Motion
    age: float


@dataclass(frozen=True)
class Drive:
    """A frozen record of the scans of a drive and where the sensor was.

    Attributes:
        scans: the scans by number; a number that is lacking is a gap.
        rows: the row of each number in the trajectory.
        trajectory: the poses of the sensor.
    """

    scans: dict[int, InputScan]
    rows: dict[int, int]
    trajectory: Trajectory

    def before(self, now: int, most: int, ages: Ages) -> list[PastInput]:
        """Lists the scans with the `most` numbers before `now` as far as they are there, the newest first."""
        return [
            PastInput(
                self.scans[past], self.trajectory.motion(self.rows[past], self.rows[now]), self._age(past, now, ages)
            )
            for past in range(now - 1, now - most - 1, -1)
            if past in self.scans
        ]

    def _age(self, past: int, now: int, ages: Ages) -> float:
        return float(now - past) if ages == "scans" else self.trajectory.seconds(self.rows[past], self.rows[now])


class Drives:
    """The drives of a run: the past of each of its scans.

    Args:
        drives: the drives.
        most: a past scan has one of so many numbers before that of the scan.
        ages: the unit of the ages.
    """

    def __init__(self, drives: Sequence[Drive] = (), most: int = 0, ages: Ages = "scans") -> None:
        self._drives, self._most = drives, most
        self._ages: Ages = ages
        self._places = {
            (scan.location, scan.index): (place, number)
            for place, drive in enumerate(drives)
            for number, scan in drive.scans.items()
        }

    @property
    def most(self) -> int:
        """The largest number of past scans that one may have."""
        return self._most if self._drives else 0

    def past(self, scan: InputScan) -> list[PastInput]:
        """Lists the scans before a scan, the newest first; none is from the future, or of another drive."""
        place = self._places.get((scan.location, scan.index))
        return [] if place is None else self._drives[place[0]].before(place[1], self._most, self._ages)

    def seconds(self, scan: InputScan) -> float | None:
        """Returns the time of a scan, seconds; None: it is not known."""
        if (place := self._places.get((scan.location, scan.index))) is None:
            return None
        drive = self._drives[place[0]]
        times = drive.trajectory.times
        return None if times is None else float(times[drive.rows[place[1]]])

    def ordered(self, scans: Sequence[InputScan]) -> tuple[InputScan, ...]:
        """Puts scans into the order in which they were taken, drive after drive; those without a number come first."""
        return tuple(sorted(scans, key=lambda scan: self._places.get((scan.location, scan.index), (-1, 0))))


def find_drives(
    scans: Sequence[InputScan],
    poses: Sequence[str],
    times: Sequence[str],
    most: int,
    ages: Ages,
    say: Callable[[str], object],
) -> Drives:
    """Reads the poses of the drives of a run.

    Args:
        scans: all scans of the run.
        poses: the files of poses: one for each drive, in the order of the scans, or the name alone of the file that
            lies in the folder of each drive or beside it.
        times: files of times in the same way; none: the poses may have them.
        most: number of past scans.
        ages: the unit of the ages.
        say: takes lines for the user.

    Raises:
        UserError: there are more or fewer files than drives, one is missing or damaged or does not fit the scans, or
            the ages are seconds and nothing tells them.
    """
    grouped: dict[str, list[InputScan]] = defaultdict(list)
    for scan in scans:
        grouped[scan.recording].append(scan)
    folders = {recording: _folder_of(members[0]) for recording, members in grouped.items()}
    pose_files = _files("poses", poses, folders)
    time_files = _files("times", times, folders) if times else {}
    drives = []
    for place, (recording, members) in enumerate(grouped.items()):
        file = pose_files[recording]
        trajectory, frame = _read_poses(file)
        if recording in time_files:
            trajectory = replace(trajectory, times=_times(time_files[recording], file, len(trajectory)))
        if ages == "seconds" and trajectory.times is None:
            raise UserError(
                f"{file}: the network has learned ages in seconds, and this form has no times; give them with --times "
                "times.txt (a line of seconds for each pose), or poses in the form of TUM (time x y z qx qy qz qw)"
            )
        drive, lines = _drive(members, trajectory, file)
        drives.append(drive)
        if place < _SAID:
            more = f" (and {len(grouped) - _SAID} drives more)" if place == _SAID - 1 and len(grouped) > _SAID else ""
            say(f"{file}: {len(trajectory)} poses for {recording}{more}, {lines}, {frame}")
    return Drives(drives, most, ages)


def poses_nearby(scans: Sequence[InputScan]) -> str | None:
    """Returns a file that may hold the poses of scans, poses.txt in their folder or beside it; None: there is none."""
    return next((file for scan in scans[:1] if (file := _beside("poses.txt", _folder_of(scan)))), None)


def _files(what: str, given: Sequence[str], folders: dict[str, str]) -> dict[str, str]:
    """Finds the file of each recording.

    Args:
        what: the name of the flag.
        given: its values.
        folders: recording -> its folder.
    """
    named = [file if locations.is_url(file) else str(expand_home(file, f"--{what}")) for file in given]
    if len(named) == len(folders) and not (len(named) == 1 and _is_bare(named[0]) and not locations.exists(named[0])):
        return dict(zip(folders, named, strict=True))
    if len(named) == 1 and _is_bare(named[0]):
        found = {recording: _beside(named[0], folder) for recording, folder in folders.items()}
        if lacking := [recording for recording, file in found.items() if file is None]:
            raise UserError(
                f"--{what} {named[0]}: there is no such file here, nor in the folder of {lacking[0]} or beside it; "
                "name the file"
            )
        return {recording: file for recording, file in found.items() if file is not None}
    listed = ", ".join(list(folders)[:4]) + (" and more" if len(folders) > 4 else "")
    raise UserError(
        f"--{what} names {len(named)} file{'s' if len(named) != 1 else ''}, and the scans are of {len(folders)} drives "
        f"({listed}); name one for each, in this order (--{what} a.txt --{what} b.txt), or the name alone of the file "
        f"that lies in or beside each folder (--{what} {what}.txt)"
    )


def _is_bare(name: str) -> bool:
    return not {"/", "\\", ":"} & set(name)


def _folder_of(scan: InputScan) -> str:
    """Returns the folder that a scan lies in, or the folder of its bag."""
    return scan.location.rstrip("/").replace("\\", "/").rpartition("/")[0] or "."


def _beside(name: str, folder: str) -> str | None:
    """Returns the file in a folder or in the one above, whichever is there first."""
    upper, slash, last = folder.rpartition("/")
    above = f"{folder}/.." if last in (".", "..") else upper or slash or "."
    places = [locations.join(place, name) for place in (folder, above)]
    return next((place for place in places if locations.exists(place)), None)


def _read_poses(file: str) -> tuple[Trajectory, str]:
    """Reads poses, and says of what they are: of the sensor, or of camera 0, from which Tr of calib.txt leads to it."""
    with locations.on_disk(file) as path:
        try:
            trajectory = read_trajectory(path)
        except UserError as error:
            raise at_location(file, path, error) from error
    calib = locations.join(file.replace("\\", "/").rpartition("/")[0] or ".", "calib.txt")
    if trajectory.times is not None:
        return trajectory, "taken for those of the sensor itself, with their times"
    if not locations.exists(calib):
        return trajectory, (
            "taken for those of the sensor itself, since no calib.txt lies beside the file (the poses of KITTI are of "
            "camera 0: put its calib.txt there)"
        )
    with locations.on_disk(calib) as path:
        try:
            transform = read_lidar_to_camera(path)
        except UserError as error:
            raise at_location(calib, path, error) from error
    of_lidar = lidar_poses(trajectory.poses, transform)
    said = f"taken for those of camera 0, from which Tr of {calib} leads to the LiDAR; if not, keep calib.txt elsewhere"
    return replace(trajectory, poses=of_lidar), said


def _times(file: str, poses: str, count: int) -> NDArray[np.float64]:
    with locations.on_disk(file) as path:
        try:
            times = read_times(path)
        except UserError as error:
            raise at_location(file, path, error) from error
    if len(times) != count:
        raise UserError(f"{file}: has {len(times)} times, and {poses} has {count} poses; it wants one for each")
    return times


def _drive(scans: Sequence[InputScan], trajectory: Trajectory, file: str) -> tuple[Drive, str]:
    """Puts scans and poses together, and says how."""
    by_number, are_named = numbered(scans)
    last, count = max(by_number), len(trajectory)
    if count == len(by_number):
        rows, said = {number: row for row, number in enumerate(by_number)}, "one for each scan"
    elif are_named and last < count:
        rows, said = {number: number for number in by_number}, "one for each number from 0 on"
    else:
        or_number = ", or for each number from 0 on" if are_named else ""
        raise UserError(
            f"{file}: has {count} poses, and there are {len(by_number)} scans, the last is {by_number[last].name}; it "
            f"wants one pose for each scan{or_number}"
        )
    return Drive(by_number, rows, trajectory), said


def numbered(scans: Sequence[InputScan]) -> tuple[dict[int, InputScan], bool]:
    """Numbers the scans of a drive by their names, or by their order where the names are no numbers.

    Returns:
        number -> scan, ascending, and whether the numbers are in the names. Beside scans that are called by numbers of
        six digits, others have no number.
    """
    if scans[0].recording == scans[0].location:  # a bag
        return {scan.index: scan for scan in scans}, False
    names = _names(scans)
    numbers = frame_numbers(names)
    if len(set(names)) == len(names) and all(name.isdecimal() and int(name) == numbers[name] for name in numbers):
        found = {numbers[name]: scan for name, scan in zip(names, scans, strict=True) if name in numbers}
        return dict(sorted(found.items())), True
    return dict(enumerate(sorted(scans, key=lambda scan: _natural(scan.location)))), False


def _names(scans: Sequence[InputScan]) -> list[str]:
    """Returns the names of scans without suffix, and without a text that is the same before or behind all numbers."""
    stems = [PurePosixPath(scan.location.rpartition("/")[2]).stem.removesuffix(".pcd") for scan in scans]
    parts = [_DIGITS.fullmatch(stem) for stem in stems]
    if all(parts) and len({(part[1], part[3]) for part in parts if part}) == 1:
        return [part[2] for part in parts if part]
    return stems


def _natural(name: str) -> list[tuple[int, str]]:
    """Returns what names are sorted by so that 2 comes before 10."""
    return [(int(text), "") if text.isdecimal() else (-1, text) for text in re.split(r"(\d+)", name, flags=re.ASCII)]
