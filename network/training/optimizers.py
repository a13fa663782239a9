"""Construction of the optimiser from its settings."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn
from torch.nn import Parameter
from torch.optim import SGD, Adam, AdamW, Optimizer

from utils.config.optimizers import AdamParams, AdamWParams, OptimizerParams, SGDParams


def build_optimizer(parameters: Iterable[Parameter], params: OptimizerParams, learning_rate: float) -> Optimizer:
    """Builds the optimiser that `params` describes.

    It is fused: it makes one pass over the weights, and its step can be cancelled on the device (`GradientGuard`).

    Args:
        parameters: parameters to train, on the device where they are trained.
        params: settings of the optimiser; their class says which optimiser it is.
        learning_rate: learning rate at the peak of the schedule.
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
        case AdamWParams():
            optimizer = AdamW(
                parameters, lr=learning_rate, betas=params.betas, weight_decay=params.weight_decay, fused=True
            )
    # In fp16 the gradients are to be unscaled before they are clipped, not by the optimiser's step.
    optimizer._step_supports_amp_scaling = False  # type: ignore[attr-defined]
    return optimizer


def trained_parameters(network: nn.Module) -> list[Parameter]:
    """Lists the parameters of a network that are trained, in the order in which the optimiser has them."""
    return [parameter for parameter in network.parameters() if parameter.requires_grad]


def fill_momentum(optimizer: Optimizer) -> None:
    """Fills the momentum that an SGD does not have yet with zeros, which have the same effect as no momentum.

    Without them, a fused SGD whose first step is cancelled would continue from uninitialised memory. The momentum needs
    the memory layout of its parameter, as `zeros_like` gives it: a fused step on a CPU takes this for granted.
    """
    for group in optimizer.param_groups:
        for parameter in group["params"] if group.get("momentum") else []:
            if optimizer.state[parameter].get("momentum_buffer") is None:
                optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
