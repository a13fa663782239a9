"""Keys that need a flag, or that a flag leaves without an effect."""

from __future__ import annotations

import pytest

from tests.support.configs import CONFIG_FOLDER
from utils.config.effects import refuse_idle
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
