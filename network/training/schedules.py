"""Construction of the learning-rate schedule from its settings."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Literal

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, ReduceLROnPlateau

from utils.config.schedules import CosineParams, PlateauParams, ScheduleParams, StepLRParams, WarmCosineParams

LAST_EPOCHS_AT_MINIMUM = 4  # the cosine per epoch reaches its minimum this many epochs before the end
MINIMUM_RATE = 1e-5
WARMUP_STEPS = 1000  # divided by the number of GPUs


@dataclass(frozen=True)
class Schedule:
    """A learning-rate schedule and when to advance it.

    All schedules but the plateau are functions of the position in the training. So a resumed run has the learning rate
    of an uninterrupted one, even if the number of epochs or their length has changed.

    Attributes:
        scheduler: the torch scheduler.
        interval: whether it advances after every step or after every epoch.
        needs_monitor: whether `scheduler.step` takes the monitored score (higher is better).
    """

    scheduler: LRScheduler
    interval: Literal["step", "epoch"]
    needs_monitor: bool = False

    def place(self, epochs: int, steps_per_epoch: int) -> None:
        """Moves the schedule to where it is after so many epochs, whatever it has counted; a plateau stays as it is.

        Args:
            epochs: number of finished epochs.
            steps_per_epoch: number of optimiser steps in an epoch.
        """
        if not isinstance(self.scheduler, LambdaLR):
            return
        position = epochs * (steps_per_epoch if self.interval == "step" else 1)
        self.scheduler.last_epoch, self.scheduler._step_count = position, position + 1
        factors = [factor(position) for factor in self.scheduler.lr_lambdas]
        rates = [base * factor for base, factor in zip(self.scheduler.base_lrs, factors, strict=True)]
        for group, base, rate in zip(
            self.scheduler.optimizer.param_groups, self.scheduler.base_lrs, rates, strict=True
        ):
            group["lr"], group["initial_lr"] = rate, base
        self.scheduler._last_lr = rates


def build_scheduler(
    optimizer: Optimizer, params: ScheduleParams, max_num_epochs: int, steps_per_epoch: int, num_gpu: int
) -> Schedule:
    """Builds the schedule that `params` describes.

    Args:
        optimizer: optimiser whose learning rate is set.
        params: settings of the schedule; their class says which schedule it is.
        max_num_epochs: length of the training in epochs.
        steps_per_epoch: optimiser steps per epoch, see `dataloader.sampler`; only the cosine per step uses it.
        num_gpu: number of processes; it sets the length of the warm-up.
    """
    match params:
        case StepLRParams():
            step, rate = params.decay_step, params.decay_rate
            return Schedule(LambdaLR(optimizer, lambda epoch: rate ** (epoch // step)), "epoch")
        case PlateauParams():
            plateau = ReduceLROnPlateau(optimizer, "max", factor=params.decay_rate, patience=params.decay_step)
            return Schedule(plateau, "epoch", needs_monitor=True)
        case CosineParams():
            # A demo run of four epochs or fewer would otherwise divide by zero.
            length = max(max_num_epochs - LAST_EPOCHS_AT_MINIMUM, 1)
            lowest = MINIMUM_RATE / optimizer.param_groups[0]["lr"]
            return Schedule(LambdaLR(optimizer, partial(cosine_factor, length=length, lowest=lowest)), "epoch")
        case WarmCosineParams():
            total = max_num_epochs * steps_per_epoch
            factor = partial(warm_cosine_factor, warmup=warmup_steps(num_gpu), total_steps=total)
            return Schedule(LambdaLR(optimizer, factor), "step")


def cosine_factor(epoch: int, length: int, lowest: float) -> float:
    """Returns the learning rate in an epoch, as a share of the base: half a cosine down to `lowest`, then up again.

    Args:
        epoch: index of the epoch, from 0.
        length: number of epochs of the fall.
        lowest: the smallest share.
    """
    return lowest + (1 - lowest) * (1 + math.cos(math.pi * epoch / length)) / 2


def warm_cosine_factor(step: int, warmup: int, total_steps: int) -> float:
    """Returns the learning rate at `step`, as a share of the base rate: a linear rise, then half a cosine.

    Args:
        step: optimiser steps done, from 0.
        warmup: number of steps of the rise.
        total_steps: length of the falling half cosine, in steps.
    """
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / total_steps))


def warmup_steps(num_gpu: int) -> int:
    """Returns the steps of the linear warm-up: 0 on one GPU or on the CPU, else 1000 divided by the number of GPUs."""
    return 0 if num_gpu <= 1 else WARMUP_STEPS // num_gpu
