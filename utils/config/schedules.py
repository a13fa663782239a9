"""The kinds of `train_params.lr_scheduler`: four by their published names, and those of later recipes.

A new schedule is a class here, an entry of `ScheduleParams`, and a case in `network.training.schedules`.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationInfo
from pydantic import field_validator as check

from utils.config.fields import Epochs, PositiveInt, Share, list_of
from utils.config.kinds import FlatKind

_NAME = "The schedule of the learning rate."
_FACTOR = Annotated[float, Field(gt=0, lt=1)]
_DIVISOR = Annotated[float, Field(ge=1, le=1e12)]


def _ascending(epochs: tuple[int, ...]) -> tuple[int, ...]:
    if not epochs or any(later <= earlier for earlier, later in pairwise(epochs)):
        raise ValueError("must be one or more epochs in ascending order, each once")
    return epochs


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


class MultiStepLRParams(FlatKind):
    """A decay after each of the epochs that are named."""

    name: Literal["MultiStepLR"] = Field(default="MultiStepLR", description=_NAME)
    milestones: Annotated[tuple[Epochs, ...], list_of(), AfterValidator(_ascending)] = Field(
        description="The finished epochs after which the rate decays: [24, 32] of 36."
    )
    decay_rate: _FACTOR = Field(description="Factor of each decay.")


class CosineWarmupParams(FlatKind):
    """A linear warm-up, then half a cosine to the end of the training; advances with every step."""

    name: Literal["CosineAnnealingWarmup"] = Field(default="CosineAnnealingWarmup", description=_NAME)
    warmup_steps: PositiveInt | None = Field(
        default=None, description="Optimiser steps of the warm-up; null: see warmup_epochs."
    )
    warmup_epochs: Annotated[float, Field(gt=0, le=1e6)] | None = Field(
        default=None, description="Epochs of the warm-up, where it is not given in steps; null for both: none."
    )
    final_share: Share = Field(default=0.0, description="Share of the learning rate that is left at the end.")

    @check("warmup_epochs")
    @classmethod
    def _one_length(cls, epochs: float | None, info: ValidationInfo) -> float | None:
        if epochs is not None and info.data.get("warmup_steps") is not None:
            raise ValueError("must be null where warmup_steps is given: the warm-up has one length")
        return epochs


class OneCycleParams(FlatKind):
    """A rise and a fall along half cosines (Smith and Topin, 2018), as torch's OneCycleLR; advances with every step."""

    name: Literal["OneCycleLR"] = Field(default="OneCycleLR", description=_NAME)
    pct_start: Share = Field(default=0.3, description="Share of the steps in which the rate rises.")
    div_factor: _DIVISOR = Field(default=25.0, description="The learning rate over the rate of the first step.")
    final_div_factor: _DIVISOR = Field(
        default=1e4, description="The rate of the first step over the rate of the last one."
    )
    cycle_momentum: bool = Field(
        default=True,
        description="Let the momentum (Adam: the first beta) fall from 0.95 to 0.85 while the rate rises, then rise.",
    )


ScheduleParams = (
    StepLRParams
    | PlateauParams
    | CosineParams
    | WarmCosineParams
    | MultiStepLRParams
    | CosineWarmupParams
    | OneCycleParams
)
PER_STEP = (WarmCosineParams, CosineWarmupParams, OneCycleParams)
"""The schedules that advance with every optimiser step; the others advance with every epoch."""
