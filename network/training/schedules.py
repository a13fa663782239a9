"""Construction of the learning-rate schedule from its settings."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, ReduceLROnPlateau

from utils.config.schedules import (
    CosineParams,
    CosineWarmupParams,
    MultiStepLRParams,
    OneCycleParams,
    PlateauParams,
    ScheduleParams,
    StepLRParams,
    WarmCosineParams,
)

LAST_EPOCHS_AT_MINIMUM = 4  # the cosine per epoch reaches its minimum this many epochs before the end
MINIMUM_RATE = 1e-5
WARMUP_STEPS = 1000  # divided by the number of GPUs
LEAST_MOMENTUM, MOST_MOMENTUM = 0.85, 0.95  # of OneCycleLR, as in torch


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

    def place(self, epochs: int, steps_per_epoch: int, steps: int = 0) -> None:
        """Moves the schedule to where it is after so many epochs, whatever it has counted; a plateau stays as it is.

        Args:
            epochs: number of finished epochs.
            steps_per_epoch: number of optimiser steps in an epoch.
            steps: number of those that are done in the epoch after them.
        """
        if not isinstance(self.scheduler, LambdaLR):
            return
        position = epochs * steps_per_epoch + steps if self.interval == "step" else epochs
        self.scheduler.last_epoch, self.scheduler._step_count = position, position + 1
        if isinstance(self.scheduler, MomentumCycle):
            self.scheduler.set_momentum()
        factors = [factor(position) for factor in self.scheduler.lr_lambdas]
        rates = [base * factor for base, factor in zip(self.scheduler.base_lrs, factors, strict=True)]
        for group, base, rate in zip(
            self.scheduler.optimizer.param_groups, self.scheduler.base_lrs, rates, strict=True
        ):
            group["lr"], group["initial_lr"] = rate, base
        self.scheduler._last_lr = rates


class MomentumCycle(LambdaLR):
    """A schedule that sets the momentum (of Adam: the first beta) beside the learning rate.

    Args:
        optimizer: the optimiser, with a momentum or betas.
        factor: learning rate at a step, as a share of the base.
        momentum: momentum at a step.
    """

    def __init__(self, optimizer: Optimizer, factor: Callable[[int], float], momentum: Callable[[int], float]) -> None:
        self.momentum = momentum
        super().__init__(optimizer, factor)

    def get_lr(self) -> list[Any]:
        """Returns the learning rates at the present step, and sets the momentum."""
        self.set_momentum()
        return super().get_lr()

    def state_dict(self) -> dict[str, Any]:
        """Returns the state as plain values: without the function, which the settings give."""
        return {name: value for name, value in super().state_dict().items() if name != "momentum"}

    def set_momentum(self) -> None:
        """Sets the momentum of the present step."""
        momentum = self.momentum(self.last_epoch)
        for group in self.optimizer.param_groups:
            if "betas" in group:
                group["betas"] = (momentum, group["betas"][1])
            else:
                group["momentum"] = momentum


def build_scheduler(
    optimizer: Optimizer, params: ScheduleParams, max_num_epochs: int, steps_per_epoch: int, num_gpu: int
) -> Schedule:
    """Builds the schedule that `params` describes.

    Args:
        optimizer: optimiser whose learning rate is set.
        params: settings of the schedule; their class says which schedule it is.
        max_num_epochs: length of the training in epochs.
        steps_per_epoch: optimiser steps per epoch, for the schedules that count steps.
        num_gpu: number of processes; it sets the length of the published warm-up.
    """
    total = max_num_epochs * steps_per_epoch
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
            factor = partial(warm_cosine_factor, warmup=warmup_steps(num_gpu), total_steps=total)
            return Schedule(LambdaLR(optimizer, factor), "step")
        case MultiStepLRParams():
            milestones, rate = params.milestones, params.decay_rate
            return Schedule(LambdaLR(optimizer, lambda epoch: rate ** bisect_right(milestones, epoch)), "epoch")
        case CosineWarmupParams():
            warmup = warmup_length(params, steps_per_epoch)
            factor = partial(cosine_warmup_factor, warmup=warmup, total_steps=total, lowest=params.final_share)
            return Schedule(LambdaLR(optimizer, factor), "step")
        case OneCycleParams():
            first = 1 / params.div_factor
            cycle = partial(one_cycle, rise=params.pct_start, total_steps=total)
            factor = partial(cycle, first=first, peak=1.0, last=first / params.final_div_factor)
            if not params.cycle_momentum:
                return Schedule(LambdaLR(optimizer, factor), "step")
            momentum = partial(cycle, first=MOST_MOMENTUM, peak=LEAST_MOMENTUM, last=MOST_MOMENTUM)
            return Schedule(MomentumCycle(optimizer, factor, momentum), "step")


def warmup_length(params: CosineWarmupParams, steps_per_epoch: int) -> int:
    """Returns the optimiser steps of the warm-up, which is given in steps or in epochs, or not at all."""
    return params.warmup_steps or round((params.warmup_epochs or 0) * steps_per_epoch)


def cosine_warmup_factor(step: int, warmup: int, total_steps: int, lowest: float) -> float:
    """Returns the learning rate at `step`, as a share of the base rate: a linear rise, then half a cosine to `lowest`.

    Args:
        step: optimiser steps done, from 0.
        warmup: number of steps of the rise; the last of them has the base rate.
        total_steps: length of the training in steps; the rate stays as it is then.
        lowest: share of the base rate at the end.
    """
    if step < warmup:
        return (step + 1) / warmup
    return _along_cosine(1.0, lowest, min((step - warmup) / max(total_steps - warmup, 1), 1.0))


def one_cycle(step: int, rise: float, total_steps: int, first: float, peak: float, last: float) -> float:
    """Returns a value at `step` of one cycle: half a cosine from `first` to `peak`, then another one to `last`.

    The two ends lie where torch's OneCycleLR has them, so that the last step has the last value.

    Args:
        step: optimiser steps done, from 0.
        rise: share of the steps at whose end the peak lies.
        total_steps: length of the training in steps; the value stays as it is then.
        first, peak, last: the values at the start, at the peak and at the end.
    """
    top, end = rise * total_steps - 1, total_steps - 1
    step = min(step, end)
    if step <= top:
        return _along_cosine(first, peak, step / top if top else 1.0)
    return _along_cosine(peak, last, (step - top) / (end - top))


def _along_cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) / 2 * (1 + math.cos(math.pi * share))


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
