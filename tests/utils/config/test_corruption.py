"""dataset_params.corruption_aug."""

from __future__ import annotations

import pytest

from tests.support.configs import refusal
from utils.config.loading import load_config, save_config

KEY = "dataset_params.corruption_aug"


def test_off_by_default(path):
    assert load_config(path).dataset_params.corruption_aug is None


def test_on_and_saved(path, tmp_path):
    config = load_config(path, [f"{KEY}={{corruptions: [fog, snow]}}"])
    corruption = config.dataset_params.corruption_aug
    assert corruption is not None
    assert (corruption.chance, corruption.corruptions) == (0.5, ("fog", "snow"))
    save_config(config, tmp_path / "saved.yaml")
    assert load_config(tmp_path / "saved.yaml") == config
    again = load_config(tmp_path / "saved.yaml", [f"{KEY}.chance=0.2"]).dataset_params.corruption_aug
    assert again is not None and again.chance == 0.2


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("{corruptions: [fgo]}", f"{KEY}.corruptions must hold names of corruptions, found 'fgo', did you mean fog?"),
        ("{corruptions: [snow, Crosstak]}", "found 'Crosstak', did you mean crosstalk?"),
        ("{corruptions: []}", f"{KEY}.corruptions must name at least one of fog"),
        ("{corruptions: fog}", f"{KEY}.corruptions must be a list"),
        ("{chance: 2, corruptions: [fog]}", f"{KEY}.chance must be 1 or less"),
        ("{chance: 0.5}", f"{KEY}.corruptions is missing"),
        ("{chances: 0.5, corruptions: [fog]}", f"unknown key {KEY}.chances, did you mean {KEY}.chance?"),
    ],
)
def test_what_is_wrong_is_named(path, value, words):
    assert words in refusal(path, (f"{KEY}={value}",))
