"""The run of a training in an experiment tracker: what every tracker is given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from utils.results.run_settings import Plain

Ending = Literal["finished", "failed", "killed"]


@dataclass(frozen=True)
class Training:
    """A frozen record of which training a run is of.

    Attributes:
        folder: the run's folder.
        dataset: name of the data set.
        name: --log_dir and the version.
        steps: optimiser steps that were done when it was resumed; 0: it is new.
    """

    folder: Path
    dataset: str
    name: str
    steps: int = 0


class Run(Protocol):
    """The protocol of an open run of a tracker. Any method may fail or wait; `Tracker` copes with that.

    A step is the number of optimiser steps before the one that something belongs to.
    """

    where: str
    """Where the run can be looked at, for the user; "": where the run's folder is."""

    def settings(self, values: Mapping[str, Plain], step: int) -> None:
        """Takes what decides how the training goes: keys of the config, flags and facts, by name."""
        ...

    def numbers(self, values: Mapping[str, float], step: int) -> None:
        """Takes losses, scores and the like, by name."""
        ...

    def text(self, name: str, text: str, step: int) -> None:
        """Takes a text, which replaces the one of that name."""
        ...

    def picture(self, name: str, path: Path, step: int) -> None:
        """Takes a picture, a PNG file; with every step, another one of that name."""
        ...

    def close(self, ending: Ending) -> None:
        """Ends the run."""
        ...
