"""The step from a batch to the class of every point of its files, with one view or many (test-time augmentation)."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

import torch
from torch import Tensor

from network.native.classes import best_classes
from utils.scan.records import Batch, Segmentation


class Predictor(Protocol):
    """The protocol of all that computes logits: a `SegmentationNetwork`, or its captured evaluation."""

    def predict(self, batch: Batch) -> Tensor:
        """Computes (P, K) logits from the points alone."""
        ...


def vote(network: Predictor, batch: Batch) -> Tensor:
    """Computes (P, K) float32 logits, summed over the test-time views of the batch; without views, of the batch itself.

    The views are made here, by one affine map per scan and view. So a scan is read and sent to the device once, and the
    memory does not grow with the number of votes.
    """
    if batch.views is None:
        return network.predict(batch).float()
    total = network.predict(batch.view(0)).float()
    for number in range(1, batch.views.shape[1]):
        total += network.predict(batch.view(number))
    return total


def segment(
    network: Predictor, batch: Batch, with_confidence: bool = False, with_one_view: bool = False
) -> list[Segmentation]:
    """Predicts the class of every point of every file in the batch; a point outside the volume takes its donor's class.

    Class 0 is never predicted: it means "ignored", and benchmark servers reject it or count it as wrong.

    Args:
        network: the network.
        batch: scans for evaluation, with their views if there are votes.
        with_confidence: compute `Segmentation.confidence`, the softmax of the mean logits of the views over the
            classes 1..K-1. Those of class 0 are left out, since no loss has trained them.
        with_one_view: compute `Segmentation.one_view`, too, from one more view: the scan as it is. It is not among the
            views that vote, which are all turned.

    Returns:
        One `Segmentation` per scan, in the order of the batch.
    """
    single = _classes(network, replace(batch, views=None)) if with_one_view else None
    logits = vote(network, batch)
    best, finite = best_classes(logits) or _best_classes(logits)
    votes = 1 if batch.views is None else batch.views.shape[1]
    classes = best.split(batch.lengths)
    mean = logits[:, 1:] if votes == 1 else logits[:, 1:] / votes
    confidences = mean.softmax(dim=1).amax(dim=1).split(batch.lengths) if with_confidence else None
    return [
        Segmentation(
            whole,
            classes[number].index_select(0, whole.donor),
            finite,
            None if confidences is None else confidences[number][whole.donor],
            None if single is None else single[number].index_select(0, whole.donor),
        )
        for number, whole in enumerate(batch.whole)
    ]


def _classes(network: Predictor, batch: Batch) -> tuple[Tensor, ...]:
    """Predicts the (n,) uint8 class of every point of the batch, scan by scan."""
    logits = vote(network, batch)
    return (best_classes(logits) or _best_classes(logits))[0].split(batch.lengths)


def _best_classes(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Finds the (P,) uint8 class from 1 on with the greatest logit, and whether all logits are finite."""
    best = logits[:, 1:].argmax(dim=1)
    return torch.add(best, 1, out=torch.empty_like(best, dtype=torch.uint8)), _finite(logits)


def _finite(logits: Tensor) -> Tensor:
    """Returns whether all logits are finite, as a scalar; with fewer operations than by looking at each."""
    if logits.numel() == 0:
        return torch.ones((), dtype=torch.bool, device=logits.device)
    lowest, highest = logits.aminmax()  # NaN if there is one
    return torch.add(highest, lowest, alpha=0) < torch.inf  # 0 times an infinite number is NaN
