"""Made-up results for the tests of the prediction files."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from utils.results.predictions import Expected
from utils.scan.records import Frame, Segmentation, WholeScan


def segmentation_of(frame: Frame, classes: Sequence[int]) -> Segmentation:
    """The result for a scan of as many points as there are `classes`; all at the origin, none labelled."""
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
    return [(s.whole.frame, len(s.prediction)) for s in segmentations]
