"""The past scans that a network was trained with, as its config tells."""

from __future__ import annotations

from dataclasses import dataclass

from utils.config.schema import Config
from utils.scan.sensor import NUSCENES
from utils.scan.trajectory import Ages


@dataclass(frozen=True)
class TrainedPast:
    """A frozen record of the past scans that a network was trained with.

    Attributes:
        taken: whether it takes points of past scans.
        scans: how many there were before each scan.
        ages: the unit in which it has learned how old points are.
        thinned: whether past points were thinned by their class (`dataset_params.past_predictions`).
    """

    taken: bool
    scans: int
    ages: Ages
    thinned: bool = False

    @staticmethod
    def of(config: Config) -> TrainedPast:
        """Returns what a config says."""
        taken = config.model_params.input_dims > 4
        ages = "seconds" if config.dataset_params.pc_dataset_type == NUSCENES.name else "scans"
        data = config.dataset_params
        return TrainedPast(taken, data.past if taken else 0, ages, data.past_predictions is not None)

    def __str__(self) -> str:
        if not self.taken:
            return "the network was trained on single scans (model_params.input_dims is 4) and takes no past ones"
        number = "1 scan" if self.scans == 1 else f"{self.scans} scans"
        return f"the network was trained with the {number} before each"
