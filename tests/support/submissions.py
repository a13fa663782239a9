"""Made-up results for the tests of the prediction files."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from utils.results.predictions import Expected
from utils.scan.records import Frame, Segmentation, WholeScan


def segmentation_of(frame: Frame, classes: Sequence[int]) -> Segmentation:
    """Makes the result for a scan with as many points as `classes`; all are at the origin, none is labelled."""
    points = len(classes)
    whole = WholeScan(
        frame=frame,
        xyz=torch.zeros(points, 3),
        labels=torch.zeros(points, dtype=torch.uint8),
        inside=torch.ones(points, dtype=torch.bool),
        donor=torch.arange(points),
    )
    return Segmentation(whole, torch.tensor(classes, dtype=torch.uint8))


def expected(segmentations: Sequence[Segmentation]) -> list[Expected]:
    """Lists the frame and the number of points of each result."""
    return [(s.whole.frame, len(s.prediction)) for s in segmentations]
