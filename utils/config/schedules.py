"""The kinds of `train_params.lr_scheduler`, by their published names.

A new schedule is a class here, an entry of `ScheduleParams`, and a case in `network.training.schedules`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from utils.config.fields import Epochs
from utils.config.kinds import FlatKind

_NAME = "The schedule of the learning rate."
_FACTOR = Annotated[float, Field(gt=0, lt=1)]


class StepLRParams(FlatKind):
    """A decay every so many epochs."""

    name: Literal["StepLR"] = Field(default="StepLR", description=_NAME)
    decay_step: Epochs = Field(description="Epochs from one decay to the next.")
    decay_rate: _FACTOR = Field(description="Factor of each decay.")


class PlateauParams(FlatKind):
    """A decay when the monitored score has not risen for so many epochs."""

    name: Literal["ReduceLROnPlateau"] = Field(default="ReduceLROnPlateau", description=_NAME)
    decay_step: Epochs = Field(description="Number of validations without a better score before a decay.")
    decay_rate: _FACTOR = Field(description="Factor of each decay.")


class CosineParams(FlatKind):
    """A cosine per epoch, down to 1e-5 four epochs before the end."""

    name: Literal["CosineAnnealingLR"] = Field(default="CosineAnnealingLR", description=_NAME)


class WarmCosineParams(FlatKind):
    """A cosine per step after a linear warm-up (none on one GPU); despite the name there are no restarts."""

    name: Literal["CosineAnnealingWarmRestarts"] = Field(default="CosineAnnealingWarmRestarts", description=_NAME)


ScheduleParams = StepLRParams | PlateauParams | CosineParams | WarmCosineParams
