"""Incomplete echoes: dark vehicles lose most of their points (Kong et al., "Robo3D", ICCV 2023)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dataloader.corruptions.sweep import Sweep


def incomplete_echo(
    sweep: Sweep,
    rng: np.random.Generator,
    ratio: float = 0.75,
    classes: Sequence[int] | None = None,
    minimum: int = 10,
) -> Sweep:
    """Deletes int(`ratio` n) of the n points of each vehicle class, chosen at random without replacement.

    Args:
        sweep: N points.
        rng: source of the choice.
        ratio: share of the points that is deleted, 0..1.
        classes: learning ids; None for the sensor's vehicles and cycles, without persons and riders.
        minimum: a class with this many points or fewer keeps all of them.
    """
    kept = np.ones(len(sweep), dtype=bool)
    for label in sweep.sensor.vehicles if classes is None else classes:
        rows = np.flatnonzero(sweep.labels == label)
        if len(rows) > minimum:
            kept[rng.choice(rows, int(ratio * len(rows)), replace=False, shuffle=False)] = False
    return sweep.select(kept)
