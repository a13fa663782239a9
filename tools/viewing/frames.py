"""The scans of a data set, as the viewer and the pictures want them: what all data sets share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dataloader.corruptions.families import added_labels
from dataloader.datasets.past_sweeps import PastSweep
from tools.viewing.past import PastPoints, with_past
from tools.viewing.predictions import Places, no_prediction, open_predictions
from utils.errors import UserError
from utils.labels import LabelMap
from utils.pictures.raster import ALTERED
from utils.scan.records import Scan
from utils.scan.sensor import Sensor
from utils.scan.volume import past_in_volume
from utils.viewer.records import AgeUnit, ShownScan


class DiskFrames(ABC):
    """Scans on disk with their predictions; they follow `utils.viewer.records.Frames`.

    Nothing is kept of a scan that was read, so that several threads may read at once.

    Args:
        sensor: the LiDAR of the scans.
        classes: the classes of the data set; predictions are read with it.
        shown: `classes`, and after them what corruptions add (`naming_added`).
        paths: the file of each scan, for messages.
        folders: folders of predictions.
        places: where predictions lie in them.
        ages: the unit of ages, where past scans are to be shown with each scan; None: each is shown alone.

    Raises:
        UserError: see `open_predictions`.
    """

    def __init__(
        self,
        sensor: Sensor,
        classes: LabelMap,
        shown: LabelMap,
        paths: Sequence[str],
        folders: Sequence[Path],
        places: Places,
        ages: AgeUnit | None = None,
    ) -> None:
        self.sensor, self.names, self.colors = sensor, shown.names, shown.colors
        self.num_classes = len(classes.names)
        self._classes, self._paths, self._places = classes, paths, places
        self._ages: AgeUnit | None = ages
        self._numbers = {path: number for number, path in enumerate(paths)}
        self.predictions = open_predictions(folders, places)

    def __len__(self) -> int:
        return len(self._paths)

    @abstractmethod
    def title(self, index: int) -> str:
        """Returns the title of a scan, without reading it."""

    @abstractmethod
    def find(self, frame: str) -> int:
        """Finds the number of the scan that --frame names.

        Raises:
            UserError: there is none.
        """

    @abstractmethod
    def no_labels(self, index: int) -> str | None:
        """Returns what is missing where a scan has no labels, for a message; None where it has some."""

    @abstractmethod
    def _read(self, index: int) -> ShownScan:
        """Reads a scan without predictions."""

    def _past(self, index: int) -> Sequence[PastSweep]:
        """Lists the past scans that are shown with a scan."""
        return ()

    def _read_past(self, sweep: PastSweep) -> Scan:
        """Reads a scan that `_past` names, in its own frame, with labels where there are some."""
        raise NotImplementedError

    def read(self, index: int) -> ShownScan:
        """Reads a scan, with the predictions that there are of it, and with past scans where they are to be shown.

        Raises:
            UserError: a file is missing or damaged, or a prediction has another number of points.
        """
        scan = self._read(index)
        predictions, confidences = self._predicted(index, len(scan.xyz))
        conditions = {each.name: each.conditions for each in self.predictions if each.name in predictions}
        scan = replace(scan, predictions=predictions, confidences=confidences, conditions=conditions)
        if self._ages is None:
            return scan
        return with_past(scan, [self._past_points(sweep) for sweep in self._past(index)], self._ages)

    def _past_points(self, sweep: PastSweep) -> PastPoints:
        measured = self._read_past(sweep)
        # Instances are not shown: in their place the column says which points of the file are left.
        moved = sweep.moved(replace(measured, instances=np.arange(len(measured), dtype=np.int32)))
        # Where the poses jump, the middle of what is shown would be far from the scan.
        moved = moved.select(past_in_volume(moved.xyz, (-np.inf,) * 3, (np.inf,) * 3))
        index, rows = self._numbers.get(sweep.frame.path), moved.instances
        predictions, confidences = ({}, {}) if index is None else self._predicted(index, len(measured))
        return PastPoints(
            moved,
            {name: ids[rows] for name, ids in predictions.items()},
            {name: values[rows] for name, values in confidences.items()},
        )

    def _predicted(self, index: int, count: int) -> tuple[dict[str, NDArray[np.uint8]], dict[str, NDArray[np.float32]]]:
        """Reads the predictions of a scan of `count` points, and their confidences, by name, where there are some."""
        found = {
            each.name: each.read(index, count, self._paths[index], self._classes)
            for each in self.predictions
            if index not in each.lacking
        }
        known = {name: confidence for name, (_, confidence) in found.items() if confidence is not None}
        return {name: ids for name, (ids, _) in found.items()}, known

    def notes(self) -> list[str]:
        """Returns lines about scans that are shown without a prediction."""
        return [
            f"{each.folder}: {len(each.lacking)} of {len(self)} scans have no prediction there, the first is "
            f"{each.files[min(each.lacking)]}; they are shown without one"
            for each in self.predictions
            if each.lacking
        ]

    def require(self, index: int) -> None:
        """Checks that a picture can be drawn of a scan: every prediction that is asked for, and labels without any.

        Raises:
            UserError: one is missing.
        """
        for each in self.predictions:
            if index in each.lacking:
                raise no_prediction(each, index, self._places)
        if not self.predictions and (missing := self.no_labels(index)) is not None:
            raise UserError(f"{missing}; give --predictions to draw those alone")


def naming_added(label_map: LabelMap, dataset: str) -> LabelMap:
    """Returns a label map in which points that corruptions of `dataset` add have own ids, after those of the classes.

    Their colour is white, and their names in the legend say that they are ignored.
    """
    names = {raw: f"{name} (added, ignored)" for raw, name in added_labels(dataset).items()}
    return label_map.adding(names, ALTERED)
