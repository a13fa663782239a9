"""What the writers of all data sets share: their LiDAR, and a word on what came of it."""

from __future__ import annotations

from dataclasses import dataclass

from tools.demo_world.options import DemoOptions
from tools.demo_world.sensors.lidar import LidarSpec

Frame = tuple[int, int]
"""Number of a drive, and of a moment in it."""


@dataclass(frozen=True)
class Summary:
    """What was written, or found complete.

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
    """Return the LiDAR that was chosen."""
    return LidarSpec(
        options.beams,
        options.azimuth_steps,
        *options.vertical_fov,
        range_noise=options.range_noise,
        dropout=options.dropout,
        reflectance=options.reflectance,
    )
