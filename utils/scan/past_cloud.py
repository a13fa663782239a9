"""The record of an earlier cloud that is added to one of today, and what decides where its points go."""

from __future__ import annotations

from dataclasses import dataclass

from utils.scan.motion import Motion
from utils.scan.point_cloud import PointCloud

MOST_PAST = 100
"""The largest number of past scans, as in a config."""


@dataclass(frozen=True)
class PastCloud:
    """A frozen record of an earlier cloud of the same sensor.

    Attributes:
        cloud: the points, in the sensor's own frame then, in the axes and the unit of the current cloud.
        motion: from that frame to the sensor's frame at the current cloud, in the same axes and unit.
        age: how old it is, above 0; see `utils.scan.records.Scan.age`.
    """

    cloud: PointCloud
    motion: Motion
    age: float
