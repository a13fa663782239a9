"""Augmentation that mixes points of another scan into a scan."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from utils.scan.records import Scan, no_pixels


def mix_instances(scan: Scan, other: Scan) -> Scan:
    """Appends to `scan` every point of `other` that has an instance id; the image stays that of `scan`.

    The appended points have no pixel and index -1: they are neither in the image nor in the file of `scan`.
    """
    chosen = other.select(other.instances != 0)
    foreign = replace(
        chosen,
        index=np.full(len(chosen), -1, dtype=np.int64),
        pixels=no_pixels(len(chosen)),
    )
    return Scan.concatenate([scan, foreign])
