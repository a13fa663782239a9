"""Scores of a segmentation: one confusion count, read in two conventions.

`mIoU` is the official figure: every labelled point of the file counts, also those outside the volume the network sees.
The benchmarks differ in a class that neither occurs nor is predicted: for the semantic-kitti-api it counts 0, the
nuscenes-devkit leaves it out of the mean (`skip_unseen`). The published 2DPASS code left the points outside at class 0
and then dropped that class from its histogram, and its mean is over the classes that are left in it; its figure is kept
beside the official one so that published numbers can be compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric

Convention = Literal["official", "published"]
"""Which of the two readings; see above."""

OUTSIDE, INSIDE = 0, 1


@dataclass(frozen=True)
class ScoreCard:
    """The figures of one evaluation. Shares are 0..1; row i of the (K-1,) arrays is class i + 1 (class 0 is ignored).

    Attributes:
        class_names: names of the classes 1..K-1.
        iou: (K-1,) float64, tp / (tp + fp + fn) over every labelled point. A class that neither occurs nor is
            predicted has 0, with `skip_unseen` NaN.
        miou: mean of `iou` over all classes but the NaN ones (0 if there is no other), as the benchmark computes it.
        miou_present: mean of `iou` over the classes that occur in the ground truth (0 if there is none).
        accuracy: share of the labelled points that are right.
        published_iou: (K-1,) float64, the same without points outside the volume and points predicted 0. A class that
            then neither occurs nor is predicted has NaN.
        published_miou: mean of `published_iou` over all classes but the NaN ones (0 if there is no other).
        published_accuracy: share that is right of the labelled points inside the volume (not predicted 0).
        confusion: (K, K) int64, confusion[prediction, ground truth]; the ground-truth 0 column is blanked.
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

    def named(self) -> dict[str, float]:
        """The overall figures by the names they are logged and stored under."""
        return {
            "val/mIoU": self.miou,
            "val/mIoU_published": self.published_miou,
            "val/mIoU_present": self.miou_present,
            "val/acc": self.accuracy,
        }

    @classmethod
    def from_counts(cls, counts: NDArray[np.int64], class_names: Sequence[str], skip_unseen: bool = False) -> ScoreCard:
        """Read the figures off the counts.

        Args:
            counts: (2, K, K) int64, counts[inside the volume, prediction, ground truth].
            class_names: K names, the ignored class 0 first.
            skip_unseen: leave classes that neither occur nor are predicted out of the official mean.
        """
        unseen = np.nan if skip_unseen else 0.0
        confusion = counts.sum(axis=0)
        confusion[:, 0] = 0
        iou = intersection_over_union(confusion, unseen)[1:]
        inside = counts[INSIDE, 1:, 1:]
        published_iou = intersection_over_union(inside, np.nan)
        present = confusion[:, 1:].sum(axis=0) > 0
        points = int(confusion.sum())
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
        )


class SegmentationMetrics(Metric):
    """Counts (prediction, ground truth) pairs over scans, batches and processes.

    The state is one (2, K, K) int64 tensor, summed over processes when computed. `compute` returns that tensor, since
    torchmetrics cannot pass a frozen record through; `scores` turns it into a `ScoreCard`.
    """

    full_state_update = False
    higher_is_better = True
    is_differentiable = False
    counts: Tensor

    def __init__(self, class_names: Sequence[str], skip_unseen: bool = False) -> None:
        """
        Args:
            class_names: K names, the ignored class 0 first.
            skip_unseen: leave classes that neither occur nor are predicted out of the official mean, as nuscenes-devkit
                does; else they count as 0, as in semantic-kitti-api.
        """
        super().__init__()
        self.class_names = tuple(class_names)
        self.skip_unseen = skip_unseen
        size = len(self.class_names)
        self.add_state("counts", torch.zeros(2, size, size, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, prediction: Tensor, labels: Tensor, inside: Tensor) -> None:
        """Count the points of a scan.

        Args:
            prediction: (N,) integer learning ids, 0..K-1.
            labels: (N,) integer learning ids, 0..K-1; 0 is ignored.
            inside: (N,) bool, the point lies in the volume.
        """
        size = len(self.class_names)
        cell = (inside.long() * size + prediction.long()) * size + labels.long()
        # A bincount whose size is known: torch.bincount itself waits for the GPU to learn the largest value.
        self.counts.view(-1).scatter_add_(0, cell, torch.ones_like(cell))

    def compute(self) -> Tensor:
        """(2, K, K) int64, the counts of all processes: counts[inside, prediction, ground truth]."""
        return self.counts

    def scores(self) -> ScoreCard:
        """The figures over everything counted so far, on all processes (every process must call it)."""
        return ScoreCard.from_counts(self.compute().cpu().numpy().copy(), self.class_names, self.skip_unseen)


def intersection_over_union(confusion: NDArray[np.int64], unseen: float = 0.0) -> NDArray[np.float64]:
    """IoU per class.

    Args:
        confusion: (K, K) int64.
        unseen: what a class has that neither occurs nor is predicted.

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
    """The lines printed after a test; a class without a figure is "absent".

    Args:
        scores: this evaluation.
        best: the best mIoU so far, 0..1.
    """
    lines = ["Validation per class iou:"]
    for name, iou in zip(scores.class_names, scores.iou, strict=True):
        lines.append(f"{name} : " + ("absent" if np.isnan(iou) else f"{100 * iou:.2f}%"))
    lines.append(f"Current val miou is {100 * scores.miou:.3f} while the best val miou is {100 * best:.3f}")
    return "\n".join(lines)
