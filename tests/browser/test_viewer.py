"""The viewer in a real browser: what people see there of scans, and what becomes of it when they use the controls."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

from tests.browser.made_up import small_scans
from tests.support.browser import Browser, Page, near

CAR, ROAD, SIDEWALK, BUILDING, VEGETATION = (100, 150, 245), (255, 0, 255), (75, 0, 75), (255, 200, 0), (0, 175, 0)
SIDEWALK_ON_DARK = (115, 56, 115)  # lighter, so that it can be seen
WRONG, RIGHT = (255, 64, 64), (128, 134, 142)


@pytest.fixture
def address() -> Iterator[str]:
    """The address where the made-up scans are shown."""
    from utils.viewer.server import Viewer

    with Viewer(small_scans()) as viewer:
        yield viewer.url


def luminance(pixels: np.ndarray) -> np.ndarray:
    """The relative luminance of (..., 3) sRGB pixels (WCAG 2.2)."""
    value = pixels / 255
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722]


def ground(page: Page) -> np.ndarray:
    """The colour of most pixels of the scene, (3,)."""
    colors, counts = np.unique(page.points(), axis=0, return_counts=True)
    return colors[counts.argmax()]


def contrast(page: Page) -> float:
    """The median contrast of the scene's pixels that are not its ground with those that are; 1: nothing is seen."""
    pixels, behind = page.points(), ground(page)
    seen = pixels[np.abs(pixels.astype(int) - behind).max(1) > 4]
    if len(seen) < 0.005 * len(pixels):
        return 1.0
    light, dark = np.maximum(luminance(seen), luminance(behind)), np.minimum(luminance(seen), luminance(behind))
    return float(np.median((light + 0.05) / (dark + 0.05)))


def test_frames_classes_and_colours(browser: Browser, address: str) -> None:
    with browser.page(address) as page:
        page.set_number("Point size", 0.4)
        page.press("Bird's-eye view")
        page.shows(ROAD, CAR, SIDEWALK_ON_DARK)
        assert page.share(VEGETATION, BUILDING) == 0

        page.check("road", False)
        page.lacks(ROAD)
        page.shows(CAR)
        page.check("road", True)
        page.shows(ROAD)

        page.pick("Colour by", "truth")
        page.lacks(SIDEWALK_ON_DARK)
        page.pick("Colour by", "errors")
        page.shows(WRONG, RIGHT)
        assert page.share(ROAD, CAR) == 0

        page.pick("Colour by", "prediction")
        page.set_number("Frame", 1)
        page.shows(VEGETATION, BUILDING)
        page.lacks(ROAD)
        page.set_number("Frame", 2)
        page.shows(SIDEWALK_ON_DARK)
        page.lacks(VEGETATION, BUILDING)


@pytest.mark.parametrize("name", ["dark", "light"])
def test_the_darkest_class_is_seen_on_both_grounds(browser: Browser, address: str, name: str) -> None:
    with browser.page(address) as page:
        page.set_number("Point size", 0.4)
        page.set_number("Frame", 2)
        page.check("Rings", False)
        page.pick("Background", name)
        page.until(lambda: (luminance(ground(page)) > 0.8) == (name == "light"), f"a {name} ground")
        page.until(lambda: contrast(page) >= 1.8, "points that stand out")
