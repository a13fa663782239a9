"""From a batch to the class of every point of its files, over one view or many (test-time augmentation)."""

from __future__ import annotations

import torch
from torch import Tensor

from network.models.segmentation_network import SegmentationNetwork
from utils.scan.records import Batch, Segmentation


def vote(network: SegmentationNetwork, batch: Batch) -> Tensor:
    """Logits (P, K) float32, summed over the test-time views of the batch (or of the batch as it is, without views).

    The views are made here, one affine map per scan and view, so a scan is read and sent to the device once and the
    memory needed does not grow with the number of votes.
    """
    if batch.views is None:
        return network.predict(batch).float()
    total = network.predict(batch.view(0)).float()
    for number in range(1, batch.views.shape[1]):
        total += network.predict(batch.view(number))
    return total


def segment(network: SegmentationNetwork, batch: Batch) -> list[Segmentation]:
    """The class of every point of every file in the batch; points outside the volume take their donor's.

    Class 0 is never given: it means "ignored", and servers reject or punish it.
    """
    logits = vote(network, batch)
    finite = logits.isfinite().all()
    per_scan = (logits[:, 1:].argmax(dim=1) + 1).to(torch.uint8).split(batch.lengths)
    return [
        Segmentation(whole, classes[whole.donor], finite) for whole, classes in zip(batch.whole, per_scan, strict=True)
    ]
