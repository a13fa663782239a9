"""Optimisers, schedules, accumulated batches and the moving average, in a whole training, against torch's own."""

from __future__ import annotations

import math
from copy import deepcopy
from types import SimpleNamespace
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import nn
from torch.optim import SGD, Adam, AdamW
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, LRScheduler, MultiStepLR, OneCycleLR, SequentialLR
from torch.utils.data import DataLoader

from network.training.callbacks import MovingAverage
from network.training.optimizers import build_optimizer
from network.training.schedules import build_scheduler
from network.training.task import SegmentationTask
from utils.config.optimizers import AdamParams, AdamWParams, SGDParams
from utils.config.schedules import CosineWarmupParams, MultiStepLRParams, OneCycleParams
from utils.config.train import TrainParams

RATE, BATCHES = 0.02, 10


class Linear(nn.Module):
    """The smallest classifier, in double precision, so that a thousand steps hide no difference by rounding."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 4, dtype=torch.float64)

    def warm_up(self, *_: Any, **__: Any) -> None:
        pass

    def training_losses(self, batch: Any) -> dict[str, torch.Tensor]:
        return {"loss": F.cross_entropy(self.linear(batch.points), batch.labels)}


def batches() -> list[Any]:
    generator = torch.Generator().manual_seed(3)
    points = [torch.randn(7, 6, generator=generator, dtype=torch.float64) for _ in range(BATCHES)]
    labels = [torch.randint(0, 4, (7,), generator=generator) for _ in range(BATCHES)]
    return [SimpleNamespace(points=p, labels=one, num_scans=1) for p, one in zip(points, labels, strict=True)]


def cosine(optimizer: torch.optim.Optimizer, warmup: int, total: int, share: float) -> LRScheduler:
    rise = LinearLR(optimizer, 1 / warmup, total_iters=warmup - 1)
    fall = CosineAnnealingLR(optimizer, total - warmup, RATE * share)
    return SequentialLR(optimizer, [rise, fall], [warmup])


BETAS = (0.8, 0.95)
# Of our settings and of torch's own: optimiser, schedule of so many steps, whether it advances with every step; and
# the accumulated batches.
CASES: dict[str, Any] = {
    "AdamW, one cycle": (
        AdamWParams(weight_decay=0.05), lambda p: AdamW(p, RATE, weight_decay=0.05),
        OneCycleParams(pct_start=0.04), lambda o, n, _: OneCycleLR(o, RATE, n, pct_start=0.04), True, 1,
    ),
    "SGD, one cycle, of three": (
        SGDParams(nesterov=False), lambda p: SGD(p, RATE, 0.9, weight_decay=1e-4),
        OneCycleParams(div_factor=10.0, final_div_factor=100.0),
        lambda o, n, _: OneCycleLR(o, RATE, n, div_factor=10.0, final_div_factor=100.0), True, 3,
    ),
    "AdamW, one cycle of the rate alone, of three": (
        AdamWParams(betas=BETAS), lambda p: AdamW(p, RATE, BETAS),
        OneCycleParams(cycle_momentum=False), lambda o, n, _: OneCycleLR(o, RATE, n, cycle_momentum=False), True, 3,
    ),
    "SGD, cosine after steps": (
        SGDParams(weight_decay=0.01), lambda p: SGD(p, RATE, 0.9, weight_decay=0.01, nesterov=True),
        CosineWarmupParams(warmup_steps=130, final_share=0.05), lambda o, n, _: cosine(o, 130, n, 0.05), True, 1,
    ),
    "Adam, cosine after epochs, of four": (
        AdamParams(), lambda p: Adam(p, RATE),
        CosineWarmupParams(warmup_epochs=7.5), lambda o, n, per: cosine(o, round(7.5 * per), n, 0.0), True, 4,
    ),
    "AdamW, milestones, of three": (
        AdamWParams(), lambda p: AdamW(p, RATE, weight_decay=0.01),
        MultiStepLRParams(milestones=(100, 200), decay_rate=0.1),
        lambda o, *_: MultiStepLR(o, [100, 200], 0.1), False, 3,
    ),
}  # fmt: skip


def step_of(network: Any, group: list[Any], optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    """Takes a step on the mean gradient of some batches; returns the weights."""
    optimizer.zero_grad()
    torch.stack([network.training_losses(batch)["loss"] for batch in group]).mean().backward()
    nn.utils.clip_grad_norm_(network.parameters(), 0.5)
    optimizer.step()
    return [parameter.detach().clone() for parameter in network.parameters()]


def by_torch(network: Any, case: str, epochs: int) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Trains with torch's own optimiser and schedule; returns the weights and their moving average."""
    _, make_optimizer, _, make_schedule, per_step, accumulated = CASES[case]
    per_epoch = math.ceil(BATCHES / accumulated)
    optimizer, data = make_optimizer(network.parameters()), batches()
    scheduler = make_schedule(optimizer, epochs * per_epoch, per_epoch)
    now: list[torch.Tensor] = []
    mean: list[torch.Tensor] = []
    for step in range(epochs * per_epoch):
        first = step % per_epoch * accumulated
        now = step_of(network, data[first : first + accumulated], optimizer)
        mean = [0.98 * old + 0.02 * new for old, new in zip(mean, now, strict=True)] if mean else now
        if (per_step or (step + 1) % per_epoch == 0) and step + 1 < epochs * per_epoch:
            scheduler.step()
    return now, mean


def assert_equal(ours: list[torch.Tensor], wanted: list[torch.Tensor]) -> None:
    for one, other in zip(ours, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("case", CASES)
def test_a_thousand_steps_are_those_of_torch(case: str) -> None:
    params, _, schedule, _, per_step, accumulated = CASES[case]
    per_epoch = math.ceil(BATCHES / accumulated)
    epochs = math.ceil(1000 / per_epoch)
    torch.manual_seed(0)
    network, data, now = Linear(), batches(), []
    plain = deepcopy(network)
    optimizer = build_optimizer(network.parameters(), params, RATE)
    placed = build_scheduler(optimizer, schedule, epochs, per_epoch, 1)
    for epoch in range(epochs):
        placed.place(epoch, per_epoch)
        for first in range(0, BATCHES, accumulated):
            now = step_of(network, data[first : first + accumulated], optimizer)
            if per_step:
                placed.scheduler.step()
    assert_equal(now, by_torch(plain, case, epochs)[0])


@pytest.mark.parametrize("case", ["SGD, one cycle, of three", "Adam, cosine after epochs, of four"])
def test_a_training_is_that_of_torch(case: str) -> None:
    """With the moving average, and where the last step of an epoch has fewer batches: the mean over these counts."""
    params, _, schedule, _, _, accumulated = CASES[case]
    training = TrainParams(
        max_num_epochs=15, learning_rate=RATE, optimizer=params, lr_scheduler=schedule,
        accumulate_grad_batches=accumulated, gradient_clip_norm=0.5,
    )  # fmt: skip
    torch.manual_seed(0)
    network: Any = Linear()
    weights, average = by_torch(deepcopy(network), case, 15)
    before = Before()
    task = SegmentationTask(network, training, ["a", "b", "c", "d"], math.ceil(BATCHES / accumulated))
    trainer = pl.Trainer(
        accelerator="cpu", max_epochs=15, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, accumulate_grad_batches=accumulated, callbacks=[before, MovingAverage(0.98)],
    )  # fmt: skip
    trainer.fit(task, DataLoader(batches(), batch_size=None))  # type: ignore[arg-type]
    assert trainer.global_step == 15 * math.ceil(BATCHES / accumulated)
    assert_equal(before.weights, weights)
    assert_equal([parameter.detach() for parameter in network.parameters()], average)


class Before(pl.Callback):
    """The weights at the end of the training, before the average takes their place."""

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.weights = [parameter.detach().clone() for parameter in pl_module.parameters()]
