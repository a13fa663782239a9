"""Mean, spread and paired differences of a few runs."""

from __future__ import annotations

import statistics
from collections.abc import Collection, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Spread:
    """Several figures of one kind.

    Attributes:
        number: of figures.
        mean: their mean.
        deviation: standard deviation of a sample (n - 1); None for one figure.
        positive: number of figures above 0.
    """

    number: int
    mean: float
    deviation: float | None
    positive: int


def spread(figures: Collection[float]) -> Spread | None:
    """Summarises figures; None if there are none."""
    if not figures:
        return None
    deviation = statistics.stdev(figures) if len(figures) > 1 else None
    return Spread(len(figures), statistics.fmean(figures), deviation, sum(figure > 0 for figure in figures))


def differences(figures: Mapping[int, float], others: Mapping[int, float]) -> dict[int, float]:
    """Subtracts figures of the same seed; seeds that one side lacks are left out."""
    return {seed: figure - others[seed] for seed, figure in figures.items() if seed in others}
