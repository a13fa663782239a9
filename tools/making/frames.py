"""The making of frames by several processes, under a progress bar, for the tools that make data sets."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import active_children, get_context
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from utils.command import stopping
from utils.command.flags import count

Progress = Callable[[int, int], None]
"""A function that is called with (finished frames, all frames) after each frame."""
Frame = TypeVar("Frame")
Result = TypeVar("Result")


def add_workers_flag(parser: argparse.ArgumentParser) -> None:
    """Adds --workers, the number of processes that make frames."""
    usual = os.cpu_count() or 1
    parser.add_argument(
        "--workers", type=count(1), default=usual, metavar="N", help="processes (one for each processor)"
    )


def map_frames(
    write: Callable[[Frame], Result], frames: Sequence[Frame], workers: int, progress: Progress | None = None
) -> Iterator[tuple[Frame, Result]]:
    """Writes frames, in this process or in several; yields each with the result of `write`, in order."""
    for done, pair in enumerate(zip(frames, _results(write, frames, workers), strict=True), start=1):
        if progress is not None:
            progress(done, len(frames))
        yield pair


def _results(write: Callable[[Frame], Result], frames: Sequence[Frame], workers: int) -> Iterator[Result]:
    if min(workers, len(frames)) <= 1:
        yield from map(write, frames)
        return
    # Spawned, not forked: a caller may hold threads, whose locks a forked child would never see released.
    spawn = get_context("spawn")
    with stopping.shielded():
        pool = ProcessPoolExecutor(min(workers, len(frames)), mp_context=spawn, initializer=stopping.end_with_parent)
        results = [pool.submit(write, frame) for frame in frames]
    with pool:
        try:
            for result in results:
                yield result.result()
        except BaseException:
            for process in active_children():  # no file breaks: files are written whole
                process.terminate()
            raise


@contextmanager
def progress_bar() -> Iterator[Progress]:
    """Shows a bar on stderr, which is gone when the work is done."""
    columns = TextColumn("frames"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("frames", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
