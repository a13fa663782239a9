"""The parts that the writers of all data sets share: the choice of the LiDAR, and the summary of a run."""

from __future__ import annotations

from dataclasses import dataclass

from tools.demo_world.options import DemoOptions
from tools.demo_world.sensors.lidar import LidarSpec

Frame = tuple[int, int]
"""Number of a drive, and of a moment in it."""


@dataclass(frozen=True)
class Summary:
    """The contents of a data set that was written, or found complete.

    Attributes:
        fresh: whether anything was written.
        frames: number of sweeps. points: mean points of a sweep.
        classes: for each labelled part of the data set, the names of the benchmark's classes that it holds.
        benchmark: number of classes in the benchmark.
    """

    fresh: bool
    frames: int
    points: int
    classes: dict[str, list[str]]
    benchmark: int


def lidar_spec(options: DemoOptions) -> LidarSpec:
    """Returns the LiDAR that the options describe."""
    return LidarSpec(
        options.beams,
        options.azimuth_steps,
        *options.vertical_fov,
        range_noise=options.range_noise,
        dropout=options.dropout,
        reflectance=options.reflectance,
    )
