"""The lidars that take scans: what pictures and corruptions must know of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Lidar:
    """What a picture must know of the lidar that took a scan.

    Attributes:
        beams: rows of the range image.
        top, bottom: elevation (degrees) of the upper and the lower edge of the range image.
        forward: the axis of its frame that points in driving direction; z points up and the frame is right-handed.
    """

    beams: int
    top: float
    bottom: float
    forward: Literal["x", "y"]

    def ahead_and_left(self, xyz: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """(N,) metres in driving direction and (N,) metres to its left, of (N, 3) points in the lidar's frame."""
        return (xyz[:, 0], xyz[:, 1]) if self.forward == "x" else (xyz[:, 1], -xyz[:, 0])


SEMANTICKITTI_LIDAR = Lidar(beams=64, top=3.0, bottom=-25.0, forward="x")
"""The HDL-64E of KITTI."""


# Its 32 beams lie at +10.67 to -30.67 degrees, all equally far apart; each gets a row with the beam in its middle.
_HALF_A_BEAM = (10.67 + 30.67) / 31 / 2


NUSCENES_LIDAR = Lidar(beams=32, top=10.67 + _HALF_A_BEAM, bottom=-30.67 - _HALF_A_BEAM, forward="y")
"""The HDL-32E of nuScenes."""


@dataclass(frozen=True)
class Sensor:
    """What corruptions must know of a LiDAR and of the label set its scans carry.

    Attributes:
        name: the data set, "SemanticKITTI" or "nuScenes".
        beams: number of laser beams.
        intensity_max: the largest `Sweep.intensity`: 1 for SemanticKITTI's reflectance, 255 for nuScenes.
        top: elevation of the highest beam, degrees.
        bottom: elevation of the lowest beam, degrees.
        ground: learning ids of flat ground a vehicle may drive on, pavements included.
        vehicles: learning ids of vehicles and cycles (persons and riders are not among them).
    """

    name: str
    beams: int
    intensity_max: float
    top: float
    bottom: float
    ground: tuple[int, ...]
    vehicles: tuple[int, ...]


SEMANTICKITTI = Sensor("SemanticKITTI", 64, 1.0, 3.0, -25.0, ground=(9, 10, 11, 12), vehicles=(1, 2, 3, 4, 5))
"""Velodyne HDL-64E with the 19 classes of SemanticKITTI; the field of view is the one Robo3D (ICCV 2023) uses."""


NUSCENES = Sensor("nuScenes", 32, 255.0, 10.67, -30.67, ground=(11, 12, 13), vehicles=(2, 3, 4, 5, 6, 9, 10))
"""Velodyne HDL-32E with the 16 classes of nuScenes-lidarseg."""
