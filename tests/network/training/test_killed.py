"""A training that was killed and resumed is as one that was not, to the last bit, whatever the recipe."""

from __future__ import annotations

import csv
import signal
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from network.training.resuming import check_resumable
from network.training.task import SegmentationTask
from network.training.trackers.csv_run import CSVRun
from network.training.trackers.run import Training
from network.training.trackers.tracker import Tracker
from network.weights.reading import read_checkpoint
from tests.support.networks import refusal
from tests.support.spoiling import changed
from tests.support.training import ADAM, make_network, train
from utils.command import stopping
from utils.config.optimizers import AdamWParams, SGDParams
from utils.config.schedules import CosineWarmupParams, MultiStepLRParams, OneCycleParams
from utils.config.train import TrainParams

KEPT = ("state_dict", "current_model_state", "averaging_state", "optimizer_states", "global_step", "2dpass")


class Killed(BaseException):
    """Ends a run as SIGKILL does, as far as its files can tell."""


def recipe(optimizer: Any, schedule: Any, **keys: Any) -> TrainParams:
    return TrainParams(max_num_epochs=5, learning_rate=0.01, optimizer=optimizer, lr_scheduler=schedule, **keys)


RECIPES = {
    "one cycle, accumulated, average": recipe(
        AdamWParams(), OneCycleParams(), accumulate_grad_batches=2, ema_decay=0.9, label_smoothing=0.1
    ),
    "cosine, accumulated": recipe(SGDParams(), CosineWarmupParams(warmup_steps=3), accumulate_grad_batches=2),
    "milestones, average": recipe(
        AdamWParams(betas=(0.8, 0.9)), MultiStepLRParams(milestones=(2, 3), decay_rate=0.1), ema_decay=0.5
    ),
}


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_goes_on_as_if_nothing_had_happened(name, tmp_path: Path, monkeypatch) -> None:
    training, whole, killed = RECIPES[name], tmp_path / "whole" / "version_0", tmp_path / "killed" / "version_0"
    judged = train(whole, training, batches=3).lightning_module.average  # type: ignore[union-attr]
    decay = training.ema_decay
    assert judged == ("" if decay is None else f"moving average of the weights (ema_decay {decay:g}) after epoch 4")
    begin = SegmentationTask.on_train_epoch_start

    def die(task: SegmentationTask) -> None:
        if task.current_epoch == 3:
            raise Killed
        begin(task)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(SegmentationTask, "on_train_epoch_start", die)
        train(killed, training, batches=3)
    path = killed / "last.ckpt"
    state = check_resumable(make_network(), read_checkpoint(path), training, path)
    assert state.epochs <= 3
    train(killed, training, state, batches=3)
    ends = [{key: read_checkpoint(run / "last.ckpt").get(key) for key in KEPT} for run in (whole, killed)]
    assert ends[0]["global_step"] == 5 * (2 if training.accumulate_grad_batches == 2 else 3)
    assert (ends[0]["averaging_state"] is not None) == (training.ema_decay is not None)
    assert leaves(ends[0]) == leaves(ends[1])
    assert (killed / "history.jsonl").read_text() == (whole / "history.jsonl").read_text()


def leaves(value: Any) -> Any:
    """Nested values with tensors as their bytes, to be compared bit by bit."""
    if isinstance(value, dict):
        return {key: leaves(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [leaves(inner) for inner in value]
    return value.numpy().tobytes() if isinstance(value, torch.Tensor) else value


PLACES = (4, 9, 11)
"""Optimiser steps, four an epoch, in which a run is asked to save: the last of an epoch, a first, a last but one."""


@pytest.mark.parametrize("name", RECIPES)
def test_a_training_that_is_asked_to_saves_in_the_middle_of_an_epoch(name, tmp_path: Path, monkeypatch) -> None:
    """Losses of every epoch, weights, averages, moments, what trackers got: as if nothing had happened."""
    training, batches = RECIPES[name], 7 if RECIPES[name].accumulate_grad_batches == 2 else 4
    whole, asked = tmp_path / "whole" / "version_0", tmp_path / "asked" / "version_0"
    train(whole, training, batches=batches, loggers=[table(whole, 0)])
    path, state, found = asked / "last.ckpt", None, []
    steps: list[int] = [0]
    step = SegmentationTask.training_step
    monkeypatch.setattr(SegmentationTask, "training_step", lambda t, *a: (steps.append(t.global_step), step(t, *a))[1])
    for place in PLACES:  # the step that runs is not counted yet
        request = partial(lambda place: signal.SIGUSR1 if steps[-1] + 1 >= place else 0, place)
        monkeypatch.setattr(stopping, "requested", request)
        with pytest.raises(SystemExit):  # Lightning makes one of it
            train(asked, training, state, batches=batches, loggers=[table(asked, steps[0])])
        state = check_resumable(make_network(), read_checkpoint(path), training, path)
        found.append((state.content["global_step"], state.epochs, state.scans))
        steps[:] = [state.content["global_step"]]
    monkeypatch.undo()
    each = training.accumulate_grad_batches
    assert found == [(3, 0, 3 * each), (9, 2, each), (11, 2, 3 * each)]  # asked in the last step, it goes back by one
    train(asked, training, state, batches=batches, loggers=[table(asked, steps[0])])
    ends = [{key: read_checkpoint(run / "last.ckpt").get(key) for key in KEPT} for run in (whole, asked)]
    assert leaves(ends[0]) == leaves(ends[1])
    assert (asked / "history.jsonl").read_text() == (whole / "history.jsonl").read_text()
    assert numbers(asked) == numbers(whole)


def test_a_group_of_batches_that_was_begun_elsewhere_counts_those_of_this_run(tmp_path: Path, monkeypatch) -> None:
    """The first of 4 batches was a step; with three in a step now, those of the first three that are left are two."""
    folder, step, shares = tmp_path / "version_0", SegmentationTask.training_step, []
    monkeypatch.setattr(stopping, "requested", lambda: signal.SIGUSR1)
    with pytest.raises(SystemExit):
        train(folder, ADAM, batches=4)
    monkeypatch.undo()
    state = check_resumable(make_network(), read_checkpoint(folder / "last.ckpt"), ADAM, folder / "last.ckpt")
    assert state.scans == 1

    def noted(task: SegmentationTask, *arguments: Any) -> torch.Tensor:
        loss = step(task, *arguments)
        shares.append(float(loss.detach() / task.trainer.callback_metrics["loss"]))
        return loss

    monkeypatch.setattr(SegmentationTask, "training_step", noted)
    train(folder, ADAM.model_copy(update={"accumulate_grad_batches": 3}), state, batches=4)
    assert shares == pytest.approx([3 / 2, 3 / 2, 3, 1, 1, 1, 3])


def test_a_run_that_ends_before_anything_is_saved_says_so(tmp_path: Path, monkeypatch) -> None:
    """Asked in the only step of the first epoch: what follows is a validation, and nothing is written before one."""
    said = []

    def stop(number: int, line: str) -> None:
        said.append(line)
        raise KeyboardInterrupt

    monkeypatch.setattr(stopping, "requested", lambda: signal.SIGTERM)
    monkeypatch.setattr(stopping, "stop", stop)
    with pytest.raises(SystemExit):
        train(tmp_path / "version_0", ADAM, batches=1)
    assert said == ["interrupted, before a validation; nothing is saved yet, the training begins again"]
    assert not (tmp_path / "version_0" / "last.ckpt").exists()


def table(folder: Path, steps: int) -> Tracker:
    """Opens a tracker, metrics.csv, of a training that goes on after so many steps."""
    tracker = Tracker("csv", lambda: CSVRun(Training(folder, "data", "name", steps)))
    tracker.open()
    return tracker


def numbers(folder: Path) -> list[tuple[str, str, str]]:
    """All that is in metrics.csv: name, step and value, sorted; Lightning counts epochs in rows of their own."""
    with (folder / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return sorted((k, row["step"], v) for row in rows for k, v in row.items() if v and k not in ("step", "epoch"))


AVERAGE = {
    "no weight in the average": (["averaging_state", "n_averaged"], torch.tensor(0)),
    "more weights than steps": (["averaging_state", "n_averaged"], torch.tensor(1 << 40)),
    "no weights beside it": (["current_model_state"], {}),
    "a step to come": (["callbacks", "MovingAverage", "latest_update_step"], 1 << 40),
    "negative squares": (["optimizer_states", 0, "state", 1, "exp_avg_sq"], torch.full((4,), -1.0)),
    "another decay": (["optimizer_states", 0, "param_groups", 0, "weight_decay"], 0.5),
    "a rate above the peak": (["optimizer_states", 0, "param_groups", 0, "lr"], 0.011),
}


@pytest.fixture(scope="module")
def averaged(tmp_path_factory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("run") / "version_0"
    train(folder, RECIPES["one cycle, accumulated, average"])
    return read_checkpoint(folder / "last.ckpt")


@pytest.mark.parametrize("name", AVERAGE)
def test_a_damaged_average_or_adamw_is_named(averaged, name) -> None:
    place, value = AVERAGE[name]
    training = RECIPES["one cycle, accumulated, average"]
    content = changed(averaged, place, value)
    message = refusal(check_resumable, make_network(), content, training, Path("last.ckpt"))
    assert str(place[-1]) in message and "missing or damaged" in message


def test_the_average_is_what_checkpoints_hold(averaged) -> None:
    assert averaged["state_dict"].keys() == averaged["current_model_state"].keys()
    weight = "network.head.weight"
    assert not torch.equal(averaged["state_dict"][weight], averaged["current_model_state"][weight])
