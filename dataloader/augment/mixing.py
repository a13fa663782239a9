"""Points of another scan in this one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from utils.scan.records import Scan, no_pixels


def mix_instances(scan: Scan, other: Scan) -> Scan:
    """`scan` with every point of `other` that has an instance id appended; the image stays that of `scan`.

    Appended points have no pixel and index -1: they are in neither the image nor the file of `scan`.
    """
    chosen = other.select(other.instances != 0)
    foreign = replace(
        chosen,
        index=np.full(len(chosen), -1, dtype=np.int64),
        pixels=no_pixels(len(chosen)),
    )
    return Scan.concatenate([scan, foreign])
