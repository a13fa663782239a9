"""Keys that need a flag, or that a flag leaves without an effect."""

from __future__ import annotations

import pytest

from tests.support.configs import CONFIG_FOLDER
from utils.config.effects import idle_image_keys, refuse_idle
from utils.config.loading import load_config
from utils.errors import UserError

IMAGES = CONFIG_FOLDER / "2DPASS-semantickitti.yaml"


@pytest.mark.parametrize("name", ["2DPASS-semantickitti", "2DPASS-nuscenes", "SPVCNN-nuscenes"])
def test_shipped_configs_go_with_every_flag(name: str) -> None:
    for baseline_only in (False, True):
        for averaging in (False, True):
            refuse_idle(load_config(CONFIG_FOLDER / f"{name}.yaml"), baseline_only, averaging)


@pytest.mark.parametrize(
    ("setting", "flag"),
    [
        ("model_params.pretrained2d=true", "--baseline_only"),
        ("train_params.lambda_xm=0.1", "--baseline_only"),
        ("train_params.lambda_seg2d=2", "--baseline_only"),
        ("train_params.swa_epoch_start=0.5", "--SWA"),
    ],
)
def test_what_will_not_happen_is_refused(setting: str, flag: str) -> None:
    config, key = load_config(IMAGES, [setting]), setting.partition("=")[0]
    refuse_idle(config, baseline_only=False, averaging=True)
    with pytest.raises(UserError, match=rf"^{key} is .*{flag}") as caught:
        refuse_idle(config, baseline_only=True, averaging=False)
    assert "; " not in str(caught.value)  # nothing else is wrong
    switched_off = {"model_params.pretrained2d=true": "false", "train_params.swa_epoch_start=0.5": "0.75"}
    refuse_idle(load_config(IMAGES, [f"{key}={switched_off.get(setting, '0')}"]), True, False)


def test_image_keys_that_a_frozen_teacher_does_not_follow_are_said() -> None:
    """They are not refused: published files hold them."""
    frozen = "model_params.backbone_2d=dinov2-small"
    config = load_config(IMAGES, [frozen])
    refuse_idle(config, baseline_only=False, averaging=False)
    (line,) = idle_image_keys(config, baseline_only=False)
    assert "dinov2-small sees the whole image" in line and "color_jitter, " in line and "bottom_crop" in line
    assert idle_image_keys(config, baseline_only=True) == idle_image_keys(load_config(IMAGES), False) == []
    shipped = load_config(CONFIG_FOLDER / "2DPASS-dinov2-semantickitti.yaml")
    assert idle_image_keys(shipped, baseline_only=False) == []


def test_a_teacher_has_what_it_needs_and_nothing_else() -> None:
    with pytest.raises(UserError, match=r"pretrained2d must be false for backbone_2d dinov3-vitl16"):
        load_config(IMAGES, ["model_params.backbone_2d=dinov3-vitl16", "model_params.pretrained2d=true"])
    with pytest.raises(
        UserError, match=r"bottom_crop is missing: model_params.backbone_2d resnet34 learns from a crop"
    ):
        load_config(CONFIG_FOLDER / "2DPASS-dinov2-semantickitti.yaml", ["model_params.backbone_2d=resnet34"])


def test_weights_are_averaged_in_one_way() -> None:
    config = load_config(IMAGES, ["train_params.ema_decay=0.999"])
    refuse_idle(config, baseline_only=False, averaging=False)
    with pytest.raises(UserError, match=r"^train_params\.ema_decay is 0\.999, but --SWA .*: remove one of them$"):
        refuse_idle(config, baseline_only=False, averaging=True)


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        (["lr_scheduler=CosineAnnealingWarmup", "warmup_steps=9", "warmup_epochs=1"], "warmup_epochs must be null"),
        (["lr_scheduler=MultiStepLR", "decay_rate=0.1", "milestones=[32, 24]"], "milestones must be one or more"),
        (["lr_scheduler=MultiStepLR", "decay_rate=0.1", "milestones=[]"], "milestones must be one or more"),
        (["lr_scheduler=OneCycleLR", "momentum=0.8"], "lr_scheduler OneCycleLR sets the momentum in every step"),
        (["lr_scheduler=OneCycleLR", "optimizer=AdamW", "betas=[0.8, 0.99]"], "train_params.betas has no effect"),
        (["ema_decay=1"], "ema_decay must be less than 1"),
        (["accumulate_grad_batches=0"], "accumulate_grad_batches must be greater than 0"),
    ],
    ids=str,
)  # fmt: skip
def test_a_recipe_that_contradicts_itself_is_refused(settings: list[str], line: str) -> None:
    with pytest.raises(UserError, match=line) as caught:
        load_config(CONFIG_FOLDER / "SPVCNN-nuscenes.yaml", [f"train_params.{setting}" for setting in settings])
    assert "\n" not in str(caught.value)
    load_config(
        CONFIG_FOLDER / "SPVCNN-nuscenes.yaml",
        ["train_params.lr_scheduler=OneCycleLR", "train_params.momentum=0.8", "train_params.cycle_momentum=false"],
    )
