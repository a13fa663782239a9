"""The count of predicted and true classes, from which all scores are computed, over scans, batches and processes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from utils.metrics import ScoreCard


class SegmentationMetrics:
    """A counter of (prediction, ground truth) pairs; it counts on the device of what it is given.

    Attributes:
        counts: (2, K, K) int64, counts[inside, prediction, ground truth] of this process.
    """

    counts: Tensor

    def __init__(self, class_names: Sequence[str], skip_unseen: bool = False, moving: Sequence[int] = ()) -> None:
        """Starts with all counts at 0.

        Args:
            class_names: K names, the ignored class first.
            skip_unseen: whether classes that neither occur nor are predicted are left out of the official mean, as in
                nuscenes-devkit; else they count as 0, as in semantic-kitti-api.
            moving: learning ids of the classes that move; see `ScoreCard`.
        """
        self.class_names = tuple(class_names)
        self.skip_unseen = skip_unseen
        self.moving = tuple(moving)
        self.reset()

    def reset(self) -> None:
        """Sets all counts to 0."""
        size = len(self.class_names)
        self.counts = torch.zeros(2, size, size, dtype=torch.int64)

    def update(self, prediction: Tensor, labels: Tensor, inside: Tensor) -> None:
        """Counts the points of a scan.

        Args:
            prediction: (N,) integer learning ids, 0..K-1.
            labels: (N,) integer learning ids, 0..K-1; 0 is ignored.
            inside: (N,) bool, whether the point lies in the volume.
        """
        if self.counts.device != prediction.device:
            self.counts = self.counts.to(prediction.device)
        size = len(self.class_names)
        cell = (inside.long() * size + prediction.long()) * size + labels.long()
        # This is a bincount of known size: torch.bincount would wait for the GPU to learn the largest value.
        self.counts.view(-1).scatter_add_(0, cell, torch.ones_like(cell))

    def compute(self) -> Tensor:
        """Returns the (2, K, K) int64 counts of all processes; every process must call it."""
        if not torch.distributed.is_available() or not torch.distributed.is_initialized():
            return self.counts
        total = self.counts.clone()
        torch.distributed.all_reduce(total)
        return total

    def scores(self) -> ScoreCard:
        """Computes the scores over all points counted so far, by all processes; every process must call it."""
        counts = self.compute().cpu().numpy().copy()
        return ScoreCard.from_counts(counts, self.class_names, self.skip_unseen, self.moving)
