"""The step from points of another sensor, unit or frame to points as the network knows them from its training."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from utils.scan.axes import Axes, column_and_sign, usual_axes, write_axes
from utils.scan.center import find_sensor
from utils.scan.point_cloud import PointCloud
from utils.scan.sensor import Sensor
from utils.scan.statistics import Statistics
from utils.scan.traits import ground_of

_LARGEST_DENOMINATOR = 100_000  # of a factor that is written as 1/n
_FARTHEST = 1e12
_SAMPLE = 1 << 14  # points in which the ground is looked for
_LOWEST = 5.0  # percent of the points that lie below the ground where no ground can be told


@dataclass(frozen=True)
class Alignment:
    """A frozen record of how points are brought into the frame and the units of the training scans.

    Attributes:
        axes: the axes of the cloud that point forward, left and up, such as ("y", "-x", "z"); None: those of the
            training.
        length_scale: factor of all coordinates, to metres.
        center: the position of the sensor in the cloud (x, y, z), in its own axes and units; "auto": it is found in
            each cloud, and the ground comes to the height that it had in the training, whatever `sensor_height`;
            None: the origin.
        sensor_height: height of the sensor above the ground, metres, where it differs from that of the training: the
            ground is moved to the height that it had there. None: as it is.
        intensity_scale: factor of the intensities; 0 leaves them out, as if the cloud had none.
    """

    axes: Axes | None = None
    length_scale: float = 1.0
    center: tuple[float, float, float] | Literal["auto"] | None = None
    sensor_height: float | None = None
    intensity_scale: float = 1.0

    def apply(self, cloud: PointCloud, sensor: Sensor, statistics: Statistics | None) -> PointCloud:
        """Returns the cloud in the frame and the units of the training, with float32 coordinates.

        Rows that are no returns (`PointCloud.measured`) stay as they are, so that they can be told later, too.

        Args:
            cloud: the points as in their file; double precision is kept until they are near the origin.
            sensor: the sensor of the training, whose frame is wanted.
            statistics: statistics of the training; None: not known, and the ground has the height that is usual for
                the sensor.
        """
        located = self.located(cloud, sensor, statistics)
        with np.errstate(over="ignore", invalid="ignore"):  # what is too large becomes infinite: no return
            placed = located.placed(cloud.xyz, sensor, statistics).astype(np.float32)
            lost = ~cloud.measured
            placed[lost] = cloud.xyz[lost]
            intensity = cloud.intensity
            if self.intensity_scale == 0:
                intensity = None
            elif intensity is not None:
                intensity = (intensity.astype(np.float64) * self.intensity_scale).astype(np.float32)
        return PointCloud(cloud.name, placed, intensity)

    def placed(
        self, xyz: NDArray[np.floating[Any]], sensor: Sensor, statistics: Statistics | None
    ) -> NDArray[np.float64]:
        """Returns points in the frame of the training, (N, 3) float64, metres.

        Args:
            xyz: (N, 3), as in the file.
            sensor, statistics: see `apply`.

        Raises:
            ValueError: `center` is "auto"; `located` finds it.
        """
        if self.center == "auto":
            raise ValueError("the sensor has to be located first")
        center = self.center or (0.0, 0.0, 0.0)
        placed = np.empty(xyz.shape)
        for place, (column, sign) in enumerate(self._columns(sensor)):
            placed[:, place] = (xyz[:, column].astype(np.float64) - center[column]) * (sign * self.length_scale)
        if self.sensor_height is not None:
            placed[:, 2] += usual_ground(sensor, statistics) + self.sensor_height
        return placed

    def _columns(self, sensor: Sensor) -> list[tuple[int, int]]:
        """Lists the column and the sign of the cloud's axis that becomes x, y and z of the training."""
        forward, left, up = map(column_and_sign, self.axes or usual_axes(sensor.forward))
        return [forward, left, up] if sensor.forward == "x" else [(left[0], -left[1]), forward, up]

    def located(self, cloud: PointCloud, sensor: Sensor, statistics: Statistics | None) -> Alignment:
        """Returns the alignment of this cloud: with the position of its sensor in the place of "auto".

        Where the rings of the sensor cannot be seen, the middle (median) of the points is taken for its position.
        """
        if self.center != "auto":
            return self
        return replace(self, center=self.find_center(cloud, sensor, statistics)[0], sensor_height=None)

    def find_center(
        self, cloud: PointCloud, sensor: Sensor, statistics: Statistics | None
    ) -> tuple[tuple[float, float, float], bool]:
        """Finds the position of the sensor in a cloud, at the height over its ground that it had in the training.

        Returns:
            The position in the axes and the unit of the cloud, and whether rings have shown it.
        """
        xyz = cloud.xyz[plausible_rows(cloud)].astype(np.float64)
        if not len(xyz):
            return (0.0, 0.0, 0.0), False
        x, y, z = middle = np.median(xyz, axis=0)
        here = replace(self, center=(float(x), float(y), float(z)), sensor_height=None)
        points = here.placed(xyz, sensor, statistics)
        spot = np.zeros(3)
        found = find_sensor(points)
        if found is not None:
            spot[:2] = found
        rows = np.random.default_rng(0).integers(len(points), size=min(len(points), _SAMPLE))
        x, y, z = (points[rows] - spot).T
        ground = ground_of(np.hypot(x, y), z)
        ground = float(np.percentile(z, _LOWEST)) if ground is None else ground
        spot[2] = ground - usual_ground(sensor, statistics)
        for place, (column, sign) in enumerate(self._columns(sensor)):
            middle[column] += sign * spot[place] / self.length_scale
        return (float(middle[0]), float(middle[1]), float(middle[2])), found is not None

    def flags(self) -> str:
        """Returns the flags of predict.py that ask for it, such as `--axes forward=y --sensor_height 0`."""
        found = []
        if self.axes is not None:
            found.append(f"--axes {write_axes(self.axes)}")
        if self.length_scale != 1:
            found.append(f"--length_scale {_factor(self.length_scale)}")
        if self.center is not None:
            place = "auto" if self.center == "auto" else ",".join(map(_number, self.center))
            found.append(_flag("center", place))
        if self.sensor_height is not None:
            found.append(_flag("sensor_height", _number(self.sensor_height)))
        if self.intensity_scale != 1:
            found.append(f"--intensity_scale {_factor(self.intensity_scale)}")
        return " ".join(found)


def plausible_rows(cloud: PointCloud) -> NDArray[np.int64]:
    """Returns the (M,) rows of a cloud that are returns and not damaged: UTM in millimetres reaches 1e10."""
    near = np.ones(len(cloud), dtype=bool)
    for column in cloud.xyz.T:
        near &= np.abs(column) < _FARTHEST  # NaN is not
    return np.flatnonzero(near & cloud.xyz.any(axis=1))


def usual_ground(sensor: Sensor, statistics: Statistics | None) -> float:
    """Returns the height z of the ground in the training scans, metres; without statistics what is usual for them."""
    known = None if statistics is None else statistics.ground_height
    return sensor.ground_height if known is None else known


def _flag(name: str, value: str) -> str:
    """Writes a flag; argparse would take a value with a minus for another flag."""
    return f"--{name}={value}" if value.startswith("-") else f"--{name} {value}"


def _number(value: float) -> str:
    """Writes a number that reads back as the same one: 0 and not 0.0."""
    return str(int(value)) if value == int(value) and abs(value) < 1e15 else repr(float(value))


def _factor(value: float) -> str:
    """Writes a factor that reads back as the same one: 1/255 and not 0.00392156862745098."""
    near = Fraction(value).limit_denominator(_LARGEST_DENOMINATOR)
    if near.numerator == 1 and near.denominator > 1 and 1 / near.denominator == value:
        return repr(value) if near.denominator in (10, 100, 1000, 10_000) else f"1/{near.denominator}"
    return _number(value)
