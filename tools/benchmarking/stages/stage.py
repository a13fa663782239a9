"""One line of the benchmark: two ways of doing the same, timed in turns and compared."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tools.benchmarking.timing import seconds

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Difference:
    """The difference of two results.

    Attributes:
        value: largest absolute difference of numbers, or the number of entries that differ.
        out_of: largest absolute number of the plain result, or the number of entries.
        is_count: whether entries were counted.
    """

    value: float
    out_of: float
    is_count: bool = False

    @property
    def relative(self) -> float:
        """The difference `value` as a share of `out_of`."""
        return self.value / self.out_of if self.out_of else float("inf" if self.value else 0)

    def __str__(self) -> str:
        return f"{self.value:,.0f} of {self.out_of:,.0f}" if self.is_count else f"{self.value:.2g} of {self.out_of:.3g}"


@dataclass(frozen=True)
class Stage:
    """One line of the benchmark: a computation in two ways.

    Attributes:
        name: the name of the computation.
        ours, plain: run it once, from the same input. Only the results of the first call of each are compared.
        plain_name: a description of the plain way.
        compare: (result of ours, result of plain) -> their difference.
        torch: ours without native code; None: there is none in it.
    """

    name: str
    ours: Callable[[], Any]
    plain_name: str
    plain: Callable[[], Any]
    compare: Callable[[Any, Any], Difference]
    torch: Callable[[], Any] | None = None


def largest_difference(ours: Iterable[Tensor], plain: Iterable[Tensor]) -> Difference:
    """Finds the largest difference of a pair of tensors, relative to the numbers of the pair."""
    return max((_difference(a, b) for a, b in zip(ours, plain, strict=True)), key=lambda found: found.relative)


def _difference(ours: Tensor, plain: Tensor) -> Difference:
    if ours.shape != plain.shape:
        return Difference(float("inf"), 0.0)
    ours, plain = ours.detach().double(), plain.detach().double()
    apart = (ours - plain).abs().nan_to_num(nan=float("inf"))  # NaN is no agreement
    return Difference(float(apart.max()), float(plain.abs().nan_to_num(nan=0.0).max()))


def count_different(ours: Iterable[Tensor], plain: Iterable[Tensor]) -> Difference:
    """Counts the rows that are not equal, over pairs of tensors of equal length."""
    rows = [(a != b).reshape(len(a), -1).any(1) for a, b in zip(ours, plain, strict=True)]
    return Difference(float(sum(int(r.sum()) for r in rows)), float(sum(map(len, rows))), is_count=True)


@dataclass(frozen=True)
class Measurement:
    """One stage, measured.

    Attributes:
        stage: the stage.
        ours, plain: median time of a call, seconds.
        difference: the difference of the results; of ours with and without native code the greater one.
        torch: median time of ours without native code, seconds; None: it has none.
    """

    stage: Stage
    ours: float
    plain: float
    difference: Difference
    torch: float | None = None


def measure(stage: Stage, runs: int) -> Measurement:
    """Measures a stage in all ways: once to warm up and to compare, then `runs` times in turns."""
    ways = [stage.ours, *([] if stage.torch is None else [stage.torch])]
    results, expected = [way() for way in ways], stage.plain()
    difference = max((stage.compare(result, expected) for result in results), key=lambda found: found.relative)
    times = [[seconds(way, CPU) for way in (*ways, stage.plain)] for _ in range(runs)]
    medians = [statistics.median(column) for column in zip(*times, strict=True)]
    return Measurement(stage, medians[0], medians[-1], difference, None if stage.torch is None else medians[1])
