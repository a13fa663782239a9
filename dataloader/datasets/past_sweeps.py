"""Past sweeps: what a source of scans says about the sweeps before one of its own, and how they are read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import numpy as np

from dataloader.datasets.past_thinning import Thinning
from dataloader.datasets.source import Source
from utils.config.data import DatasetParams
from utils.errors import UserError
from utils.scan.motion import Motion, as_past
from utils.scan.records import Frame, Scan


@dataclass(frozen=True)
class PastSweep:
    """A frozen record of a sweep before the current one.

    Attributes:
        frame: which sweep it is.
        age: how old it is; see `Scan.age`.
        motion: from its frame to that of the current sweep.
        own_car: half the edge, metres, of the square around the sensor in which points are returns of the own car, to
            be left out; 0: there are none.
        thinning: which of its points are kept; None: all.
    """

    frame: Frame
    age: float
    motion: Motion
    own_car: float = 0.0
    thinning: Thinning | None = None

    def moved(self, scan: Scan) -> Scan:
        """Returns the sweep as points of the current one, without those of the own car and those thinned out.

        Raises:
            UserError: the prediction by which it is thinned cannot be used.
        """
        if self.thinning is not None:
            scan = scan.select(self.thinning.rows(self.frame, self.age, scan.index))
        if self.own_car:
            x, y = np.abs(scan.xyz[:, :2]).T
            scan = scan.select(~((x < np.float32(self.own_car)) & (y < np.float32(self.own_car))))
        return as_past(scan, self.motion, self.age)


def thinned(sweeps: Sequence[PastSweep], thinning: Thinning) -> list[PastSweep]:
    """Returns past sweeps with their thinning, without those of which no point would be kept."""
    return [replace(sweep, thinning=thinning) for sweep in sweeps if thinning.keeps(sweep.age).any()]


@runtime_checkable
class SourceWithPast(Source, Protocol):
    """A source of scans that knows the sweeps before each of them."""

    def past(self, index: int) -> Sequence[PastSweep]:
        """Lists the sweeps that are added to scan number `index`, the newest first; none is from the future."""
        ...

    def read_past(self, sweep: PastSweep, with_labels: bool) -> Scan:
        """Reads a sweep that `past` names, in its own frame; labels and instances are 0 without `with_labels`."""
        ...


def refuse_lone_scans(params: DatasetParams, source: Source) -> None:
    """Raises UserError if past sweeps are asked for of a source, not empty, that does not know them."""
    if params.past and not isinstance(source, SourceWithPast):
        raise UserError(
            f"dataset_params.{params.past_key} is {params.past}, but these scans ({source.frame(0).path}) are known "
            f"one by one, without poses; set it to 0 (--set dataset_params.{params.past_key}=0) to take each for the "
            "first of its sequence"
        )
