"""Points of past scans, added to those of the scan that is shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from utils.scan.records import Scan, no_pixels
from utils.viewer.records import AgeUnit, ShownCamera, ShownScan


@dataclass(frozen=True)
class PastPoints:
    """A frozen record of the points of a past scan that are shown.

    Attributes:
        scan: the points, moved into the frame of the scan that is shown; labels are 0 where there are none.
        predictions: name -> (N,) learning ids, of that scan's own prediction.
        confidences: name -> (N,) float32, 0..1.
    """

    scan: Scan
    predictions: Mapping[str, NDArray[np.integer]]
    confidences: Mapping[str, NDArray[np.float32]]

    def prediction(self, name: str) -> NDArray[np.integer]:
        """Returns a prediction, (N,) learning ids; 0 where the past scan has none."""
        return self.predictions.get(name, np.zeros(len(self.scan), dtype=np.uint8))

    def confidence(self, name: str) -> NDArray[np.float32]:
        """Returns the confidence of a prediction, (N,) float32; NaN where it is not known."""
        return self.confidences.get(name, np.full(len(self.scan), np.nan, dtype=np.float32))


def with_past(shown: ShownScan, past: Sequence[PastPoints], unit: AgeUnit) -> ShownScan:
    """Returns a scan with the points of past ones after its own, and the age of each point.

    What is not known of the scan itself is not shown of past ones either.

    Args:
        shown: the scan, with intensity.
        past: the past scans; none gives every point of the scan the age 0.
        unit: of the ages.
    """
    scans = [each.scan for each in past]
    assert shown.intensity is not None
    return replace(
        shown,
        xyz=np.concatenate([shown.xyz, *(scan.xyz for scan in scans)]),
        intensity=np.concatenate([shown.intensity, *(scan.intensity for scan in scans)]),
        labels=None if shown.labels is None else np.concatenate([shown.labels, *(scan.labels for scan in scans)]),
        predictions={
            name: np.concatenate([ids, *(each.prediction(name) for each in past)])
            for name, ids in shown.predictions.items()
        },
        confidences={
            name: np.concatenate([values, *(each.confidence(name) for each in past)])
            for name, values in shown.confidences.items()
        },
        age=np.concatenate([np.zeros(len(shown.xyz), dtype=np.float32), *(scan.ages for scan in scans)]),
        age_unit=unit,
        cameras=[[_unseen(camera, sum(map(len, scans))) for camera in row] for row in shown.cameras],
    )


def _unseen(camera: ShownCamera, count: int) -> ShownCamera:
    """Returns a camera that does not see so many further points: its picture is of the scan itself."""
    picture = camera.picture
    return replace(camera, picture=replace(picture, pixels=np.concatenate([picture.pixels, no_pixels(count)])))
