"""From the settings of an optimiser to the optimiser."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch.nn import Parameter
from torch.optim import SGD, Adam, Optimizer

from utils.config.optimizers import AdamParams, OptimizerParams, SGDParams


def build_optimizer(parameters: Iterable[Parameter], params: OptimizerParams, learning_rate: float) -> Optimizer:
    """The optimiser that `params` describes.

    It is a fused one: one pass over the weights, and a step that can be called off on the device (`GradientGuard`).

    Args:
        parameters: on the device where they are trained.
        params: its settings; their class says which optimiser it is.
        learning_rate: at the peak of the schedule.
    """
    optimizer: Optimizer
    match params:
        case SGDParams():
            optimizer = SGD(
                parameters,
                learning_rate,
                params.momentum,
                nesterov=params.nesterov,
                weight_decay=params.weight_decay,
                fused=True,
            )
            fill_momentum(optimizer)
        case AdamParams():
            optimizer = Adam(parameters, lr=learning_rate, fused=True)
    # In fp16 the gradients are to be unscaled before they are clipped, not by the optimiser's step.
    optimizer._step_supports_amp_scaling = False  # type: ignore[attr-defined]
    return optimizer


def fill_momentum(optimizer: Optimizer) -> None:
    """Zeros for the momentum that an SGD does not have yet: the same as none.

    Where its first step is called off, a fused SGD would go on from uninitialised momentum. (Its memory layout is to be
    that of the parameter, as `zeros_like` makes it: a fused step on a CPU does not look.)
    """
    for group in optimizer.param_groups:
        for parameter in group["params"] if group.get("momentum") else []:
            if optimizer.state[parameter].get("momentum_buffer") is None:
                optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
