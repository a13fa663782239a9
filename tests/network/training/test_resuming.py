"""A checkpoint to be resumed from: nothing in it is trusted, and nothing but checked numbers and tensors is taken."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from network.training.resuming import BEST_FILE, TrainingState, check_resumable, is_resumable
from network.weights.loading import check_geometry, has_image_branch, load_weights
from network.weights.reading import read_checkpoint
from tests.support.networks import refusal
from tests.support.spoiling import OTHERS, changed, places, value_at, without
from tests.support.training import ADAM, BEST, EARLY, PLATEAU, make_network, train
from utils.config.schedules import StepLRParams
from utils.config.train import TrainParams
from utils.errors import UserError

PATH = Path("last.ckpt")


@pytest.fixture(scope="module")
def contents(tmp_path_factory) -> dict[str, dict[str, Any]]:
    """What real checkpoints of two trainings hold."""
    folder = tmp_path_factory.mktemp("runs")
    train(folder / "adam" / "version_0", ADAM, swa_from_epoch=1)
    train(folder / "plateau" / "version_0", PLATEAU)
    return {kind: read_checkpoint(folder / kind / "version_0" / "last.ckpt") for kind in ("adam", "plateau")}


def attempt(content: dict[str, Any], training: TrainParams, network: Any) -> TrainingState | None:
    """What main.py does with a checkpoint: to test it, to fine-tune from it, to resume from it."""
    load_weights(network, content, PATH)
    check_geometry(network, content, PATH)
    has_image_branch(content, PATH)
    return check_resumable(network, content, training, PATH) if is_resumable(content) else None


def numbers_in(value: Any) -> Iterator[float | Tensor]:
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from numbers_in(item)
    elif isinstance(value, int | float | Tensor):
        yield value


@pytest.mark.parametrize(("kind", "training"), [("adam", ADAM), ("plateau", PLATEAU)])
def test_whatever_is_changed_ends_in_one_line_or_in_a_sound_state(contents, kind, training) -> None:
    network = make_network()
    content = contents[kind]
    ways = [place for place in places(content) if place[0] not in ("loops", "lr_schedulers") or len(place) < 2]
    if kind == "plateau":  # what the other one has not
        ways = [place for place in ways if place[:2] in (["2dpass", "plateau"], ["optimizer_states", 0])]
    refused = 0
    for place in ways:
        variants = {name: make(value_at(content, place)) for name, make in OTHERS.items()}
        for name, candidate in [
            ("missing", without(content, place)),
            *((name, changed(content, place, value)) for name, value in variants.items()),
        ]:
            try:
                state = attempt(candidate, training, network)
            except UserError as error:
                refused += 1
                assert str(PATH) in str(error) and "\n" not in str(error) and len(str(error)) < 700, (place, name)
            else:
                assert_sound(state, network, (place, name))
    assert refused > 4 * len(ways)


def assert_sound(state: TrainingState | None, network: Any, where: Any) -> None:
    """Of a state that was taken: weights and moments that fit, finite numbers, no path."""
    if state is None:
        return
    content = state.content
    own = {f"network.{name}": tensor.shape for name, tensor in network.state_dict().items()}
    assert {name: tensor.shape for name, tensor in content["state_dict"].items()} == own, where
    (optimizer,) = content["optimizer_states"]
    for number, parameter in enumerate(network.parameters()):
        for key, moment in optimizer["state"][number].items():
            assert key == "step" or (moment.shape, moment.dtype) == (parameter.shape, parameter.dtype), where
            assert moment.stride() == (parameter.stride() if key != "step" else ()), where
    taken = {key: content[key] for key in ("epoch", "global_step", "optimizer_states")}
    for number in numbers_in([taken, {**content["2dpass"], "settings": None}]):
        assert bool(torch.as_tensor(float(number) if isinstance(number, int) else number).isfinite().all()), where
    best = content["callbacks"].get(BEST, {"best_k_models": {}})["best_k_models"]
    assert all(BEST_FILE.fullmatch(name) and "/" not in name for name in best), where
    assert content["loops"] is None and content["lr_schedulers"] == [], where


PARTS = {
    "another epoch": (["epoch"], -1),
    "another type of number": (["global_step"], True),
    "no optimiser": (["optimizer_states"], [None]),
    "no moments": (["optimizer_states", 0, "state"], {}),
    "two groups": (["optimizer_states", 0, "param_groups"], [{}, {}]),
    "a rate of NaN": (["optimizer_states", 0, "param_groups", 0, "lr"], math.nan),
    "a rate that no schedule has": (["optimizer_states", 0, "param_groups", 0, "lr"], 0.5),
    "another decay": (["optimizer_states", 0, "param_groups", 0, "weight_decay"], 0.5),
    "another momentum": (["optimizer_states", 0, "param_groups", 0, "betas"], (0.9, math.inf)),
    "more steps than were taken": (["optimizer_states", 0, "state", 0, "step"], torch.tensor(1e6)),
    "half a step": (["optimizer_states", 0, "state", 0, "step"], torch.tensor(0.5)),
    "small moments": (["optimizer_states", 0, "state", 0, "exp_avg"], torch.zeros(3)),
    "negative squares": (["optimizer_states", 0, "state", 1, "exp_avg_sq"], torch.full((4,), -1.0)),
    "moments of doubles": (["optimizer_states", 0, "state", 1, "exp_avg"], torch.zeros(4, dtype=torch.float64)),
    "no count": (["callbacks", EARLY, "wait_count"], None),
    "more validations than epochs": (["callbacks", EARLY, "wait_count"], 3),
    "more batches left out than there were": (["2dpass", "skipped_batches"], 1 << 40),
    "a score of NaN": (["callbacks", EARLY, "best_score"], math.nan),
    "a score of all and more": (["callbacks", EARLY, "best_score"], torch.tensor(1.5)),
    "more than all": (["2dpass", "best_miou"], 1.5),
    "averages of none": (["averaging_state", "n_averaged"], torch.tensor(0)),
    "no plain settings": (["2dpass", "settings", "--seed"], {}),
    **{
        f"{value} scans": (["2dpass", "scans_of_epoch"], value)
        for value in (-1, 1 << 70, math.nan, math.inf, 1.0, True, "3", [1], None)
    },
    **{
        f"means {value}": (["2dpass", "means_of_epoch"], value)
        for value in (
            None, [], "x", {1: [1.0, 1.0]}, {"loss": [1.0, 1.0]}, {"train/../x": [1.0, 1.0]}, {"train/a": 1.0},
            {"train/a": [1.0]}, {"train/a": [1.0, -1.0]}, {"train/a": [1.0, 0.0]}, {"train/a": [1.0, math.nan]},
            {"train/a": [1.0, 1e300]}, {"train/a": [1.0, math.inf]}, {"train/a": [1.0, 1.5]}, {"train/a": [1.0, "1"]},
            {"train/a": ["1", 1.0]}, {"train/a": [[1.0], 1.0]}, {"train/a": (1.0, 1.0)}, {"train/a": [True, 1.0]},
        )
    },
}  # fmt: skip


@pytest.mark.parametrize("name", PARTS)
def test_what_cannot_be_is_named(contents, name) -> None:
    place, value = PARTS[name]
    content = changed(contents["adam"], ["2dpass", "scans_of_epoch"], 1)  # in the middle of the second epoch
    content = changed(content, ["2dpass", "means_of_epoch"], {"train/loss": [math.nan, 1.0]})
    assert check_resumable(make_network(), content, ADAM, PATH).epochs == 1
    message = refusal(check_resumable, make_network(), changed(content, place, value), ADAM, PATH)
    last = [key for key in place if isinstance(key, str)][-1]
    assert last.split("{")[0] in message and "--fine_tune" in message


def test_moments_take_the_layout_of_their_parameters(contents) -> None:
    """A fused step on a CPU reads memory as it lies."""
    number, moment = next(
        (number, state["exp_avg"])
        for number, state in contents["adam"]["optimizer_states"][0]["state"].items()
        if state["exp_avg"].dim() > 1 and min(state["exp_avg"].shape) > 1
    )
    turned = moment.t().contiguous().t() if moment.dim() == 2 else moment.transpose(0, 1).contiguous().transpose(0, 1)
    assert turned.stride() != moment.stride()
    content = changed(contents["adam"], ["optimizer_states", 0, "state", number, "exp_avg"], turned)
    state = check_resumable(make_network(), content, ADAM, PATH)
    taken = state.content["optimizer_states"][0]["state"][number]["exp_avg"]
    assert taken.stride() == moment.stride() and torch.equal(taken, moment)


def test_only_our_full_checkpoints_are_resumable(contents) -> None:
    assert is_resumable(contents["adam"])
    for key in ("optimizer_states", "2dpass"):
        assert not is_resumable(without(contents["adam"], [key])), "weights alone"
    assert not is_resumable(make_network().state_dict())


def test_other_settings_and_other_networks_are_refused(contents) -> None:
    other = ADAM.model_copy(update={"lr_scheduler": StepLRParams(decay_step=1, decay_rate=0.5)})
    message = refusal(check_resumable, make_network(), contents["adam"], other, PATH)
    assert "lr_scheduler was CosineAnnealingWarmRestarts, is StepLR" in message and "--fine_tune" in message
    content = without(contents["adam"], ["state_dict", next(iter(contents["adam"]["state_dict"]))])
    assert "--baseline_only" in refusal(check_resumable, make_network(), content, ADAM, PATH)


def test_checkpoints_of_earlier_versions_are_resumable(contents) -> None:
    """They held what Lightning's own callbacks keep, no settings, and the keys of every optimiser and schedule."""
    score = torch.tensor(0.25)
    best = "/elsewhere/run/best-epoch=00-val_mIoU=0.2500.ckpt"
    content = without(contents["adam"], ["2dpass", "settings"])
    early = {"wait_count": 1, "stopped_epoch": 0, "best_score": score, "patience": 50, "stopping_reason": 0}
    kept = {"best_model_path": best, "best_k_models": {best: score}, "dirpath": "/elsewhere/run", "kth_value": score}
    content = changed(changed(content, ["callbacks", EARLY], early), ["callbacks", BEST], kept)
    idle = {"momentum": 0.9, "nesterov": True, "weight_decay": 1e-4, "decay_step": None, "decay_rate": None}
    content = changed(content, ["2dpass", "train_params"], {**content["2dpass"]["train_params"], **idle})
    state = check_resumable(make_network(), content, ADAM, PATH)
    assert state.epochs == 2
    assert state.content["callbacks"][EARLY] == {"wait_count": 1, "best_score": 0.25}
    assert state.content["callbacks"][BEST] == {"best_k_models": {"best-epoch=00-val_mIoU=0.2500.ckpt": 0.25}}


SCALER = torch.amp.GradScaler("cpu", init_scale=1024.0)


def test_the_loss_scale_is_taken_from_numbers(contents) -> None:
    content = {**contents["adam"], "MixedPrecision": SCALER.state_dict() | {"_growth_tracker": 7}}
    scaler = torch.amp.GradScaler("cpu")
    scaler.load_state_dict(check_resumable(make_network(), content, ADAM, PATH).content["MixedPrecision"])
    assert scaler.get_scale() == 1024 and scaler.state_dict()["_growth_tracker"] == 7


@pytest.mark.parametrize("key", SCALER.state_dict())
@pytest.mark.parametrize("value", [None, math.nan, -1, "2", 1 << 80])
def test_a_loss_scale_that_cannot_be_is_named(contents, key, value) -> None:
    content = {**contents["adam"], "MixedPrecision": SCALER.state_dict() | {key: value}}
    assert "MixedPrecision" in refusal(check_resumable, make_network(), content, ADAM, PATH)
