"""The scans of a command: they are opened, and what is doubtful about them is said."""

from __future__ import annotations

from typing import Any

from dataloader.datamodule import DataModule
from dataloader.experiment import Experiment
from utils.command.devices import say_first
from utils.config.schema import Config


def open_data(experiment: Experiment, **how: Any) -> DataModule:
    """Opens the scans, and says what is doubtful about them; `how` as for `DataModule`."""
    data = DataModule.of(experiment, **how)
    for note in data.notes:
        say_first(f"note: {note}")
    return data


def with_past(config: Config) -> str:
    """Tells how many past sweeps each scan has with it; "" if none."""
    past = config.dataset_params.past
    return f" (each with up to {past} before it)" if past else ""
