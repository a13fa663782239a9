from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from torch.optim.lr_scheduler import ReduceLROnPlateau

from dataloader.sampler import steps_per_epoch
from network.training.optimizers import build_optimizer
from network.training.schedules import build_scheduler, warm_cosine_factor, warmup_steps
from tests.support.recording import keys_of, recording
from utils.config.optimizers import AdamParams, OptimizerParams, SGDParams
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

GOLDEN = Path(__file__).parents[2] / "golden" / "losses_schedule_metrics.npz"


def sgd(rate=0.24):
    return build_optimizer([torch.nn.Parameter(torch.ones(2))], SGDParams(), rate)


def rates(schedule, optimizer, number):
    """The learning rate before each of `number` advances."""
    seen = []
    for _ in range(number):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.scheduler.step()
    return seen


@pytest.mark.parametrize("gpus", [1, 4])
def test_golden_factors(gpus):
    golden = np.load(GOLDEN)
    total = 64 * steps_per_epoch(19132, 8, gpus)
    factors = [warm_cosine_factor(int(step), warmup_steps(gpus), total) for step in golden[f"lr_gpus{gpus}_steps"]]
    np.testing.assert_allclose(factors, golden[f"lr_gpus{gpus}_factor"], rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("gpus", [1, 4])
def test_golden_rates_through_the_optimizer(gpus):
    golden = np.load(GOLDEN)
    optimizer = sgd(0.24)
    schedule = build_scheduler(optimizer, WarmCosineParams(), 64, steps_per_epoch(19132, 8, gpus), num_gpu=gpus)
    assert (schedule.interval, schedule.needs_monitor) == ("step", False)
    steps, factors = golden[f"lr_gpus{gpus}_steps"], golden[f"lr_gpus{gpus}_factor"]
    early = steps <= 251
    seen = rates(schedule, optimizer, 252)
    np.testing.assert_allclose([seen[k] for k in steps[early]], 0.24 * factors[early], rtol=1e-9)


def test_warm_cosine_rises_then_falls_to_zero():
    factors = [warm_cosine_factor(step, 10, 100) for step in range(111)]
    assert factors[9] == factors[10] == 1
    assert all(a < b for a, b in pairwise(factors[:10]))
    assert all(a > b for a, b in pairwise(factors[10:]))
    assert factors[110] == pytest.approx(0)


def test_steps_per_epoch_counts_the_incomplete_batch():
    assert steps_per_epoch(10, 4, 1) == len(range(0, 10, 4))
    assert steps_per_epoch(16, 4, 4) == 1
    assert steps_per_epoch(17, 4, 4) == 2
    assert steps_per_epoch(10, 4, 0) == 3  # on the CPU
    assert [steps_per_epoch(40, 4, 1, accumulated) for accumulated in (2, 3, 10, 11)] == [5, 4, 1, 1]


def test_step_lr():
    optimizer = sgd(1.0)
    schedule = build_scheduler(optimizer, StepLRParams(decay_step=2, decay_rate=0.5), 10, 5, 1)
    assert schedule.interval == "epoch"
    np.testing.assert_allclose(rates(schedule, optimizer, 6), [1, 1, 0.5, 0.5, 0.25, 0.25])


def test_cosine_annealing_reaches_its_minimum_four_epochs_before_the_end():
    optimizer = sgd(0.24)
    schedule = build_scheduler(optimizer, CosineParams(), 20, 5, 1)
    seen = rates(schedule, optimizer, 17)
    expected = [1e-5 + (0.24 - 1e-5) * (1 + math.cos(math.pi * epoch / 16)) / 2 for epoch in range(17)]
    np.testing.assert_allclose(seen, expected, rtol=1e-6)


@pytest.mark.parametrize("epochs", [1, 2, 4, 5])
def test_cosine_annealing_survives_a_short_run(epochs):
    optimizer = sgd(0.24)
    schedule = build_scheduler(optimizer, CosineParams(), epochs, 5, 1)
    seen = rates(schedule, optimizer, epochs)
    assert seen[0] == 0.24
    assert all(1e-5 * (1 - 1e-9) <= rate <= 0.24 for rate in seen)


def test_plateau_waits_for_a_better_score():
    optimizer = sgd(1.0)
    schedule = build_scheduler(optimizer, PlateauParams(decay_step=1, decay_rate=0.5), 10, 5, 1)
    assert schedule.needs_monitor
    assert schedule.interval == "epoch"
    assert isinstance(schedule.scheduler, ReduceLROnPlateau)
    seen = []
    for score in (0.1, 0.2, 0.3, 0.2, 0.2, 0.2):
        schedule.scheduler.step(score)
        seen.append(optimizer.param_groups[0]["lr"])
    assert seen == [1, 1, 1, 1, 0.5, 0.5]  # higher is better; one bad epoch is forgiven


@pytest.mark.parametrize(
    "params",
    [
        WarmCosineParams(),
        CosineParams(),
        StepLRParams(decay_step=3, decay_rate=0.5),
        OneCycleParams(),
        CosineWarmupParams(warmup_epochs=2.5),
        MultiStepLRParams(milestones=(2, 11), decay_rate=0.5),
    ],
    ids=lambda params: params.name,
)
@pytest.mark.parametrize(("steps", "devices"), [(10, 1), (5, 1), (40, 4)])
def test_a_schedule_is_placed_where_it_would_have_come_to(params, steps, devices):
    """Whatever it had counted before: steps of another length, or of another optimiser's state."""

    def fresh():
        optimizer = sgd()
        return optimizer, build_scheduler(optimizer, params, 12, steps, devices)

    optimizer, schedule = fresh()
    per_epoch = steps if schedule.interval == "step" else 1
    expected = rates(schedule, optimizer, 12 * per_epoch)
    other, placed = fresh()
    rates(placed, other, 7)
    other.load_state_dict(sgd(9.0).state_dict())
    for epoch in (4, 1, 11):
        placed.place(epoch, steps)
        assert rates(placed, other, per_epoch) == expected[epoch * per_epoch : (epoch + 1) * per_epoch]
        assert placed.scheduler.get_last_lr() == [other.param_groups[0]["lr"]]


def test_a_plateau_stays_where_it_is():
    optimizer = sgd(1.0)
    schedule = build_scheduler(optimizer, PlateauParams(decay_step=1, decay_rate=0.5), 10, 5, 1)
    optimizer.param_groups[0]["lr"] = 0.25
    schedule.place(3, 5)
    assert optimizer.param_groups[0]["lr"] == 0.25


def required(kind, value=3):
    """The kind with all its keys."""
    fields = {key: field for key, field in kind.model_fields.items() if field.is_required()}
    values = {int: value, float: 0.5}
    return kind(**{key: values.get(field.annotation, (1, 2)) for key, field in fields.items()})


@pytest.mark.parametrize("kind", get_args(OptimizerParams) + get_args(ScheduleParams), ids=lambda kind: kind.__name__)
def test_every_key_of_a_kind_is_read(kind):
    """By what builds the optimiser or the schedule, or in its steps: no key is accepted and ignored."""
    params, read = required(kind), set()
    recorded = recording(params, read)
    weight = [torch.nn.Parameter(torch.ones(1))]
    if kind in get_args(OptimizerParams):
        build_optimizer(weight, recorded, 0.1)
    else:
        build_scheduler(build_optimizer(weight, SGDParams(), 0.1), recorded, 4, 10, 1)
    assert read == keys_of(params)


def test_optimizers_take_their_settings():
    weight = torch.nn.Parameter(torch.ones(1))
    params = SGDParams(momentum=0.8, nesterov=False, weight_decay=0.01)
    sgd_group = build_optimizer([weight], params, 0.1).param_groups[0]
    assert (sgd_group["lr"], sgd_group["momentum"], sgd_group["weight_decay"]) == (0.1, 0.8, 0.01)
    assert sgd_group["nesterov"] is False
    adam = build_optimizer([weight], AdamParams(), 0.1)
    assert isinstance(adam, torch.optim.Adam)
    assert (adam.param_groups[0]["lr"], adam.param_groups[0]["weight_decay"]) == (0.1, 0)
