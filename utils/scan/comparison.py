"""The two sides of a comparison: some scans under an alignment, and what is known about those of the training."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from utils.scan.alignment import Alignment, plausible_rows, usual_ground
from utils.scan.axes import usual_axes
from utils.scan.point_cloud import PointCloud
from utils.scan.sensor import Sensor
from utils.scan.statistics import Statistics
from utils.scan.traits import LEAST_POINTS, Traits, level_of, traits_of

_MOST_POINTS = 400_000  # of one cloud; a map of many scans has more
_T = TypeVar("_T")


@dataclass(frozen=True)
class Training:
    """A frozen record of what is known about the scans of the training.

    Attributes:
        sensor: their sensor.
        statistics: measured on them.
    """

    sensor: Sensor
    statistics: Statistics

    @property
    def ground(self) -> float:
        """The height of the ground, metres."""
        return usual_ground(self.sensor, self.statistics)

    def usual(self, name: str) -> tuple[float, float, float] | None:
        """Returns the quantiles of a trait at 5, 50 and 95 % of the scans; None if they are not known.

        The three are equal if the checkpoint is of a version that knew one number for all scans.
        """
        if name in self.statistics.traits:
            numbers = self.statistics.traits[name]
            return numbers[2], numbers[4], numbers[6]
        of_all = {
            "ground": self.statistics.ground_height,
            "level": level_of(self.statistics.intensity),
            "reach": self.statistics.range[4],
        }.get(name)
        return None if of_all is None else (of_all, of_all, of_all)


@dataclass
class Source:
    """Some scans of one sensor, and their traits under an alignment.

    Attributes:
        training: whose frame is wanted.
        clouds: the returns of each scan that has enough of them, in the order of the file.
        counts: number of returns of every scan.
    """

    training: Training
    clouds: tuple[PointCloud, ...]
    counts: tuple[int, ...]
    _known: dict[tuple[Alignment, float], list[Traits]] = field(default_factory=dict)
    _centers: dict[tuple[str, float], list[tuple[tuple[float, float, float], bool]]] = field(default_factory=dict)

    @classmethod
    def of(cls, clouds: Sequence[PointCloud], training: Training) -> Source:
        """Takes the returns out of clouds."""
        found = [_returns(cloud) for cloud in clouds]
        return cls(
            training,
            tuple(cloud for cloud, count in found if count >= LEAST_POINTS),
            tuple(count for _, count in found),
        )

    def placed(self, alignment: Alignment) -> list[NDArray[np.float64]]:
        """Returns the (N, 3) points of each cloud in the frame of the training."""
        sensor, statistics = self.training.sensor, self.training.statistics
        own = [alignment] * len(self.clouds)
        if alignment.center == "auto":
            own = [replace(alignment, center=center, sensor_height=None) for center, _ in self.centers(alignment)]
        return [one.placed(cloud.xyz, sensor, statistics) for one, cloud in zip(own, self.clouds, strict=True)]

    def centers(self, alignment: Alignment) -> list[tuple[tuple[float, float, float], bool]]:
        """Finds the position of the sensor in each cloud (`Alignment.find_center`); what is ahead does not count."""
        key = (alignment.axes or usual_axes(self.training.sensor.forward))[2], alignment.length_scale
        if key not in self._centers:
            sensor, statistics = self.training.sensor, self.training.statistics
            self._centers[key] = [alignment.find_center(cloud, sensor, statistics) for cloud in self.clouds]
        return self._centers[key]

    def traits(self, alignment: Alignment, lift: float = 0.0) -> list[Traits]:
        """Measures the traits of each cloud under an alignment, with all points lifted by `lift` metres."""
        if (alignment, lift) not in self._known:
            self._known[alignment, lift] = [
                self._traits(xyz, cloud.intensity, alignment.intensity_scale, lift)
                for xyz, cloud in zip(self.placed(alignment), self.clouds, strict=True)
            ]
        return self._known[alignment, lift]

    def _traits(
        self, xyz: NDArray[np.float64], intensity: NDArray[np.float32] | None, scale: float, lift: float
    ) -> Traits:
        x, y, z = xyz.T
        ahead, left = (x, y) if self.training.sensor.forward == "x" else (y, -x)
        scaled = None if intensity is None else intensity.astype(np.float64) * scale
        found = traits_of(ahead, left, z + lift, scaled)
        assert found is not None, "clouds of too few points are left out"
        return found


def _returns(cloud: PointCloud) -> tuple[PointCloud, int]:
    """Returns the points of a cloud that are returns, not too many of them, and their number."""
    rows = plausible_rows(cloud)
    count = len(rows)
    if count > _MOST_POINTS:
        rows = np.sort(np.random.default_rng(0).choice(rows, _MOST_POINTS, replace=False))
    intensity = None if cloud.intensity is None else cloud.intensity[rows]
    return PointCloud(cloud.name, cloud.xyz[rows], intensity), count


@dataclass(frozen=True)
class Finding:
    """A frozen record of what one check has found.

    Attributes:
        kind: see `utils.scan.fitting.Misfit`.
        text: what was found and what the training had.
        alignment: with the remedy; the same one if there is none.
    """

    kind: str
    text: str
    alignment: Alignment


Check = Callable[[Source, Alignment], Finding | None]
"""A function that looks for one thing that does not fit under an alignment."""


def median(values: Iterable[float | None]) -> float | None:
    """Returns the median of the values that are known; None if none is."""
    known = [value for value in values if value is not None]
    return float(np.median(known)) if known else None


def of_most(values: Sequence[_T]) -> _T | None:
    """Returns the value that more than half of them have; None if there is none."""
    if not values:
        return None
    value, count = Counter(values).most_common(1)[0]
    return value if 2 * count > len(values) else None
