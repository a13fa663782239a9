"""Checks of the optimiser's state in a checkpoint.

A fused step trusts this state: with a moment of the wrong size it would read and write memory that is not its own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from network.training.optimizers import build_optimizer, trained_parameters
from network.training.schedules import MINIMUM_RATE
from network.weights.entries import Wrong, entry, is_number, section
from utils.config.optimizers import AdamParams, AdamWParams, SGDParams
from utils.config.schedules import OneCycleParams
from utils.config.train import TrainParams

_ROUNDING = 1e-6  # relative rounding error of a learning rate that a schedule has computed


def checked_optimizer(
    content: Mapping[str, Any], network: nn.Module, training: TrainParams, steps: int
) -> dict[str, Any]:
    """Checks the optimiser state of a checkpoint, and returns its moments and its learning rate.

    Args:
        content: content of the checkpoint.
        network: the network whose parameters are optimised; their order counts.
        training: the optimiser's settings.
        steps: number of optimiser steps that the training has taken.

    Returns:
        `state` (moments of each parameter, of its shape, dtype and memory layout) and `param_groups` (one, with
        `params` and `lr`), as the optimiser's `state_dict` has them.

    Raises:
        Wrong: an entry is missing, or has a value that no training could have written.
    """
    states = content.get("optimizer_states")
    if type(states) is not list or len(states) != 1 or not isinstance(states[0], Mapping):
        raise Wrong("optimizer_states")
    groups, where = states[0].get("param_groups"), "optimizer_states.param_groups"
    if type(groups) is not list or len(groups) != 1 or not isinstance(groups[0], Mapping):
        raise Wrong(where)
    parameters = trained_parameters(network)
    _check_group(groups[0], len(parameters), training, where)
    state = section(states[0], "state", "optimizer_states.")
    numbers = set(range(len(parameters))) if _kinds(training) else set()
    if not all(type(number) is int for number in state) or not numbers <= set(state) <= set(range(len(parameters))):
        raise Wrong("optimizer_states.state")
    moments = {number: _moments(state, number, parameters[number], training, steps) for number in sorted(numbers)}
    group = {"params": list(range(len(parameters))), "lr": float(groups[0]["lr"])}
    return {"state": moments, "param_groups": [group]}


def _kinds(training: TrainParams) -> tuple[str, ...]:
    """Returns the names of the moments that the optimiser keeps for each parameter."""
    match training.optimizer:
        case AdamParams() | AdamWParams():
            return ("exp_avg", "exp_avg_sq")
        case SGDParams(momentum=momentum):
            return ("momentum_buffer",) if momentum else ()


def _check_group(group: Mapping[Any, Any], parameters: int, training: TrainParams, where: str) -> None:
    numbers = group.get("params")
    if type(numbers) is not list or any(type(n) is not int for n in numbers) or numbers != list(range(parameters)):
        raise Wrong(f"{where}.params")
    highest = max(training.learning_rate, MINIMUM_RATE) * (1 + _ROUNDING)  # schedules only lower it
    entry(group, "lr", lambda rate: rate if is_number(rate) and 0 <= rate <= highest else None, f"{where}.")
    fresh = build_optimizer([nn.Parameter(torch.zeros(1))], training.optimizer, training.learning_rate).param_groups[0]
    fresh = fresh | {"initial_lr": training.learning_rate}
    free = {"params", "lr", "fused", "foreach", "capturable"}
    if isinstance(training.lr_scheduler, OneCycleParams) and training.lr_scheduler.cycle_momentum:
        free |= {"momentum", "betas"}  # the schedule sets them; they are not taken from a checkpoint
    for key, value in fresh.items():
        if key not in free and key in group and not _same(group[key], value):
            raise Wrong(f"{where}.{key}")


def _same(found: Any, wanted: Any) -> bool:
    """Returns whether a value from a file equals the number, the pair or the flag of the settings."""
    if isinstance(wanted, tuple):
        return type(found) in (tuple, list) and len(found) == len(wanted) and all(map(_same, found, wanted))
    return type(found) in (int, float, bool, type(None)) and found == wanted


def _moments(
    state: Mapping[Any, Any], number: int, parameter: Tensor, training: TrainParams, steps: int
) -> dict[str, Tensor]:
    """Returns the moments of a parameter in its memory layout, which a fused step takes for granted."""
    found, where = state[number], f"optimizer_states.state.{number}"
    if not isinstance(found, Mapping):
        raise Wrong(where)
    moments: dict[str, Tensor] = {}
    if isinstance(training.optimizer, AdamParams | AdamWParams):
        moments["step"] = torch.tensor(entry(found, "step", lambda value: _steps(value, steps), f"{where}."))
    for kind in _kinds(training):
        moment = found.get(kind)
        if not isinstance(moment, Tensor) or moment.layout != torch.strided or moment.device.type != "cpu":
            raise Wrong(f"{where}.{kind}")
        fits = moment.shape == parameter.shape and moment.dtype == parameter.dtype
        if not fits or not bool(torch.isfinite(moment).all()) or (kind == "exp_avg_sq" and bool((moment < 0).any())):
            raise Wrong(f"{where}.{kind}")
        moments[kind] = torch.empty_like(parameter, device="cpu", requires_grad=False).copy_(moment)
    return moments


def _steps(value: Any, most: int) -> float | None:
    """Returns a number of steps, or None if the value is none; torch stores a float32 tensor, older versions an int."""
    if isinstance(value, Tensor):
        value = value.item() if value.dtype == torch.float32 and value.shape == () else None
    if type(value) not in (int, float) or not math.isfinite(value) or value != int(value) or not 0 <= value <= most:
        return None
    return float(value)
