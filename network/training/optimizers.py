"""The optimisers, by the names the published configs use."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch.nn import Parameter
from torch.optim import SGD, Adam, Optimizer

from utils.errors import UserError


def build_optimizer(
    parameters: Iterable[Parameter],
    name: str,
    learning_rate: float,
    momentum: float = 0.9,
    nesterov: bool = True,
    weight_decay: float = 1e-4,
) -> Optimizer:
    """The optimiser called `name`: "SGD", or "Adam" (which takes the learning rate alone, as published).

    It is a fused one: one pass over the weights, and a step that can be called off on the device (`GradientGuard`).

    Args:
        parameters: on the device where they are trained.
        name: which.
        learning_rate: of both.
        momentum, nesterov, weight_decay: of SGD.

    Raises:
        UserError: there is no such optimiser.
    """
    optimizer: Optimizer
    if name == "SGD":
        optimizer = SGD(parameters, learning_rate, momentum, nesterov=nesterov, weight_decay=weight_decay, fused=True)
        fill_momentum(optimizer)
    elif name == "Adam":
        optimizer = Adam(parameters, lr=learning_rate, fused=True)
    else:
        raise UserError(f"train_params.optimizer: unknown optimizer '{name}'; choose SGD or Adam")
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
