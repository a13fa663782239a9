"""Colours that can be seen on the dark and on the light ground."""

from __future__ import annotations

import colorsys
from pathlib import Path

import numpy as np
import pytest

from utils.labels import LabelMap
from utils.pictures.raster import UNLABELLED
from utils.viewer.palette import CONTRAST, DARK, GROUNDS, LIGHT, Ground, class_colors, contrast, ramp_colors, seen_on

MAPS = sorted(Path("config/label_mapping").glob("*.yaml"))


def plain_contrast(color: np.ndarray, ground: tuple[int, int, int]) -> float:
    """The contrast ratio of WCAG 2, channel by channel."""

    def light(rgb: tuple[float, ...]) -> float:
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in rgb]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    one, other = sorted(light(tuple(float(c) / 255 for c in rgb)) for rgb in (color, ground))
    return (other + 0.05) / (one + 0.05)


@pytest.mark.parametrize("ground", GROUNDS.values(), ids=lambda ground: ground.name)
@pytest.mark.parametrize("path", MAPS, ids=lambda path: path.stem)
def test_every_class_of_the_shipped_maps_is_seen_and_told_apart_on_both_grounds(path: Path, ground: Ground) -> None:
    colors = LabelMap.load(path).colors
    seen = class_colors(ground, colors)
    assert tuple(seen[0]) == UNLABELLED
    assert min(plain_contrast(color, ground.color) for color in seen) >= CONTRAST
    assert len(np.unique(seen[1:], axis=0)) == len(np.unique(colors[1:], axis=0))


def test_the_official_purple_is_lighter_on_dark_ground_only_and_keeps_its_hue() -> None:
    purple = np.array([[75, 0, 75]], dtype=np.uint8)
    assert plain_contrast(purple[0], DARK.color) < 1.3  # why it is changed
    seen = seen_on(DARK, purple)[0]
    assert plain_contrast(seen, DARK.color) >= CONTRAST
    assert colorsys.rgb_to_hsv(*seen.tolist())[0] == pytest.approx(colorsys.rgb_to_hsv(75, 0, 75)[0], abs=0.01)
    assert np.array_equal(seen_on(LIGHT, purple), purple)


def test_colours_that_are_seen_anyway_are_as_in_the_label_map() -> None:
    colors = np.random.default_rng(0).integers(0, 256, (300, 3)).astype(np.uint8)
    for ground in GROUNDS.values():
        strong = np.array([plain_contrast(color, ground.color) >= CONTRAST for color in colors])
        assert strong.any() and not strong.all()
        assert np.array_equal((seen_on(ground, colors) == colors).all(axis=1), strong)
        assert contrast(seen_on(ground, colors), ground).min() >= CONTRAST


@pytest.mark.parametrize("ground", GROUNDS.values(), ids=lambda ground: ground.name)
def test_the_ramp_of_a_number_gets_lighter_from_low_to_high_and_is_seen_throughout(ground: Ground) -> None:
    ramp = ramp_colors(ground)
    assert ramp.shape == (256, 3)
    assert min(plain_contrast(color, ground.color) for color in ramp) >= CONTRAST
    if ground is DARK:
        assert plain_contrast(ramp[255], DARK.color) > 2 * plain_contrast(ramp[0], DARK.color)
