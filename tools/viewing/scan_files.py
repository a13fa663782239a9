"""Point files of any format, with the labels that predict.py has written for them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from threading import Lock

import numpy as np

from dataloader.formats.layout import Layout
from dataloader.inputs import OpenFiles, find_inputs
from tools.viewing.frames import DiskFrames
from tools.viewing.predictions import Places
from utils.command.alignment_flags import parse_alignment
from utils.errors import UserError
from utils.labels import LabelMap
from utils.results.prediction_records import PredictionRecords, Results
from utils.scan.alignment import Alignment
from utils.scan.sensor import Sensor
from utils.viewer.records import ShownScan


class ScanFileFrames(DiskFrames):
    """The scans in files, folders and bags, in the order in which predict.py labels them.

    Args:
        inputs: what predict.py was given: the names of its results are made of it.
        layout: what the user says about the files.
        sensor: the sensor of the training, in whose frame the scans are.
        label_map: names, colours and raw ids of the classes.
        folders: folders that predict.py has written.

    Raises:
        UserError: there are no scans, or no predictions of them.
    """

    def __init__(
        self, inputs: Sequence[str], layout: Layout, sensor: Sensor, label_map: LabelMap, folders: Sequence[Path] = ()
    ) -> None:
        self._files, self._lock = OpenFiles(layout), Lock()
        self._results = [PredictionRecords(str(folder)) for folder in folders]
        found = find_inputs(inputs, self._files, Results().__contains__)
        if not found.scans:
            raise UserError(found.problems[0])
        self._scans, self._problems = found.scans, found.problems
        files = [(f"{scan.target}.label", f"{scan.target}.npy") for scan in self._scans]
        places = Places([""], files, made_by="predict.py")
        super().__init__(sensor, label_map, label_map, [scan.name for scan in self._scans], folders, places)

    def title(self, index: int) -> str:
        """Returns the title of a scan: its file, and for a bag its number there."""
        return self._scans[index].name

    def find(self, frame: str) -> int:
        """Finds the number of a scan by the name of its results, such as "drive/000012"; `frame` may be the number."""
        targets = [scan.target for scan in self._scans]
        if frame in targets:
            return targets.index(frame)
        if frame.isascii() and frame.isdecimal() and len(frame) < 10 and int(frame) < len(targets):
            return int(frame)
        raise UserError(
            f"--frame {frame}: there is no such scan; give a number from 0 to {len(targets) - 1}, or a name such as "
            f"{targets[0]}"
        )

    def notes(self) -> list[str]:
        """Returns lines about what cannot be shown, and about scans that are shown without a prediction."""
        return [*self._problems, *super().notes()]

    def no_labels(self, index: int) -> str | None:
        """Returns that there are no labels of such scans."""
        return f"{self._scans[index].name}: has no labels"

    def _read(self, index: int) -> ShownScan:
        with self._lock:  # one call at a time for each file
            cloud = self._files.read(self._scans[index])
        placed = self._alignment(index).apply(cloud, self.sensor, None)
        xyz = np.where(cloud.measured[:, None], placed.xyz, np.nan).astype(np.float32)  # only returns are shown
        return ShownScan(self.title(index), xyz, placed.intensity)

    def _alignment(self, index: int) -> Alignment:
        """Returns how predict.py has brought a scan into the frame of the training; where that is not noted, not."""
        for results in self._results:
            if (found := results.find(self._scans[index].target)) is not None:
                with suppress(ValueError):  # anybody may have edited the note
                    return parse_alignment(found.alignment)
        return Alignment()
