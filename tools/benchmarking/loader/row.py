"""One row of `benchmark.py loader`: the passes of one loader over its scans, timed."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

from torch.utils.data import DataLoader

from dataloader.datamodule import DataModule
from tools.benchmarking.loader.options import TRAINING
from utils.scan.packing import PackedBatch


@dataclass(frozen=True)
class Row:
    """One loader, measured.

    Attributes:
        items: TRAINING or EVALUATION. workers: number of loader processes. cache: WARM or COLD.
        scans, batches: of one pass.
        seconds: median of the passes; None if they were not measured.
        moved: bytes of the batches of one pass.
        remark: why there are no seconds.
    """

    items: str
    workers: int
    cache: str
    scans: int = 0
    batches: int = 0
    seconds: float | None = None
    moved: int = 0
    remark: str = ""


def measure(
    data: DataModule, items: str, workers: int, cache: str, runs: int, before: Callable[[], object] = lambda: None
) -> Row:
    """Times passes over all scans of a loader, which has its processes from a first pass that is not timed.

    Args:
        data: the loaders; the number of their processes is that of its config.
        items, workers, cache: what the row is called.
        runs: number of timed passes.
        before: called before each of them.
    """
    loader: DataLoader[Any] = data.train_dataloader() if items == TRAINING else data.val_dataloader()
    _pass(loader)
    times, counts = [], (0, 0, 0)
    for _ in range(runs):
        before()
        start = time.perf_counter()
        counts = _pass(loader)
        times.append(time.perf_counter() - start)
    del loader
    gc.collect()  # ends the processes
    scans, batches, moved = counts
    return Row(items, workers, cache, scans, batches, median(times), moved)


def _pass(loader: DataLoader[Any]) -> tuple[int, int, int]:
    """Takes all batches; returns the numbers of scans, of batches, and of their bytes."""
    scans = batches = moved = 0
    for batch in loader:
        assert isinstance(batch, PackedBatch)
        scans, batches, moved = scans + batch.num_scans, batches + 1, moved + len(batch.memory)
    return scans, batches, moved
