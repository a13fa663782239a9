"""The sample that a network evaluates: the points inside the volume, and the whole scan that gets the labels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from utils.scan.nearest import nearest_inside
from utils.scan.records import Sample, Scan, WholeScan


def evaluation_sample(
    scan: Scan, inside: NDArray[np.bool_], views: NDArray[np.float32] | None, past: Sequence[Scan] = ()
) -> Sample:
    """Builds the sample of a scan for evaluation.

    Args:
        scan: the whole scan, as measured.
        inside: (N,) bool, true for at least one point: those that go through the network (`in_volume`).
        views: (V, 3, 4) float32 maps of the test-time views (`random_views`), or None.
        past: points of past sweeps that go through the network with it, in its frame, with their `age`. They get no
            labels.
    """
    whole = WholeScan(
        frame=scan.frame,
        xyz=torch.from_numpy(scan.xyz),
        labels=torch.from_numpy(scan.labels),
        inside=torch.from_numpy(inside),
        donor=torch.from_numpy(nearest_inside(scan.xyz, inside)),
    )
    if not past:
        return Sample(scan.select(inside), whole, views)
    # Those of the scan come first: `donor` counts rows among them.
    return Sample(Scan.concatenate([scan, *past], [inside, *[None] * len(past)]), whole, views)
