"""The scans of a data set, as the viewer and the pictures want them: what all data sets share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from dataloader.corruptions.families import added_labels
from tools.viewing.predictions import Places, no_prediction, open_predictions
from utils.errors import UserError
from utils.labels import LabelMap
from utils.pictures.raster import ALTERED
from utils.scan.sensor import Sensor
from utils.viewer.records import ShownScan


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
    ) -> None:
        self.sensor, self.names, self.colors = sensor, shown.names, shown.colors
        self.num_classes = len(classes.names)
        self._classes, self._paths, self._places = classes, paths, places
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

    def read(self, index: int) -> ShownScan:
        """Reads a scan, with the predictions that there are of it.

        Raises:
            UserError: a file is missing or damaged, or a prediction has another number of points.
        """
        scan = self._read(index)
        found = {
            each.name: each.read(index, len(scan.xyz), self._paths[index], self._classes)
            for each in self.predictions
            if index not in each.lacking
        }
        return replace(
            scan,
            predictions={name: ids for name, (ids, _) in found.items()},
            confidences={name: confidence for name, (_, confidence) in found.items() if confidence is not None},
        )

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
