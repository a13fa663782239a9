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
