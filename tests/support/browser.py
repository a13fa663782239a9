"""A real browser for tests of pages that show scans: headless Chromium with WebGL in software, driven by playwright.

Elements of the page are addressed by the labels that people read, points by the colours of their pixels. Nothing waits
for a fixed time: what is expected has `PATIENCE` seconds, on a busy machine, to come true.
"""

from __future__ import annotations

import importlib
import importlib.util
import io
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--no-sandbox",  # tests run as root in containers
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
)
SIZE = (1000, 640)
PATIENCE = 60.0
SEEN = 0.005
"""The share of pixels from which on a colour is seen."""

Pixels = np.ndarray
"""(H, W, 3) uint8 RGB."""

# Left, top, right and bottom of what lies on the scene: the panel and windows, with the edges that resize them.
_WINDOWS = """() => [...document.querySelectorAll("[data-dock-region], [data-floating-window]")].map(element => {
  const box = element.getBoundingClientRect();
  return [box.left - 8, box.top - 8, box.right + 8, box.bottom + 8].map(Math.round);
})"""


def chromium() -> str | None:
    """Returns the path of the machine's Chromium: the one that CHROMIUM names, or the first of `PROGRAMS`."""
    named = os.environ.get("CHROMIUM")
    return shutil.which(named) if named else next(filter(None, map(shutil.which, PROGRAMS)), None)


def missing() -> str | None:
    """Returns what keeps a browser from being driven, in words; None: nothing does."""
    if chromium() is None and (named := os.environ.get("CHROMIUM")):
        return f"CHROMIUM={named} is no program"
    if chromium() is None:
        return "there is no Chromium (tools/setup_browser.sh installs it)"
    if importlib.util.find_spec("playwright") is None:
        return "playwright is not installed (tools/setup_browser.sh installs it)"
    return None


def need_browser() -> None:
    """Skips the test where no browser can be driven; fails it there if TWODPASS_BROWSER is "required"."""
    reason = missing()
    if reason and os.environ.get("TWODPASS_BROWSER") == "required":
        pytest.fail(f"TWODPASS_BROWSER=required, but {reason}", pytrace=False)
    if reason:
        pytest.skip(f"test in a browser: {reason}")


@contextmanager
def started(folder: Path, size: tuple[int, int] = SIZE) -> Iterator[Browser]:
    """Starts a browser with an empty profile, and ends it.

    Args:
        folder: where downloads go, and the picture of the page when something expected has not come true.
        size: width and height of its pages, pixels.
    """
    with importlib.import_module("playwright.sync_api").sync_playwright() as playwright:
        driven = playwright.chromium.launch(executable_path=chromium(), args=list(FLAGS), headless=True)
        try:
            yield Browser(driven, folder, size)
        finally:
            driven.close()


class Browser:
    """A running browser; every page is one of a person with an empty profile."""

    def __init__(self, driven: Any, folder: Path, size: tuple[int, int]) -> None:
        self._driven, self._folder, self._size = driven, folder, size

    @contextmanager
    def page(
        self, address: str, script: str = "", prepare: Callable[[Any], None] = lambda driven: None
    ) -> Iterator[Page]:
        """Opens a page, and closes it; on the way out it must be free of errors.

        Args:
            address: its address.
            script: JavaScript that runs in it before its own.
            prepare: called with playwright's page before it is opened.
        """
        width, height = self._size
        context = self._driven.new_context(viewport={"width": width, "height": height}, accept_downloads=True)
        try:
            context.add_init_script(script)
            page = Page(context.new_page(), self._folder)
            prepare(page.driven)
            page.open(address)
            yield page
            assert not page.faults, page.faults
        finally:
            context.close()


class Page:
    """A page with scans.

    Attributes:
        faults: errors on its console, exceptions of its scripts, failed requests, and requests that leave this machine.
    """

    def __init__(self, driven: Any, folder: Path) -> None:
        self.faults: list[str] = []
        self.driven, self._folder = driven, folder
        driven.set_default_timeout(1000 * PATIENCE)
        driven.on("console", self._heard)
        driven.on("pageerror", lambda error: self.faults.append(f"exception: {error}"))
        driven.on("requestfailed", lambda request: self.faults.append(f"failed: {request.url[:200]} {request.failure}"))
        driven.on("response", self._answered)
        driven.on("request", self._asked)

    def _heard(self, message: Any) -> None:
        if message.type == "error":
            self.faults.append(f"console: {message.text}")

    def _answered(self, response: Any) -> None:
        if response.status >= 400:
            self.faults.append(f"answer {response.status}: {response.url}")

    def _asked(self, request: Any) -> None:
        parts = urlsplit(request.url)
        if parts.scheme in ("http", "https", "ws", "wss") and parts.hostname not in ("127.0.0.1", "localhost"):
            self.faults.append(f"leaves this machine: {request.url}")

    def open(self, address: str) -> None:
        """Opens an address, and closes the notice about drawing in software, which lies on the points."""
        self.driven.goto(address)
        self.driven.locator("#webgl-software-rendering button").click()
        self.driven.locator("#webgl-software-rendering").wait_for(state="detached")

    def picture(self) -> Pixels:
        """Returns the whole page as it looks now."""
        return np.asarray(Image.open(io.BytesIO(self.driven.screenshot())).convert("RGB"))

    def _free(self, image: Pixels) -> np.ndarray:
        """Returns the (H, W) mask of pixels that no panel or window with controls covers."""
        free = np.ones(image.shape[:2], bool)
        for left, top, right, bottom in self.driven.evaluate(_WINDOWS):
            free[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)] = False
        return free

    def points(self) -> Pixels:
        """Returns the (M, 3) uint8 RGB pixels of the scene, without panels and windows."""
        image = self.picture()
        return image[self._free(image)]

    def where(self, *colors: tuple[int, int, int]) -> np.ndarray:
        """Returns row and column, (M, 2), of the pixels of the scene that have one of these colours."""
        image = self.picture()
        return np.argwhere(near(image, *colors) & self._free(image))

    def share(self, *colors: tuple[int, int, int]) -> float:
        """Returns the share of the scene's pixels, 0..1, that have one of these colours."""
        return float(near(self.points(), *colors).mean())

    def until(self, expected: Callable[[], bool], what: str) -> None:
        """Waits until a condition is true.

        Raises:
            AssertionError: it has not become true; the message says what was expected, and where the picture is.
        """
        end = time.monotonic() + PATIENCE
        while not expected():
            if time.monotonic() > end:
                kept = self._folder / "page.png"
                Image.fromarray(self.picture()).save(kept)
                raise AssertionError(f"not within {PATIENCE:g} s: {what}; the page is in {kept}; {self.faults}")
            self.driven.wait_for_timeout(50)

    def shows(self, *colors: tuple[int, int, int]) -> None:
        """Waits until each of the colours is on at least `SEEN` of the scene's pixels."""
        self.until(lambda: all(self.share(color) >= SEEN for color in colors), f"pixels of {colors}")

    def lacks(self, *colors: tuple[int, int, int]) -> None:
        """Waits until the colours are on next to no pixel; where two others meet, a mixture may look like one."""
        self.until(lambda: self.share(*colors) <= SEEN / 20, f"no pixels of {colors}")

    def reads(self, text: str) -> None:
        """Waits until a text is on the page."""
        self.driven.get_by_text(text).first.wait_for(state="attached")

    def _labelled(self, label: str) -> Any:
        """Finds the element with a label; text after it, such as a count, does not matter."""
        found = self.driven.locator("label").filter(has_text=starting_with(label)).first
        return self.driven.locator(f'[id="{found.get_attribute("for")}"]')

    def set_number(self, label: str, value: float) -> None:
        """Types a number into the box beside a slider."""
        self._labelled(label).locator("xpath=following-sibling::*//input").fill(str(value))

    def number(self, label: str) -> float:
        """Returns the number where a slider is."""
        return float(self._labelled(label).get_by_role("slider").get_attribute("aria-valuenow"))

    def pick(self, label: str, option: str) -> None:
        """Picks an option of a drop-down list."""
        self._labelled(label).click()
        self.driven.get_by_role("option").filter(visible=True).filter(has_text=starting_with(option)).first.click()

    def check(self, label: str, on: bool) -> None:
        """Sets or clears a check box."""
        self._labelled(label).set_checked(on)

    def press(self, label: str) -> None:
        """Presses a button."""
        self.driven.get_by_role("button", name=label).first.click()

    def download(self, label: str) -> Path:
        """Presses a button and returns the file that it sends."""
        with self.driven.expect_download() as sent:
            self.press(label)
        file = self._folder / sent.value.suggested_filename
        sent.value.save_as(file)
        return file


def starting_with(label: str) -> Any:
    """Makes a pattern of texts that start with a label, as whole words."""
    return re.compile(rf"^\s*{re.escape(label)}(?!\w)", re.IGNORECASE)


def near(image: Pixels, *colors: tuple[int, int, int], tolerance: int = 12) -> np.ndarray:
    """Returns the mask, (...), of (..., 3) pixels whose channels are all within `tolerance` of one of the colours."""
    away = [np.abs(image.astype(np.int16) - color).max(axis=-1) for color in colors]
    return np.min(away, axis=0) <= tolerance
