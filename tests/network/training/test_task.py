"""The gradient guard: a batch with NaN changes nothing and is counted."""

from __future__ import annotations

from copy import deepcopy

import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from network.models.losses import SegmentationLoss
from network.models.network_3d import Network3D
from network.sparse import torch_backend
from network.training.gradient_guard import GradientGuard
from network.training.optimizers import build_optimizer, fill_momentum
from network.training.task import SegmentationTask
from utils.config.optimizers import AdamParams, OptimizerParams, SGDParams
from utils.config.schedules import WarmCosineParams
from utils.config.train import TrainParams
from utils.scan.records import Batch
from utils.scan.volume import Volume

SGD, ADAM = SGDParams(), AdamParams()


def random_batch(seed: int, poison: bool = False) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    points = torch.rand(300, 4, generator=generator) * torch.tensor([8.0, 8.0, 4.0, 1.0])
    if poison:
        points[17, 3] = float("nan")
    return Batch(
        points=points,
        scan_ids=torch.zeros(300, dtype=torch.long),
        labels=torch.randint(0, 5, (300,), generator=generator),
        pixels=torch.full((300, 2), -1),
        visible=torch.zeros(0, dtype=torch.long),
        images=None,
        lengths=(300,),
    )


class Recorder(pl.Callback):
    """State of weights, BatchNorm statistics, optimiser and schedule after every batch."""

    def __init__(self) -> None:
        self.states: list[dict] = []

    def on_train_batch_end(self, trainer, pl_module, *_) -> None:
        optimizer, schedule = trainer.optimizers[0], trainer.lr_scheduler_configs[0].scheduler
        state = (pl_module.network.state_dict(), optimizer.state_dict(), schedule.state_dict())
        self.states.append(deepcopy(dict(zip(("network", "optimizer", "schedule"), state, strict=True))))


def train(
    batches: list[Batch], optimizer: OptimizerParams, accumulated: int = 1
) -> tuple[SegmentationTask, list[dict]]:
    torch.manual_seed(0)
    volume = Volume((0.0, 0.0, 0.0), (8.0, 8.0, 4.0), (80, 80, 40))
    network = Network3D(volume, (2, 4), 8, 5, torch_backend.BACKEND, SegmentationLoss(None), 1.0)
    training = TrainParams(max_num_epochs=1, learning_rate=0.05, optimizer=optimizer, lr_scheduler=WarmCosineParams())
    task = SegmentationTask(network, training, [f"class {i}" for i in range(5)], steps_per_epoch=len(batches))
    recorder = Recorder()
    trainer = pl.Trainer(
        accelerator="cpu", max_epochs=1, callbacks=[recorder], logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, accumulate_grad_batches=accumulated,
    )  # fmt: skip
    trainer.fit(task, DataLoader(batches, batch_size=None, shuffle=False))  # type: ignore[arg-type]
    return task, recorder.states


@pytest.mark.parametrize("optimizer", [SGD, ADAM], ids=["SGD", "Adam"])
def test_a_poisoned_batch_changes_nothing_and_is_counted(optimizer) -> None:
    batches = [random_batch(0), random_batch(1), random_batch(2, poison=True), random_batch(3)]
    task, states = train(batches, optimizer)
    assert task.guard.skipped == 1
    before, after, later = states[1], states[2], states[3]
    for name, tensor in before["network"].items():  # BatchNorm statistics are among them
        assert torch.equal(tensor, after["network"][name]), name
        assert torch.isfinite(later["network"][name]).all()
    for index, slot in before["optimizer"]["state"].items():  # momentum, moments
        for key, value in slot.items():
            torch.testing.assert_close(value, after["optimizer"]["state"][index][key], rtol=0, atol=0)
    # The schedule counts batches: it goes on as if the batch had been fine.
    assert [state["schedule"]["last_epoch"] for state in states] == [1, 2, 3, 4]
    assert not torch.equal(after["network"]["embed_points.weight"], later["network"]["embed_points.weight"])


@pytest.mark.parametrize("poisoned", [2, 3])
def test_a_poisoned_batch_undoes_the_step_that_it_is_in(poisoned) -> None:
    """Of two batches each; the statistics of the other batch go with it, and the last step has a batch alone."""
    task, states = train([random_batch(i, poison=i == poisoned) for i in range(5)], SGD, accumulated=2)
    assert task.guard.skipped == 1 and task.global_step == 3
    assert [state["schedule"]["last_epoch"] for state in states] == [0, 1, 1, 2, 3]
    for name, tensor in states[1]["network"].items():
        assert torch.equal(tensor, states[3]["network"][name]), name
        assert torch.isfinite(states[4]["network"][name]).all()
    assert not torch.equal(states[0]["network"]["head.weight"], states[1]["network"]["head.weight"])
    assert not torch.equal(states[3]["network"]["head.weight"], states[4]["network"]["head.weight"])


def test_clean_batches_are_all_used() -> None:
    task, states = train([random_batch(0), random_batch(1)], SGD)
    assert task.guard.skipped == 0
    assert not torch.equal(states[0]["network"]["head.weight"], states[1]["network"]["head.weight"])


@pytest.mark.parametrize("optimizer", [SGD, ADAM], ids=["SGD", "Adam"])
def test_a_poisoned_first_batch(optimizer) -> None:
    """Before there is any momentum."""
    task, states = train([random_batch(0, poison=True), random_batch(1)], optimizer)
    assert task.guard.skipped == 1
    assert all(not value.any() for slot in states[0]["optimizer"]["state"].values() for value in slot.values())
    assert all(tensor.isfinite().all() for tensor in states[1]["network"].values())
    assert not torch.equal(states[0]["network"]["head.weight"], states[1]["network"]["head.weight"])


@pytest.mark.parametrize("steps", [0, 2])
@pytest.mark.parametrize("kind", [SGD, ADAM], ids=["SGD", "Adam"])
def test_an_optimizer_of_an_earlier_version_goes_on_with_the_guard(kind, steps) -> None:
    """Its state says that it is not fused, and an SGD without a step has no momentum. The numbers beside the state are
    those of the settings, whatever the file says."""
    weight = torch.nn.Parameter(torch.ones(3))
    if kind is SGD:
        plain = torch.optim.SGD([weight], 0.05, 0.9, nesterov=True, weight_decay=1e-4)
    else:
        plain = torch.optim.Adam([weight], 0.05)
    for _ in range(steps):
        weight.grad = torch.ones(3)
        plain.step()
    checkpoint: dict = deepcopy({"optimizer_states": [plain.state_dict()], "epoch": 2, "global_step": 12, "2dpass": {}})
    checkpoint["optimizer_states"][0]["param_groups"][0] |= {"lr": float("nan"), "weight_decay": -1.0, "momentum": 7.0}
    task, _ = train([random_batch(0)], kind)
    task.on_load_checkpoint(checkpoint)
    assert (task.current_epoch, task.global_step) == (3, 12)
    ours = deepcopy(weight)
    optimizer = build_optimizer([ours], kind, 0.05)
    optimizer.load_state_dict(checkpoint["optimizer_states"][0])
    fill_momentum(optimizer)

    guard = GradientGuard(torch.nn.BatchNorm1d(3))
    for gradient in (float("nan"), 2.0, float("inf"), -1.0):
        for parameter in (weight, ours):
            parameter.grad = torch.full((3,), gradient)
        assert ours.grad is not None
        guard.remember()
        guard.judge(ours.grad.norm(), optimizer)
        optimizer.step()
        if abs(gradient) < 10:
            plain.step()
        assert torch.allclose(ours, weight, atol=1e-6)
    assert guard.skipped == 2
