"""The poses of a SemanticKITTI sequence (poses.txt and calib.txt) -> the past scans of each scan, and their motion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dataloader.datasets.past_sweeps import PastSweep
from dataloader.datasets.semantickitti.calibration import lidar_poses, read_lidar_to_camera
from dataloader.datasets.semantickitti.frames import frame_numbers, numbered_by_name
from dataloader.formats.poses import read_poses
from utils.errors import UserError
from utils.names import shown
from utils.scan.motion import motion_between
from utils.scan.records import Frame


@dataclass(frozen=True)
class Track:
    """A frozen record of where the LiDAR was at the scans of a sequence.

    Attributes:
        frames: the scans by number (`frames.frame_numbers`); a number that is lacking is a gap.
        numbers: their numbers by name.
        poses: (lines, 4, 4) float64, L of each number, in the frame of the first.
    """

    frames: dict[int, Frame]
    numbers: dict[str, int]
    poses: NDArray[np.float64]

    @staticmethod
    def read(folder: Path, frames: Sequence[Frame]) -> Track:
        """Reads poses.txt and calib.txt in the folder of a sequence.

        Line i of poses.txt is the pose P of camera 0 at scan number i, and Tr of calib.txt leads from the LiDAR to
        camera 0. The pose of the LiDAR is L = Tr^-1 P Tr.

        Raises:
            UserError: a file is missing or damaged, or a scan has no line.
        """
        numbers = frame_numbers([frame.name for frame in frames])
        transform = read_lidar_to_camera(folder / "calib.txt")
        path = folder / "poses.txt"
        if not path.exists():
            raise UserError(
                f"{path}: cannot read the poses (no such file), which past scans need; unpack the SemanticKITTI label "
                "archive there, or set dataset_params.past_scans to 0"
            )
        poses = read_poses(path)
        _check_lines(path, len(poses), numbers)
        lidar = lidar_poses(poses, transform)
        return Track({numbers[f.name]: f for f in frames if f.name in numbers}, numbers, lidar)

    def spare_lines(self) -> str | None:
        """Describes lines of poses behind that of the last scan: these may be of a part of the data, or of another."""
        spare = len(self.poses) - 1 - max(self.numbers.values())
        lines = "line" if spare == 1 else "lines"
        return (
            f"has {spare} {lines} more than the last scan wants; are the poses of another sequence?" if spare else None
        )

    def past(self, frame: Frame, most: int) -> list[PastSweep]:
        """Lists the scans with the `most` numbers before that of a frame, the newest first, as far as they are there.

        A scan whose name is no number, beside others that are called by numbers, has none.
        """
        now = self.numbers.get(frame.name)
        if now is None:
            return []
        there = (number for number in range(now - 1, max(now - most, 0) - 1, -1) if number in self.frames)
        return [
            PastSweep(self.frames[number], now - number, motion_between(self.poses[number], self.poses[now]))
            for number in there
        ]


def _check_lines(path: Path, lines: int, numbers: dict[str, int]) -> None:
    last = max(numbers, key=numbers.__getitem__)
    if not numbered_by_name(numbers):
        if lines == len(numbers):
            return
        raise UserError(
            f"{path}: has {lines} lines for {len(numbers)} scans, whose names, such as {shown(last)}, are not their "
            "numbers; it wants as many lines as there are scans, or scans called 000000.bin, 000001.bin and so on by "
            "the number of their line"
        )
    if lines > numbers[last]:
        return
    raise UserError(
        f"{path}: has {lines} lines, but scan {last} wants line {numbers[last] + 1}: one line for each scan, from "
        "number 0 on, also for scans that are left out; take poses.txt of the SemanticKITTI label archive"
    )
