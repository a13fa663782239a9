"""The viewer in a real browser: what people see there of scans, and what becomes of it when they use the controls."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from PIL import Image

from tests.browser.made_up import small_scans, with_past_scan
from tests.support.browser import Browser, Page, near
from utils.viewer.palette import DARK, age_colors
from utils.viewer.server import Viewer

CAR, ROAD, SIDEWALK, BUILDING, VEGETATION = (100, 150, 245), (255, 0, 255), (75, 0, 75), (255, 200, 0), (0, 175, 0)
SIDEWALK_ON_DARK = (115, 56, 115)  # lighter, so that it can be seen
WRONG, RIGHT = (255, 64, 64), (128, 134, 142)


@pytest.fixture
def address() -> Iterator[str]:
    """The address where the made-up scans are shown."""
    from utils.viewer.server import Viewer

    with Viewer(small_scans()) as viewer:
        yield viewer.url


@contextmanager
def opened(browser: Browser, address: str) -> Iterator[Page]:
    """A page with points so large that their colours fill whole pixels."""
    with browser.page(address) as page:
        page.set_number("Point size", 0.4)
        yield page


def luminance(pixels: np.ndarray) -> np.ndarray:
    """The relative luminance of (..., 3) sRGB pixels (WCAG 2.2)."""
    value = pixels / 255
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722]


def ground(page: Page) -> np.ndarray:
    """The colour of the page above the horizon, (3,)."""
    return page.picture()[5, 5]


def contrast(page: Page) -> float:
    """The median contrast of the scene's pixels that are not its ground with those that are; 1: nothing is seen."""
    pixels, behind = page.points(), ground(page)
    seen = pixels[np.abs(pixels.astype(int) - behind).max(1) > 4]
    if len(seen) < 0.005 * len(pixels):
        return 1.0
    light, dark = np.maximum(luminance(seen), luminance(behind)), np.minimum(luminance(seen), luminance(behind))
    return float(np.median((light + 0.05) / (dark + 0.05)))


def test_frames_classes_and_colours(browser: Browser, address: str) -> None:
    with opened(browser, address) as page:
        page.press("Bird's-eye view")
        page.shows(ROAD, CAR, SIDEWALK_ON_DARK)
        page.lacks(VEGETATION, BUILDING)

        page.check("road", False)
        page.lacks(ROAD)
        page.shows(CAR)
        page.check("road", True)
        page.shows(ROAD)

        page.pick("Colour by", "truth")
        page.lacks(SIDEWALK_ON_DARK)
        page.pick("Colour by", "errors")
        page.shows(WRONG, RIGHT)
        page.lacks(ROAD, CAR)

        page.pick("Colour by", "prediction")
        page.set_number("Frame", 1)
        page.shows(VEGETATION, BUILDING)
        page.lacks(ROAD)
        page.set_number("Frame", 2)
        page.shows(SIDEWALK_ON_DARK)
        page.lacks(VEGETATION, BUILDING)


def test_the_darkest_class_is_seen_on_both_grounds(browser: Browser, address: str) -> None:
    with opened(browser, address) as page:
        page.check("Rings", False)
        page.set_number("Frame", 2)
        page.shows(SIDEWALK_ON_DARK)
        assert luminance(ground(page)) < 0.1 and contrast(page) >= 1.8
        page.pick("Background", "light")
        page.shows(SIDEWALK)
        assert luminance(ground(page)) > 0.8 and contrast(page) >= 1.8


def extent(page: Page, *colors: tuple[int, int, int]) -> tuple[float, float]:
    """Height and width, in pixels, of where the scene has these colours."""
    rows, columns = page.where(*colors).T
    return float(np.ptp(rows)), float(np.ptp(columns))


def test_points_of_view_and_two_browsers(browser: Browser, address: str) -> None:
    """What is chosen is the same for all browsers; the point of view is each browser's own."""
    with opened(browser, address) as page, browser.page(address) as other:
        page.set_number("Frame", 1)
        for each in (page, other):
            each.shows(VEGETATION, BUILDING)
        assert other.number("Frame") == 1
        page.check("Rings", False)
        page.set_number("Frame", 2)
        other.shows(SIDEWALK_ON_DARK)

        def is_round() -> bool:
            height, width = extent(page, SIDEWALK_ON_DARK)
            return 0.95 < height / width < 1.05 and height > 250

        assert not is_round()
        page.press("Bird's-eye view")
        page.until(is_round, "a disc of points, seen from above")
        before = extent(other, SIDEWALK_ON_DARK)
        page.press("Driver's view")
        page.until(lambda: not is_round(), "a disc of points, seen from within")
        assert np.allclose(extent(other, SIDEWALK_ON_DARK), before, atol=8)


def test_past_scans_by_class_and_by_age_and_without(browser: Browser) -> None:
    new, old = ((r, g, b) for r, g, b in age_colors(DARK)[[0, -1]].tolist())
    with Viewer(with_past_scan()) as viewer, opened(browser, viewer.url) as page:
        page.press("Bird's-eye view")
        page.shows(ROAD, CAR, BUILDING)
        page.reads("12,000 points, and 12,000 of past scans")
        page.pick("Colour by", "age")
        page.shows(new, old)
        page.reads("1 scan")
        page.check("Past scans", False)
        page.lacks(old)
        page.shows(new)


def test_play_and_the_worst(browser: Browser, address: str) -> None:
    with opened(browser, address) as page:
        page.press("Play")
        page.until(lambda: page.number("Frame") == 2, "the last frame")
        page.reads("3 of 3 frames judged")
        page.press("Next worst frame")
        page.until(lambda: page.number("Frame") == 1, "the frame with the lowest mIoU")
        page.shows(VEGETATION)
        page.press("Next worst frame")
        page.until(lambda: page.number("Frame") == 0, "the frame with the second lowest mIoU")
        page.shows(ROAD)


def test_pictures_and_scenes_are_saved(browser: Browser, address: str) -> None:
    with opened(browser, address) as page:
        page.shows(ROAD, CAR)
        drawn = np.asarray(Image.open(page.download("Save picture")).convert("RGB"))
        assert min(near(drawn, color).mean() for color in (ROAD, CAR)) > 0.002
        scene = page.download("Save scene")
    assert scene.suffix == ".html"
    with browser.page(scene.as_uri()) as page:
        page.shows(ROAD, CAR)
