"""The comparison of scans with those that a network was trained on, and what puts right what does not fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from utils.scan.alignment import Alignment
from utils.scan.point_cloud import PointCloud
from utils.scan.sensor import Sensor
from utils.scan.statistics import Statistics


@dataclass(frozen=True)
class Misfit:
    """A frozen record of one way in which scans do not fit a network.

    Attributes:
        kind: "intensity", "height", "axes", "origin", "unit", "range" or "density".
        text: what was found and what the training had, in numbers, as half a line.
        remedy: the flags of predict.py that put it right; "" if none does.
    """

    kind: str
    text: str
    remedy: str


def diagnose(
    clouds: Sequence[PointCloud], sensor: Sensor, statistics: Statistics, given: Alignment
) -> tuple[tuple[Misfit, ...], Alignment]:
    """Compares some scans of one source with the training data.

    Args:
        clouds: scans of one sensor, in its frame.
        sensor, statistics: of the training.
        given: what is done to the scans already, as the user has asked for it.

    Returns:
        What does not fit after `given`, and `given` with all remedies, which makes the scans fit as far as they can.
    """
    raise NotImplementedError
