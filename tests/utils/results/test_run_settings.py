"""What may change when a run is resumed, what is said about it, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from utils.config.loading import load_config
from utils.config.schema import known_keys
from utils.errors import UserError
from utils.results.run_settings import RULES, TEACHER, Rule, check_settings, config_settings

CONFIG = Path(__file__).parents[3] / "config" / "2DPASS-semantickitti.yaml"
FOUND = {
    "--seed": 0, "--precision": "32", "--monitor": "val/mIoU", "--SWA": False, "number of devices": 1,
    "steps per epoch": 100, "training scans": "800 (0a1b2c3d)", "validation scans": "9 (4e5f6a7b)",
    "classes": ["unlabeled", "car"], TEACHER: None,
}  # fmt: skip
STEPS = ("train_params.lr_scheduler=StepLR", "train_params.decay_step=5", "train_params.decay_rate=0.5")


def settings(*overrides: str, **found) -> dict:
    return {**config_settings(load_config(CONFIG, list(overrides))), **FOUND, **found}


def checkpoint(stored: object, epochs: int = 3) -> dict:
    return {"2dpass": {"settings": stored, "train_params": {}}, "epoch": epochs - 1, "global_step": 100 * epochs}


def test_every_key_of_the_vocabulary_has_a_rule() -> None:
    known = known_keys()
    for key in known:
        is_section = any(other.startswith(f"{key}.") for other in known)
        parents = [key[: i + 1] for i in range(len(key)) if key[i + 1 : i + 2] in (".", "")]
        assert is_section or any(parent in RULES for parent in parents), key
    assert {key for key in RULES if "." in key} <= set(known)
    assert set(settings()) <= set(RULES)


def test_the_same_settings_are_resumed_without_a_word() -> None:
    assert check_settings(checkpoint(json.loads(json.dumps(settings()))), settings(), "last.ckpt") == []


@pytest.mark.parametrize(
    ("change", "shown"),
    [
        ({"--seed": 1}, "--seed was 1, is 0"),
        ({"--precision": "bf16"}, "--precision was bf16, is 32"),
        ({"--monitor": "val/acc"}, "--monitor was val/acc, is val/mIoU"),
        ({"training scans": "800 (99999999)"}, "training scans was 800 (99999999), is 800 (0a1b2c3d)"),
        ({"train_params.gradient_clip_norm": 5.0}, "gradient_clip_norm was 5.0, is 1.0"),
        ({"train_params.lambda_xm": 0.1}, "lambda_xm was 0.1"),
        ({"train_params.trainval": True}, "trainval was True, is False"),
        ({"dataset_params.train_data_loader.flip_aug": False}, "flip_aug was False, is True"),
        ({"dataset_params.corruption_aug": "{'chance': 0.5}"}, "corruption_aug was {'chance': 0.5}, is None"),
        ({"dataset_params.past_scans": 2}, "past_scans was 2, is 0"),
        ({"dataset_params.past_labels": False}, "past_labels was False, is True"),
        ({"dataset_params.bottom_crop": [640, 320]}, "bottom_crop was 640, 320, is 480, 320"),
    ],
    ids=str,
)
def test_what_changes_the_losses_is_said(change, shown) -> None:
    (line,) = check_settings(checkpoint(settings() | change), settings(), "last.ckpt")
    assert shown in line and line.startswith("note: changed") and "\n" not in line


@pytest.mark.parametrize("key", [key for key, rule in RULES.items() if rule is Rule.REFUSE])
def test_another_training_is_refused(key) -> None:
    now = settings() | ({} if key in settings() else {key: 3})  # a key of another optimiser or schedule
    with pytest.raises(UserError, match=r"last\.ckpt: settings changed since: .*--fine_tune") as error:
        check_settings(checkpoint(now | {key: "other"}), now, "last.ckpt")
    assert f"{key} was other, is" in str(error.value)


@pytest.mark.parametrize(
    "change",
    [{"dataset_params.train_data_loader.data_path": "/elsewhere"}, {"dataset_params.train_data_loader.num_workers": 3}],
    ids=str,
)
def test_what_does_not_matter_is_taken(change) -> None:
    assert check_settings(checkpoint(settings() | change), settings(), "last.ckpt") == []


@pytest.mark.parametrize(
    ("schedule", "change", "moves"),
    [
        ("CosineAnnealingWarmRestarts", {"steps per epoch": 50}, True),
        ("CosineAnnealingWarmRestarts", {"number of devices": 4}, True),
        ("CosineAnnealingWarmRestarts", {"train_params.max_num_epochs": 65}, True),
        ("CosineAnnealingWarmRestarts", {"--seed": 4}, False),
        ("CosineAnnealingLR", {"train_params.max_num_epochs": 65}, True),
        ("CosineAnnealingLR", {"steps per epoch": 50}, False),
        ("StepLR", {"steps per epoch": 50, "train_params.max_num_epochs": 65}, False),
    ],
)
def test_where_the_learning_rate_goes_on_is_said(schedule, change, moves) -> None:
    now = settings(*(STEPS if schedule == "StepLR" else [f"train_params.lr_scheduler={schedule}"]))
    lines = check_settings(checkpoint(now | change), now, "last.ckpt")
    assert len(lines) == 1 + moves
    assert not moves or "the learning rate goes on where it would be after 3 of 64 epochs" in lines[1]


def test_a_checkpoint_of_an_earlier_version_says_what_it_can() -> None:
    content = checkpoint(None)
    content["2dpass"] = {"train_params": {"learning_rate": 0.24, "momentum": 0.9}}
    now = settings("train_params.lr_scheduler=CosineAnnealingWarmRestarts", "train_params.learning_rate=0.24")
    assert check_settings(content, now, "last.ckpt") == []
    content["global_step"] = 600
    noted, rate = check_settings(content, now, "last.ckpt")
    assert "steps per epoch was 200, is 100" in noted and "the learning rate goes on" in rate
    content["2dpass"]["train_params"]["learning_rate"] = 0.1
    with pytest.raises(UserError, match=r"learning_rate was 0\.1, is 0\.24"):
        check_settings(content, now, "last.ckpt")


def test_keys_that_an_earlier_version_kept_without_an_effect_are_not_compared() -> None:
    """Checkpoints of Adam held the defaults, or what else was written, of the keys of SGD and of other schedules."""
    idle = {
        "train_params.momentum": 0.5, "train_params.nesterov": True, "train_params.weight_decay": 0.01,
        "train_params.decay_step": None, "train_params.decay_rate": 0.3,
    }  # fmt: skip
    now = settings("train_params.optimizer=Adam")
    assert not idle.keys() & now.keys()
    assert check_settings(checkpoint(now | idle), now, "last.ckpt") == []
    with pytest.raises(UserError, match=r"train_params\.momentum was 0\.5, is 0\.9"):
        check_settings(checkpoint(settings() | idle), settings(), "last.ckpt")


def test_more_epochs_are_done_than_wanted() -> None:
    assert check_settings(checkpoint(settings(), epochs=64), settings(), "last.ckpt") == []
    with pytest.raises(UserError, match=r"65 epochs are done already, train_params\.max_num_epochs is 64"):
        check_settings(checkpoint(settings(), epochs=65), settings(), "last.ckpt")


def test_an_average_is_not_given_up() -> None:
    content = {**checkpoint(settings(**{"--SWA": True})), "averaging_state": {}}
    assert check_settings(content, settings(**{"--SWA": True}), "last.ckpt") == []
    with pytest.raises(UserError, match="give --SWA again"):
        check_settings(content, settings(), "last.ckpt")


@pytest.mark.parametrize(
    "value", ["\x1b[31mred\n\0", "x" * 9999, [1, [2]], {"a": "b"}, torch.zeros(3), float("nan"), None, [torch.ones(2)]]
)
def test_whatever_is_stored_is_one_short_line(value) -> None:
    (line,) = check_settings(checkpoint(settings() | {"--seed": value}), settings(), "last.ckpt")
    assert line.isascii() and line.isprintable() and len(line) < 250


@pytest.mark.parametrize(
    ("before", "word"),
    [({"train_params.ema_decay": 0.99}, "set train_params.ema_decay"), ({"--SWA": True}, "give --SWA")],
)
def test_an_average_is_not_dropped_nor_taken_for_another(before, word) -> None:
    content = checkpoint(settings() | before) | {"averaging_state": {}}
    others: list[dict] = [{}, {"--SWA": True} if word != "give --SWA" else {"train_params.ema_decay": 0.99}]
    for other in others:
        with pytest.raises(UserError, match=f"averaged weights beside those in training; {word} again"):
            check_settings(content, settings() | other, "last.ckpt")
    assert check_settings(content, settings() | before, "last.ckpt") == []
