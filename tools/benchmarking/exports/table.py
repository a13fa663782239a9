"""The rows of `benchmark.py export` as a table."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import numpy as np

from tools.benchmarking.exports.ways import Trial
from tools.benchmarking.host import CROWDED
from tools.benchmarking.report import NONE, Column, Table, milliseconds

COLUMNS = (
    Column("way"),
    Column("weights"),
    Column("median, ms", True),
    Column("least, ms", True),
    Column("times the first", True),
    Column("memory, MiB", True),
    Column("file, MB", True),
    Column("labels that differ"),
)


def table(trials: Sequence[Trial], lengths: Sequence[int]) -> Table:
    """Makes the table of the trials, which are compared with the first of them; `lengths`: points of each scan."""
    cells, remarks = [], []
    for trial in trials:
        cells.append(_cells(trial, trials[0], lengths))
        crowded = f"other processes took {trial.others:.1f} cores" if trial.others > CROWDED else ""
        remarks.append("; ".join(filter(None, [trial.failure, crowded])))
        if trial.graph:
            rest = [whole - graph for whole, graph in zip(trial.seconds, trial.graph, strict=True)]
            for name, times in (("the graph in ONNX Runtime", trial.graph), ("the geometry in NumPy", rest)):
                cells.append([f"of it {name}", trial.way.weights, *_times(times), *[NONE] * 4])
                remarks.append("")
    return Table.with_remarks(COLUMNS, cells, remarks)


def _cells(trial: Trial, first: Trial, lengths: Sequence[int]) -> list[str]:
    name = [trial.way.name, trial.way.weights]
    size = NONE if trial.size is None else f"{trial.size / 1e6:.1f}"
    if trial.median is None:
        return [*name, NONE, NONE, NONE, NONE, size, NONE]
    ratio = NONE if first.median is None else f"{trial.median / first.median:.2f} x"
    memory = f"{trial.memory / 2**20:,.0f}"
    return [*name, *_times(trial.seconds), ratio, memory, size, _different(trial, first, lengths)]


def _times(seconds: Sequence[float]) -> list[str]:
    return [milliseconds(statistics.median(seconds)), milliseconds(min(seconds))]


def _different(trial: Trial, first: Trial, lengths: Sequence[int]) -> str:
    """Says how many labels are not those of the first, of each scan."""
    labels, expected = trial.labels, first.labels
    if trial is first or labels is None or expected is None:
        return NONE
    parts = np.split(labels != expected, np.cumsum(lengths)[:-1])
    return ", ".join(f"{np.count_nonzero(part):,} ({part.mean():.2%})" for part in parts)
