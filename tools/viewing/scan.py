"""The record of a scan to draw, of any data set, and the functions that its readers share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dataloader.corruptions.families import added_labels
from utils.errors import UserError
from utils.labels import LabelMap
from utils.pictures.raster import ALTERED, CameraPicture
from utils.pictures.scans import draw_scan
from utils.scan.sensor import Sensor


@dataclass(frozen=True)
class ShownScan:
    """A scan with all that is known of it, at least labels or a prediction.

    Attributes:
        title: title of the picture, which names the scan.
        xyz: (N, 3) float32 metres, frame of the sensor.
        sensor: sensor of the scan.
        labels, prediction: (N,) learning ids, or None.
        label_map: names and colours; also of points that a corruption has added (`naming_added`).
        num_classes: number K of classes, the ignored class 0 included.
        cameras: rows of pictures, laid out like the cameras on the car; empty if they are not on disk.
    """

    title: str
    xyz: NDArray[np.float32]
    sensor: Sensor
    labels: NDArray[np.integer] | None
    prediction: NDArray[np.integer] | None
    label_map: LabelMap
    num_classes: int
    cameras: Sequence[Sequence[CameraPicture]] = ()

    def draw(self, output: Path) -> None:
        """Draws the scan from above, as the sensor sees it, and over the camera pictures, into a PNG."""
        draw_scan(
            self.xyz,
            self.sensor,
            self.labels,
            self.prediction,
            self.label_map.colors,
            self.label_map.names,
            output,
            self.cameras,
            title=self.title,
            num_classes=self.num_classes,
        )


def naming_added(label_map: LabelMap, dataset: str) -> LabelMap:
    """Returns a label map in which points that corruptions of `dataset` add have own ids, after those of the classes.

    Their colour is white, and their names in the legend say that they are ignored.
    """
    names = {raw: f"{name} (added, ignored)" for raw, name in added_labels(dataset).items()}
    return label_map.adding(names, ALTERED)


def find_prediction(folder: Path, names: Sequence[str], subset: str = "") -> Path:
    """Finds the file with the prediction of a scan.

    Args:
        folder: folder to search.
        names: possible paths of the file below the folder of one test, the usual one first.
        subset: name of a subset of a corrupted set. robust_test.py has a folder of predictions for each, so `folder`
            may also be the folder of its run, or `subsets` in it.

    Raises:
        UserError: there is no such file.
    """
    of_subset = (folder / subset / "predictions", folder / "subsets" / subset / "predictions") if subset else ()
    for base in (folder, *of_subset):
        for name in names:
            if (base / name).is_file():
                return base / name
    raise UserError(
        f"{folder / names[0]}: missing; --predictions must be a folder of predictions or of a submission that a test "
        f"of {subset or 'these scans'} has written"
    )
