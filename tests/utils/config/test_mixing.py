"""dataset_params.mixing."""

from __future__ import annotations

import pytest

from tests.support.configs import refusal
from utils.config.loading import load_config, save_config

KEY = "dataset_params.mixing"


def test_off_by_default(path):
    assert load_config(path).dataset_params.mixing is None


def test_on_and_saved(path, tmp_path):
    config = load_config(path, [f"{KEY}={{laser_mix: {{chance: 0.5}}, polar_mix: {{chance: 0.5, swap_chance: 0}}}}"])
    mixing = config.dataset_params.mixing
    assert mixing is not None and [name for name, _ in mixing.kinds()] == ["laser_mix", "polar_mix"]
    assert mixing.laser_mix is not None and mixing.laser_mix.bands == (3, 4, 5, 6) and mixing.choose == "one_of"
    save_config(config, tmp_path / "saved.yaml")
    assert load_config(tmp_path / "saved.yaml") == config
    again = load_config(tmp_path / "saved.yaml", [f"{KEY}.laser_mix.pitch=[-30, 10]"]).dataset_params.mixing
    assert again is not None and again.laser_mix is not None and again.laser_mix.pitch == (-30, 10)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("{}", f"{KEY} names no kind; name some of laser_mix, polar_mix"),
        ("{choose: each}", f"{KEY} names no kind"),
        ("{laser_mix: {chance: 0.7}, polar_mix: {chance: 0.5}}", f"{KEY} has chances of 0.7 + 0.5 = 1.2, which must"),
        ("{choose: some, laser_mix: {chance: 0.7}}", f"{KEY}.choose must be 'one_of' or 'each'"),
        ("{laser_mix: {chance: 0}}", f"{KEY}.laser_mix.chance must be"),
        ("{laser_mix: {}}", f"{KEY}.laser_mix.chance is missing"),
        ("{laser_mix: {chance: 1, bands: []}}", f"{KEY}.laser_mix.bands must hold at least one"),
        ("{laser_mix: {chance: 1, bands: [1]}}", f"{KEY}.laser_mix.bands"),
        ("{laser_mix: {chance: 1, pitch: [3, -25]}}", f"{KEY}.laser_mix.pitch must hold the lowest elevation"),
        ("{laser_mix: {chance: 1, pitch: [3]}}", f"{KEY}.laser_mix.pitch must have 2 entries"),
        ("{polar_mix: {chance: 1, swap_chance: 0, paste_chance: 0}}", "or nothing is mixed"),
        ("{lasermix: {chance: 1}}", f"unknown key {KEY}.lasermix, did you mean {KEY}.laser_mix?"),
    ],
)
def test_what_is_wrong_is_named(path, value, words):
    assert words in refusal(path, (f"{KEY}={value}",))


def test_each_may_have_chances_above_one(path):
    wanted = f"{KEY}={{choose: each, laser_mix: {{chance: 1}}, polar_mix: {{chance: 1}}}}"
    assert load_config(path, [wanted]).dataset_params.mixing is not None


def test_the_published_mixing_is_not_asked_for_twice(path):
    settings = ("dataset_params.dataset_type=point_image_dataset_mix_semkitti", f"{KEY}={{laser_mix: {{chance: 1}}}}")
    assert "dataset_params.mixing" in refusal(path, settings) and "exclude each other" in refusal(path, settings)
