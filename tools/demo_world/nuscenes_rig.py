"""The nuScenes car on its drives: the scenes, the places of its sensors, and its position at each time.

Three frames, all with z up: the street's own (world.py), the city's, in which the tables give the ego poses, and the
ego car's (x forward, y left, on the road below the rear axle).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tools.demo_world.geometry.poses import rigid, turn
from tools.demo_world.options import DemoOptions
from tools.demo_world.street import world

Array = NDArray[Any]

SAMPLE_TIME = 0.5  # seconds from one key frame to the next
MICROSECONDS = 1_000_000
# The official names of the mini splits, and two of the 150 test scenes.
SCENES = {
    "mini_train": (61, 553, 655, 757, 796, 1077, 1094, 1100),
    "mini_val": (103, 916),
    "test": (77, 78),
}
# Of all numbers tried, one that gives the two mini_val scenes all 16 classes in the default data set.
_STREETS = 12_000
_FIRST_START = datetime(2018, 8, 1, 19, 16, 36, 402_951, timezone.utc)
_BOSTON = timezone(timedelta(hours=-4))


Moment = tuple[int, int]
"""Number of a key frame of a drive, and of a sweep between it and the next; 0: the key frame itself."""


@dataclass(frozen=True)
class Sensor:
    """A sensor and its place on the car.

    Attributes:
        channel: name in the tables.
        place: metres, ego frame. heading: degrees to the left of straight ahead.
        trigger: microseconds from a sample's time to the measurement; negative is earlier.
        field_of_view: degrees across a camera's picture; 0 for the LiDAR.
    """

    channel: str
    place: tuple[float, float, float]
    heading: float
    trigger: int = 0
    field_of_view: float = 0.0


# Places and angles about as on the real car. A camera fires when the turning laser passes it, and the sample's time is
# the end of that turn, so each camera saw the street a few decimetres earlier than the tables' LiDAR pose.
LIDAR = Sensor("LIDAR_TOP", (0.94, 0.0, 1.84), 0.0)
CAMERAS = (
    Sensor("CAM_FRONT", (1.70, 0.02, 1.51), 0.0, -56_000, 70.0),
    Sensor("CAM_FRONT_RIGHT", (1.55, -0.49, 1.50), -56.0, -48_000, 70.0),
    Sensor("CAM_BACK_RIGHT", (1.01, -0.48, 1.56), -110.0, -40_000, 70.0),
    Sensor("CAM_BACK", (0.03, 0.00, 1.58), 180.0, -31_000, 110.0),
    Sensor("CAM_BACK_LEFT", (1.04, 0.48, 1.59), 108.0, -22_000, 70.0),
    Sensor("CAM_FRONT_LEFT", (1.52, 0.49, 1.51), 55.0, -64_000, 70.0),
)
SENSORS = (LIDAR, *CAMERAS)
# Columns: x, y and z of a sensor's frame, seen from a frame with x forward, y left, z up.
_LIDAR_AXES = np.array([[0.0, 1, 0], [-1, 0, 0], [0, 0, 1]])  # x right, y forward, z up
_CAMERA_AXES = np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])  # x right, y down, z forward


@dataclass(frozen=True)
class Drive:
    """A scene of the data set: one drive along a street of its own.

    Attributes:
        order: its number among the drives. number: in its official name. split: the split it belongs to.
        samples: key frames.
        seed: the seed of the whole data set.
        sweeps: of the LiDAR between two key frames.
    """

    order: int
    number: int
    split: str
    samples: int
    seed: int
    sweeps: int = 0

    @property
    def name(self) -> str:
        """The name of the scene."""
        return f"scene-{self.number:04d}"

    @property
    def start(self) -> datetime:
        """The time of the first key frame, on another day for each drive."""
        return _FIRST_START + timedelta(days=self.order)

    @property
    def log(self) -> str:
        """The name of the car's log file: vehicle and local time."""
        return f"n008-{self.start.astimezone(_BOSTON):%Y-%m-%d-%H-%M-%S%z}"

    def moments(self, sensor: Sensor = LIDAR) -> list[Moment]:
        """Lists when `sensor` measures: at the key frames, and the LiDAR also between them."""
        between = 0 if sensor.field_of_view else self.sweeps
        last = self.samples - 1
        return [(sample, sweep) for sample in range(last) for sweep in range(1 + between)] + [(last, 0)]

    def time(self, sample: int, sensor: Sensor = LIDAR, sweep: int = 0) -> float:
        """Returns the seconds from the drive's start to the moment when `sensor` measures."""
        return (sample + sweep / (1 + self.sweeps)) * SAMPLE_TIME + sensor.trigger / MICROSECONDS

    def timestamp(self, sample: int, sensor: Sensor = LIDAR, sweep: int = 0) -> int:
        """Returns the moment when `sensor` measures, in microseconds since 1970."""
        first = (self.start - datetime(1970, 1, 1, tzinfo=timezone.utc)) // timedelta(microseconds=1)
        since = (sample + sweep / (1 + self.sweeps)) * SAMPLE_TIME * MICROSECONDS
        return first + round(since) + sensor.trigger

    @property
    def city(self) -> Array:
        """The pose of the street's frame in the city's, (4, 4) float64: another place and direction for each drive."""
        place = 90.0 + 140.0 * (self.order % 4), 150.0 + 150.0 * (self.order // 4), 0.0
        return rigid(turn(0, 0, np.radians(137.5 * self.order + 20)), place)

    def ego(self, time: float) -> Array:
        """Returns the pose of the ego frame in the street's at `time` seconds, (4, 4) float64."""
        x, y, heading = self.street.ego(time)
        return rigid(turn(0, 0, heading), (x, y, 0))

    def mount(self, sensor: Sensor) -> Array:
        """Returns the pose of the sensor in the ego frame, (4, 4) float64, which differs a little from drive to
        drive."""
        rng = np.random.default_rng([self.seed, self.number, SENSORS.index(sensor)])
        axes = _CAMERA_AXES if sensor.field_of_view else _LIDAR_AXES
        off = turn(*rng.normal(0, 0.004, 3).tolist())
        return rigid(turn(0, 0, np.radians(sensor.heading)) @ off @ axes, sensor.place + rng.normal(0, 0.01, 3))

    @property
    def street(self) -> world.World:
        """The street that the drive leads through."""
        return _street(self.seed, self.number, self.samples)


@lru_cache(maxsize=16)
def _street(seed: int, number: int, samples: int) -> world.World:
    return world.build(seed, _STREETS + number, samples * SAMPLE_TIME * world.EGO_SPEED)


def drives(options: DemoOptions) -> list[Drive]:
    """Lists all drives; those of a split share its samples evenly, and each has one at least."""
    found: list[Drive] = []
    wanted = {"mini_train": options.train_frames, "mini_val": options.val_frames, "test": options.test_frames}
    for split, numbers in SCENES.items():
        each, rest = divmod(wanted[split], len(numbers))
        for place, number in enumerate(numbers):
            samples = max(1, each + (place < rest))
            found.append(Drive(len(found), number, split, samples, options.seed, options.sweeps))
    return found


def intrinsics(sensor: Sensor, image_size: tuple[int, int]) -> Array:
    """Makes the (3, 3) float64 intrinsics: square pixels, the optical axis a little beside the middle of the
    picture."""
    width, height = image_size
    focal = width / 2 / np.tan(np.radians(sensor.field_of_view / 2))
    return np.array([[focal, 0, 0.508 * width], [0, focal, 0.53 * height], [0, 0, 1]])
