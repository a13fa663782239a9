"""The records of a study: arms that are trained, what is measured of them, and the questions that rows answer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

STEPS = 600
"""Optimiser steps of a training, unless its arm says otherwise; the arms of a network have equally many."""
SCANS = 120
"""Labelled training scans of the world."""
VIEWED = 40
"""Validation scans of the world."""
SEEDS = (1, 2, 3, 4, 5)
FEW_SEEDS = (1, 2, 3)

Network = Literal["2DPASS", "3D network of 2DPASS", "MinkowskiNet", "MinkowskiNet, past scans"]


@dataclass(frozen=True)
class Arm:
    """A way to train.

    Attributes:
        name: part of the names of its runs.
        title: what it is, for tables.
        network: what is trained: arms of one network take about the same time.
        config: name of the config, without folder and ending.
        settings: values of --set.
        flags: further flags of main.py.
        scans: training scans of an epoch; the number of epochs follows from it.
        start: the arm whose last weights it starts from; None: from random ones.
        taking: the flags that take them.
        world: the data that it is trained on.
        seed: its only seed; None: that of the run.
        validated: whether the training ends with a validation; without labels there is none.
        steps: optimiser steps, of one scan each.
    """

    name: str
    title: str
    network: Network
    config: str
    settings: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    scans: int = SCANS
    start: Arm | None = None
    taking: tuple[str, ...] = ()
    world: Literal["study", "teacher"] = "study"
    seed: int | None = None
    validated: bool = True
    steps: int = STEPS

    @property
    def epochs(self) -> int:
        """The number of epochs that its steps take."""
        return self.steps // self.scans

    def run_of(self, seed: int) -> str:
        """Returns the value of --log_dir."""
        return f"study_{self.name}_seed{seed if self.seed is None else self.seed}"


@dataclass(frozen=True)
class Row:
    """A figure of a table: an arm, and how it is tested.

    Attributes:
        arm: what is tested.
        views: views per scan.
        corrupted: whether the figure is the mean mIoU over corrupted validation scans.
        seeds: the runs that the study wants.
        against: key of the row that the differences are taken from; "": none.
        called: the title in this table; "": that of the arm.
        first: whether the row is run before those of other questions that are not.
    """

    arm: Arm
    views: int = 1
    corrupted: bool = False
    seeds: tuple[int, ...] = SEEDS
    against: str = ""
    first: bool = True
    called: str = ""

    @property
    def key(self) -> str:
        """The name of the row, which differs from that of all others of its question."""
        return self.arm.name + ("-corrupted" if self.corrupted else f"-views{self.views}" if self.views > 1 else "")

    @property
    def title(self) -> str:
        """The title of the row, for tables."""
        title = self.called or self.arm.title
        if self.corrupted:
            return f"{title}: corrupted scans"
        return f"{title}, {self.views} views" if self.views > 1 else title


@dataclass(frozen=True)
class Experiment:
    """A question and the rows that answer it.

    Attributes:
        letter: its name on the command line.
        title: heading.
        about: what is compared and what has to be known about it, in sentences.
        rows: the first one is drawn first.
    """

    letter: str
    title: str
    about: str
    rows: tuple[Row, ...] = field(default=())

    def row(self, key: str) -> Row:
        """Returns the row with that key."""
        return next(row for row in self.rows if row.key == key)
