"""The scores of a segmentation: one confusion matrix, from which two conventions of the mIoU are computed.

`mIoU` is the official score: every labelled point of the file counts, also those outside the volume. The benchmarks
differ for a class that neither occurs nor is predicted: it counts as 0 for the semantic-kitti-api, and the
nuscenes-devkit leaves it out of the mean (`skip_unseen`). The published 2DPASS code gave class 0 to the points outside
the volume, dropped that class from its histogram and took the mean over the classes that remained. That score is kept
beside the official one, so that published numbers can be compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Convention = Literal["official", "published"]
"""The two conventions of the scores; see above."""

SCORES = ("val/mIoU", "val/mIoU_published", "val/mIoU_present", "val/acc", "val/best_miou")
"""The scores that a training may be told to watch."""

OUTSIDE, INSIDE = 0, 1


@dataclass(frozen=True)
class ScoreCard:
    """A frozen record of the scores of one evaluation.

    Shares are 0..1. Entry i of the (K-1,) arrays is class i + 1, because class 0 is ignored.

    Attributes:
        class_names: names of the classes 1..K-1.
        iou: (K-1,) float64, tp / (tp + fp + fn) over all labelled points. A class that neither occurs nor is predicted
            has 0, or NaN with `skip_unseen`.
        miou: mean of `iou` over the classes without NaN (0 if there are none), as the benchmark computes it.
        miou_present: mean of `iou` over the classes that occur in the ground truth (0 if there are none).
        accuracy: share of the labelled points with the right prediction.
        published_iou: (K-1,) float64, IoU without points outside the volume and points predicted as 0. A class that
            then neither occurs nor is predicted has NaN.
        published_miou: mean of `published_iou` over the classes without NaN (0 if there are none).
        published_accuracy: share of right predictions among labelled points inside the volume that are not predicted
            as 0.
        moving_miou, static_miou: means of `iou` over the classes that move and over the others, as `miou` is one; None
            where the classes do not tell what moves.
        confusion: (K, K) int64, confusion[prediction, ground truth]; the column of ground truth 0 is set to 0.
        points: number of labelled points.
    """

    class_names: tuple[str, ...]
    iou: NDArray[np.float64]
    miou: float
    miou_present: float
    accuracy: float
    published_iou: NDArray[np.float64]
    published_miou: float
    published_accuracy: float
    confusion: NDArray[np.int64]
    points: int
    moving_miou: float | None = None
    static_miou: float | None = None

    def named(self) -> dict[str, float]:
        """Returns the overall scores by the names under which they are logged and stored."""
        named = {
            "val/mIoU": self.miou,
            "val/mIoU_published": self.published_miou,
            "val/mIoU_present": self.miou_present,
            "val/acc": self.accuracy,
        }
        if self.moving_miou is not None and self.static_miou is not None:
            named |= {"val/mIoU_moving": self.moving_miou, "val/mIoU_static": self.static_miou}
        return named

    @classmethod
    def from_counts(
        cls,
        counts: NDArray[np.int64],
        class_names: Sequence[str],
        skip_unseen: bool = False,
        moving: Sequence[int] = (),
    ) -> ScoreCard:
        """Computes the scores from counts of points.

        Args:
            counts: (2, K, K) int64, counts[inside the volume, prediction, ground truth].
            class_names: K names, the ignored class 0 first.
            skip_unseen: whether classes that neither occur nor are predicted are left out of the official mean.
            moving: learning ids of the classes that move, for `moving_miou` and `static_miou`; empty: not known.
        """
        unseen = np.nan if skip_unseen else 0.0
        confusion = counts.sum(axis=0)
        confusion[:, 0] = 0
        iou = intersection_over_union(confusion, unseen)[1:]
        inside = counts[INSIDE, 1:, 1:]
        published_iou = intersection_over_union(inside, np.nan)
        present = confusion[:, 1:].sum(axis=0) > 0
        points = int(confusion.sum())
        moves = np.isin(np.arange(1, len(class_names)), moving)
        return cls(
            class_names=tuple(class_names[1:]),
            iou=iou,
            miou=_mean_of_counted(iou),
            miou_present=float(iou[present].mean()) if present.any() else 0.0,
            accuracy=float(np.trace(confusion) / max(points, 1)),
            published_iou=published_iou,
            published_miou=_mean_of_counted(published_iou),
            published_accuracy=float(np.trace(inside) / max(int(inside.sum()), 1)),
            confusion=confusion,
            points=points,
            moving_miou=_mean_of_counted(iou[moves]) if moves.any() else None,
            static_miou=_mean_of_counted(iou[~moves]) if moves.any() else None,
        )


def intersection_over_union(confusion: NDArray[np.int64], unseen: float = 0.0) -> NDArray[np.float64]:
    """Computes the IoU of each class.

    Args:
        confusion: (K, K) int64, confusion[prediction, ground truth].
        unseen: IoU of a class that neither occurs nor is predicted.

    Returns:
        (K,) float64, tp / (tp + fp + fn).
    """
    hits = np.diag(confusion)
    union = confusion.sum(axis=0) + confusion.sum(axis=1) - hits
    return np.where(union > 0, hits / np.maximum(union, 1), unseen)


def _mean_of_counted(iou: NDArray[np.float64]) -> float:
    counted = iou[~np.isnan(iou)]
    return float(counted.mean()) if counted.size else 0.0


def format_table(scores: ScoreCard, best: float) -> str:
    """Formats the lines that are printed after a test; a class with IoU NaN is "absent".

    Args:
        scores: scores of this evaluation.
        best: the best mIoU so far, 0..1.
    """
    lines = ["Validation per class iou:"]
    for name, iou in zip(scores.class_names, scores.iou, strict=True):
        lines.append(f"{name} : " + ("absent" if np.isnan(iou) else f"{100 * iou:.2f}%"))
    if scores.moving_miou is not None and scores.static_miou is not None:
        lines.append(f"Moving classes: {100 * scores.moving_miou:.2f}%, static: {100 * scores.static_miou:.2f}%")
    lines.append(f"Current val miou is {100 * scores.miou:.3f} while the best val miou is {100 * best:.3f}")
    return "\n".join(lines)
