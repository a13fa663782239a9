"""The scores of a single scan, for the legend and for the search for the worst."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from utils.viewer.coloring import judged_labels, points_of
from utils.viewer.records import ShownScan


@dataclass(frozen=True)
class Counts:
    """A frozen record of the judged points of a scan, or of several; entry c of each array is learning id c.

    Attributes:
        hits: (K,) int64, points of a class that are predicted as such.
        true: (K,) int64, points of a class in the truth.
        predicted: (K,) int64, points that are predicted as a class, those without truth left out.
    """

    hits: NDArray[np.int64]
    true: NDArray[np.int64]
    predicted: NDArray[np.int64]

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.hits + other.hits, self.true + other.true, self.predicted + other.predicted)

    @property
    def wrong(self) -> NDArray[np.int64]:
        """Points of a class that are predicted as another, and points of others that are predicted as it: (K,)."""
        return self.true + self.predicted - 2 * self.hits

    @property
    def iou(self) -> NDArray[np.float64]:
        """The IoU of each class, (K,) 0..1; NaN for class 0 and for a class that neither occurs nor is predicted."""
        union = self.true + self.predicted - self.hits
        iou = np.where(union > 0, self.hits / np.maximum(union, 1), np.nan)
        iou[0] = np.nan
        return iou

    @property
    def miou(self) -> float:
        """The mean IoU of the classes that occur in the truth; NaN if no point is judged."""
        present = self.true[1:] > 0
        return float(self.iou[1:][present].mean()) if present.any() else float("nan")


def count(labels: NDArray[np.integer], prediction: NDArray[np.integer], num_classes: int) -> Counts:
    """Counts the points of a scan by truth and prediction.

    Args:
        labels: (N,) learning ids of the truth; 0 and ids from `num_classes` on are not judged.
        prediction: (N,) learning ids.
        num_classes: the number K.
    """
    truth = judged_labels(labels, num_classes)
    judged = truth > 0
    truth, prediction = truth[judged], prediction[judged]
    return Counts(
        hits=points_of(truth[truth == prediction], num_classes),
        true=points_of(truth, num_classes),
        predicted=points_of(prediction, num_classes),
    )


def judge(scan: ShownScan, num_classes: int) -> dict[str, Counts]:
    """Judges the predictions of a scan by its truth: name of the prediction -> counts; empty without truth.

    Points of past scans do not count.
    """
    if scan.labels is None:
        return {}
    own = scan.current
    return {name: count(scan.labels[own], ids[own], num_classes) for name, ids in scan.predictions.items()}
