"""The LiDARs of the data sets, with the numbers that pictures and corruptions need."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Sensor:
    """A frozen record of a LiDAR, and of the label set of its scans.

    Attributes:
        name: name of its data set, as in `pc_dataset_type`; the random numbers of a corrupted set depend on it.
        beams: number of laser beams, and of rows of the range image.
        intensity_max: the largest intensity: 1 for SemanticKITTI's reflectance, 255 for nuScenes.
        top: elevation of the highest beam, degrees.
        bottom: elevation of the lowest beam, degrees.
        ground: learning ids of flat ground that a vehicle may drive on, pavements included.
        vehicles: learning ids of vehicles and cycles, without persons and riders.
        forward: axis of its frame that points in the driving direction; z points up, and the frame is right-handed.
        margin: extent of the range image above the highest and below the lowest beam, degrees.
        ordered: whether scan files list the points beam by beam, from the highest beam on, so that the order gives the
            beam of a point; otherwise the elevation does.
        ground_height: height z of flat ground below the sensor on its vehicle, metres.
        own_car: half the edge, metres, of the square around the sensor in which points are returns of its own vehicle,
            which are left out of past scans; 0: there are none.
        cut: lowest and highest elevation, degrees, of the bands that LaserMix cuts its scans into; None: of its beams.
    """

    name: str
    beams: int
    intensity_max: float
    top: float
    bottom: float
    ground: tuple[int, ...]
    vehicles: tuple[int, ...]
    forward: Literal["x", "y"] = "x"
    margin: float = 0.0
    ordered: bool = False
    ground_height: float = -1.73
    own_car: float = 0.0
    cut: tuple[float, float] | None = None

    @property
    def bands(self) -> tuple[float, float]:
        """The lowest and the highest elevation of LaserMix's bands, degrees."""
        return self.cut or (self.bottom, self.top)

    @property
    def picture_edges(self) -> tuple[float, float]:
        """The elevations of the upper and the lower edge of the range image, degrees."""
        return self.top + self.margin, self.bottom - self.margin

    def ahead_and_left(self, xyz: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Returns the (N,) coordinates ahead and (N,) to the left of (N, 3) points in the sensor's frame, metres."""
        return (xyz[:, 0], xyz[:, 1]) if self.forward == "x" else (xyz[:, 1], -xyz[:, 0])


SEMANTICKITTI = Sensor(
    "SemanticKITTI", 64, 1.0, 3.0, -25.0, ground=(9, 10, 11, 12), vehicles=(1, 2, 3, 4, 5), ordered=True
)
"""Velodyne HDL-64E with the 19 classes of SemanticKITTI; the field of view is the one Robo3D (ICCV 2023) uses."""


NUSCENES = Sensor(
    "nuScenes",
    32,
    255.0,
    10.67,
    -30.67,
    ground=(11, 12, 13),
    vehicles=(2, 3, 4, 5, 6, 9, 10),
    forward="y",
    margin=(10.67 + 30.67) / 31 / 2,  # half the angle between two beams: each beam is in the middle of its row
    ground_height=-1.84,
    own_car=1.0,
    cut=(-30.0, 10.0),
)
"""Velodyne HDL-32E with the 16 classes of nuScenes-lidarseg."""


SENSORS = {sensor.name: sensor for sensor in (SEMANTICKITTI, NUSCENES)}


def sensor_called(dataset: str) -> Sensor:
    """Returns the sensor of a data set by its name; for one that is not known here, that of SemanticKITTI."""
    return SENSORS.get(dataset, SEMANTICKITTI)
