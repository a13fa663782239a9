"""nuScenes' tables -> the indexes of them, which takes a minute and gigabytes for a moment."""

from __future__ import annotations

import gc
import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from dataloader.datasets.nuscenes import sweeps, tables
from dataloader.datasets.nuscenes.index import SWEEPS, NuScenesIndex
from utils.command import stopping
from utils.errors import UserError


def build_apart(root: Path, version: str) -> NuScenesIndex:
    """Builds the index of key frames in a process of its own; see `_apart`."""
    return _apart(build_index, root, version)


def build_sweeps_apart(root: Path, version: str) -> NuScenesIndex:
    """Builds the index of sweeps in a process of its own; see `_apart`."""
    return _apart(build_sweeps, root, version)


def _apart(build: Callable[[Path, str], NuScenesIndex], root: Path, version: str) -> NuScenesIndex:
    """Calls `build` in a process of its own: its memory is given back, and a lack of it ends in a clear line.

    Raises:
        UserError: a table is damaged, they do not fit together, or the process was stopped.
    """
    stopped = UserError(
        f"{root / version}: reading the tables was stopped, probably because memory ran out; free some, or open the "
        "data set once on a larger machine: later starts need none"
    )
    fork = multiprocessing.get_context("fork")  # from Python 3.14 on the default would import everything again
    try:
        with ProcessPoolExecutor(max_workers=1, mp_context=fork, initializer=_prepare_reader) as pool:
            return pool.submit(build, root, version).result()
    except (BrokenProcessPool, MemoryError) as error:
        raise stopped from error


def _prepare_reader() -> None:
    # Millions of small objects without a cycle among them: looking for cycles takes a third of the time.
    gc.disable()
    stopping.end_with_parent()


def build_index(root: Path, version: str) -> NuScenesIndex:
    """Builds what is kept of the tables in <root>/<version>.

    Raises:
        UserError: a table is damaged, or they do not fit together.
    """
    folder = root / version
    return NuScenesIndex(tables.key_frames(folder), tables.category_names(folder))


def build_sweeps(root: Path, version: str) -> NuScenesIndex:
    """Builds what is kept of the tables in <root>/<version> for past sweeps; the errors are those of `build_index`."""
    return NuScenesIndex(sweeps.lidar_sweeps(root / version), {}, name=SWEEPS)
