"""The step from points of another sensor, unit or frame to points as the network knows them from its training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from utils.scan.point_cloud import PointCloud
from utils.scan.sensor import Sensor
from utils.scan.statistics import Statistics


@dataclass(frozen=True)
class Alignment:
    """A frozen record of how points are brought into the frame and the units of the training scans.

    Attributes:
        axes: the axes of the cloud that point forward, left and up, such as ("y", "-x", "z"); None: those of the
            training.
        length_scale: factor of all coordinates, to metres.
        center: the position of the sensor in the cloud (x, y, z), in its own axes and units; "auto": it is found;
            None: the origin.
        sensor_height: height of the sensor above the ground, metres, where it differs from that of the training: the
            ground is moved to the height that it had there. None: as it is.
        intensity_scale: factor of the intensities.
    """

    axes: tuple[str, str, str] | None = None
    length_scale: float = 1.0
    center: tuple[float, float, float] | Literal["auto"] | None = None
    sensor_height: float | None = None
    intensity_scale: float = 1.0

    def apply(self, cloud: PointCloud, sensor: Sensor, statistics: Statistics | None) -> PointCloud:
        """Returns the cloud in the frame and the units of the training, with float32 coordinates.

        Args:
            cloud: the points as in their file; double precision is kept until they are near the origin.
            sensor: the sensor of the training, whose frame is wanted.
            statistics: statistics of the training; None: not known, and neither is the height of its ground.
        """
        raise NotImplementedError

    def flags(self) -> str:
        """Returns the flags of predict.py that ask for it, such as `--axes forward=y --sensor_height 0`."""
        raise NotImplementedError
