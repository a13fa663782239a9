"""The LiDARs that take scans: what pictures and corruptions must know of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Sensor:
    """What pictures and corruptions must know of a LiDAR and of the label set its scans carry.

    Attributes:
        name: the data set it took, as `pc_dataset_type` calls it; the random numbers of a corrupted set depend on it.
        beams: number of laser beams, and of the rows of the range image.
        intensity_max: the largest intensity: 1 for SemanticKITTI's reflectance, 255 for nuScenes.
        top: elevation of the highest beam, degrees.
        bottom: elevation of the lowest beam, degrees.
        ground: learning ids of flat ground a vehicle may drive on, pavements included.
        vehicles: learning ids of vehicles and cycles (persons and riders are not among them).
        forward: the axis of its frame that points in driving direction; z points up and the frame is right-handed.
        margin: degrees that the range image reaches above the highest and below the lowest beam.
        ordered: a scan file lists the points beam by beam, from the highest, so their order tells the beam of each;
            otherwise their elevation does.
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

    @property
    def picture_edges(self) -> tuple[float, float]:
        """Elevation (degrees) of the upper and of the lower edge of the range image."""
        return self.top + self.margin, self.bottom - self.margin

    def ahead_and_left(self, xyz: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Split (N, 3) points of the sensor's frame into (N,) metres in driving direction and (N,) to its left."""
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
    margin=(10.67 + 30.67) / 31 / 2,  # half the angle between two beams: each gets a row with the beam in its middle
)
"""Velodyne HDL-32E with the 16 classes of nuScenes-lidarseg."""
