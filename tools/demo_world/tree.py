"""What the writers of all data sets share: frames made by several processes, and a word on what came of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from typing import TypeVar

from tools.demo_world.lidar import LidarSpec
from tools.demo_world.options import DemoOptions

Frame = tuple[int, int]
"""Number of a drive, and of a moment in it."""
Progress = Callable[[int, int], None]
"""Called with (frames done, frames in all) after each frame."""
Result = TypeVar("Result")


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
    """The LiDAR that was chosen."""
    return LidarSpec(
        options.beams,
        options.azimuth_steps,
        *options.vertical_fov,
        range_noise=options.range_noise,
        dropout=options.dropout,
        reflectance=options.reflectance,
    )


def map_frames(
    write: Callable[[Frame], Result], frames: list[Frame], workers: int, progress: Progress | None = None
) -> Iterator[tuple[Frame, Result]]:
    """Every frame with what `write` returns for it, in order; written in this process or in several."""
    for done, pair in enumerate(zip(frames, _results(write, frames, workers), strict=True), start=1):
        if progress is not None:
            progress(done, len(frames))
        yield pair


def _results(write: Callable[[Frame], Result], frames: list[Frame], workers: int) -> Iterator[Result]:
    if workers == 1:
        yield from map(write, frames)
        return
    # Spawned, not forked: a caller may hold threads, whose locks a forked child would never see released.
    with ProcessPoolExecutor(min(workers, len(frames)), mp_context=get_context("spawn")) as pool:
        yield from pool.map(write, frames)
