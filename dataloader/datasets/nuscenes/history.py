"""The sweeps before the key frames of a split: which they are, their motion, and whether their files are there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dataloader.datasets.nuscenes.build import build_sweeps_apart
from dataloader.datasets.nuscenes.index import SWEEPS, NuScenesIndex, open_index
from dataloader.datasets.nuscenes.sweeps import CUT
from dataloader.datasets.nuscenes.tables import LIDAR
from dataloader.datasets.past_sweeps import PastSweep
from dataloader.formats.files import file_sizes
from dataloader.formats.scan_check import NUSCENES, Notes, check_sizes
from utils.errors import UserError
from utils.names import checked_path
from utils.scan import sensor
from utils.scan.motion import motion_between
from utils.scan.records import Frame

OWN_CAR = sensor.NUSCENES.own_car
"""Half the edge, metres, of the square of returns of the own car, as in nuscenes-devkit's `from_file_multisweep`."""

_SECONDS = 1e-6  # in a microsecond


@dataclass(frozen=True)
class NuScenesSweep(PastSweep):
    """A frozen record of a sweep before a key frame.

    Attributes:
        lidarseg: the file of its labels below data_path; empty unless it is a key frame with labels.
    """

    lidarseg: str = ""


@dataclass(frozen=True)
class History:
    """The sweeps before the key frames of a split.

    Attributes:
        root: data_path.
        index: of all sweeps of the version.
        key_frames: the records of all key frames of the version; see `tables.key_frames`.
        rows: (scans,) int32, the row in the index of each scan of the split.
        most: number of sweeps before a scan, at least 1.
    """

    root: Path
    index: NuScenesIndex
    key_frames: NuScenesIndex
    rows: NDArray[np.int32]
    most: int

    @staticmethod
    def open(root: Path, version: str, key_frames: NuScenesIndex, scans: NDArray[np.int32], most: int) -> History:
        """Opens the index of sweeps, which is built if need be.

        Args:
            root: data_path.
            version: folder of the tables.
            key_frames: the index of key frames.
            scans: (scans,) row in it of each scan of the split.
            most: number of sweeps before a scan.

        Raises:
            UserError: a table is damaged, a scan has no pose, or the two indexes are not of the same tables.
        """
        folder = root / version
        index = open_index(folder, partial(build_sweeps_apart, root, version), SWEEPS)
        found = np.flatnonzero(index.records["frame"] >= 0)
        frames = index.records["frame"][found]
        of_frame = np.full(len(key_frames.records), -1, dtype=np.int32)
        if len(frames) and frames.max() >= len(of_frame):
            raise _foreign(index, key_frames)
        same = index.records["lidar"][found] == key_frames.records["lidar"][frames]
        of_frame[frames[same]] = found[same]
        rows = of_frame[scans]
        lacking = scans[rows < 0]
        if not len(lacking):
            return History(root, index, key_frames, rows, most)
        if not same.all():
            raise _foreign(index, key_frames)
        raise UserError(
            f"{folder / 'ego_pose.json'}: missing, or without the pose of {LIDAR} at {len(lacking)} of {len(scans)} "
            f"key frames, such as {_text(key_frames.records['token'][lacking[0]])}; unpack the metadata archive of "
            f"{version} again, or set past_sweeps to 0"
        )

    def look(self, split: str, version: str, notes: Notes) -> None:
        """Looks for the files of all sweeps that `past` names; notes where the tables break off.

        Raises:
            UserError: a file is missing, empty or no whole number of points, or the index names no such file.
        """
        records, row, reached, torn = self.index.records, self.rows, [], []
        for _ in range(self.most):
            before = records["previous"][row]
            torn.append(row[before == CUT])
            row = before[before >= 0]
            reached.append(row)
        torn = np.concatenate(torn)
        if len(torn):
            last = _text(records["lidar"][torn[0]])
            notes.add("cut", self.root / version / "sample_data.json", _broken_off(len(torn), len(self.rows), last))
        every = records["lidar"][np.unique(np.concatenate(reached))].tolist()
        names = [checked_path(_text(name), "filename", self.index.path or self.root) for name in every]
        sizes = file_sizes(self.root, names)
        missing = sorted(name for name in names if name not in sizes)
        if missing:
            raise UserError(
                f"{self.root / missing[0]}: missing ({len(missing)} of {len(names)} sweeps before the key frames of "
                f"{split} are); past_sweeps takes the sweeps between the key frames: unpack the file "
                f"blobs of {version}, or of each part the 'Lidar blobs only' ('Keyframe blobs only' lack them), into "
                f"{self.root}, or set past_sweeps to 0"
            )
        for name, size in sizes.items():
            if not size or size % NUSCENES.point_bytes:
                check_sizes(self.root / name, size, None, 0, NUSCENES)

    def past(self, scan: int) -> list[NuScenesSweep]:
        """Lists the sweeps before scan number `scan` of the split, the newest first."""
        now = self.index.records[self.rows[scan]]
        return [self._sweep(record, now) for record in self._before(now)]

    def _before(self, record: Any) -> Iterator[Any]:
        for _ in range(self.most):
            if record["previous"] < 0:
                return
            record = self.index.records[record["previous"]]
            yield record

    def _sweep(self, past: Any, now: Any) -> NuScenesSweep:
        key_frames: Any = self.key_frames.records
        path = self.root / past["lidar"].decode()
        name, lidarseg = path.name.removesuffix(".pcd.bin"), ""
        if past["frame"] >= 0 and (key := key_frames[past["frame"]])["lidar"] == past["lidar"]:
            name, lidarseg = key["token"].decode(), _text(key["lidarseg"])
        return NuScenesSweep(
            frame=Frame(key_frames[now["frame"]]["scene"].decode(), name, str(path)),
            age=int(now["time"] - past["time"]) * _SECONDS,
            motion=motion_between(past["pose"], now["pose"]),
            own_car=OWN_CAR,
            lidarseg=lidarseg,
        )


def _text(name: Any) -> str:
    return name.decode("ascii", errors="replace")


def _foreign(index: NuScenesIndex, key_frames: NuScenesIndex) -> UserError:
    return UserError(
        f"{index.path}: names other key frames than {key_frames.path}; remove both, and they are made of the tables "
        "again"
    )


def _broken_off(cut: int, scans: int, last: str) -> str:
    return (
        f"{cut} of {scans} scans have fewer sweeps before them: prev of a {LIDAR} record names none that is earlier in "
        f"its scene (that of {last}, for one)"
    )
