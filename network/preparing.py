"""The way of a cloud to the network, on the CPU: alignment, volume, past points, nearest points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from network.past import moved
from utils.errors import UserError
from utils.scan.alignment import Alignment
from utils.scan.evaluation import evaluation_sample
from utils.scan.past_cloud import PastCloud
from utils.scan.point_cloud import PointCloud
from utils.scan.records import Frame, Sample, Scan, constant, no_pixels
from utils.scan.sensor import Sensor
from utils.scan.statistics import PERCENTAGES, Statistics
from utils.scan.volume import in_volume, past_in_volume


@dataclass(frozen=True)
class Prepared:
    """A frozen record of a cloud on its way to the network.

    Attributes:
        cloud: as it was given.
        aligned: (N, 3) float32 metres, in the frame of the training; NaN where there is no return.
        sample: what is batched.
    """

    cloud: PointCloud
    aligned: NDArray[np.float32]
    sample: Sample


@dataclass(frozen=True)
class Preparation:
    """A frozen record of what a network expects of clouds.

    Attributes:
        sensor: the sensor of the training.
        statistics: statistics of the training; None: not known.
        low, high: corners of the volume, metres.
        views: (V, 3, 4) float32 views of a vote, or None.
    """

    sensor: Sensor
    statistics: Statistics | None
    low: Sequence[float]
    high: Sequence[float]
    views: NDArray[np.float32] | None

    def prepare(
        self, cloud: PointCloud, alignment: Alignment, advice: str = "", past: Sequence[PastCloud] = ()
    ) -> Prepared:
        """Prepares a cloud; see `network.segmenter.Segmenter.prepare`."""
        placing = alignment.located(cloud, self.sensor, self.statistics)
        aligned = placing.apply(cloud, self.sensor, self.statistics)
        there = cloud.measured & np.isfinite(aligned.xyz).all(axis=1)
        if not there.any():
            raise UserError(f"{cloud.name}: none of its {len(cloud)} points is a return (all are NaN or 0)")
        xyz = np.array(aligned.xyz, dtype=np.float32)
        xyz[~there] = np.nan
        inside = in_volume(xyz, self.low, self.high)
        if not inside.any():
            places = ", ".join(f"{value:.0f}" for value in np.median(xyz[there], axis=0))
            raise UserError(
                f"{cloud.name}: no point lies inside the volume of the network, {_corner(self.low)} to "
                f"{_corner(self.high)} m around the sensor, most lie around ({places}); put it right with "
                f"{advice or '--center, --axes, --sensor_height or --length_scale'}, or with --fit auto"
            )
        scan = self._scan(cloud.name, xyz, aligned.intensity)
        earlier = [self._past_points(one, placing) for one in past]
        return Prepared(cloud, xyz, evaluation_sample(scan, inside, self.views, earlier))

    def _past_points(self, past: PastCloud, placing: Alignment) -> Scan:
        """Returns the points of a past cloud that go through the network, in the frame of the training.

        Args:
            past: the cloud.
            placing: the alignment of the current cloud, which has been located.
        """
        with np.errstate(over="ignore", invalid="ignore"):  # what is too large becomes infinite, and is left out
            aligned = placing.apply(moved(self._without_own_car(past, placing)), self.sensor, self.statistics)
        scan = self._scan(past.cloud.name, np.asarray(aligned.xyz, dtype=np.float32), aligned.intensity)
        count = len(scan)
        index, age = constant(np.int64(-1), count), constant(np.float32(past.age), count)
        return replace(scan, index=index, age=age).select(past_in_volume(scan.xyz, self.low, self.high))

    def _without_own_car(self, past: PastCloud, placing: Alignment) -> PastCloud:
        """Leaves out what is left out of past scans in the training: it would trail behind the car."""
        if not self.sensor.own_car:
            return past
        cloud = past.cloud
        around = placing.placed(cloud.xyz, self.sensor, self.statistics)[:, :2]
        rows = ~(np.abs(around) < self.sensor.own_car).all(axis=1)
        intensity = None if cloud.intensity is None else cloud.intensity[rows]
        return replace(past, cloud=replace(cloud, xyz=cloud.xyz[rows], intensity=intensity))

    def _scan(self, name: str, xyz: NDArray[np.float32], intensity: NDArray[np.float32] | None) -> Scan:
        """Returns aligned points as a scan without labels; the median of the training stands in for intensities."""
        if intensity is None:
            usual = 0.0 if self.statistics is None else self.statistics.intensity[PERCENTAGES.index(50)]
            intensity = np.full(len(xyz), usual, dtype=np.float32)
        none = np.zeros(len(xyz), dtype=np.int32)
        return Scan(
            frame=Frame("", name, name),
            xyz=xyz,
            intensity=intensity,
            labels=none.astype(np.uint8),
            instances=none,
            index=np.arange(len(xyz), dtype=np.int64),
            pixels=no_pixels(len(xyz)),
        )


def _corner(corner: Sequence[float]) -> str:
    return "(" + ", ".join(f"{value:g}" for value in corner) + ")"
