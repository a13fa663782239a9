"""Measures the viewer in headless Chromium, without a GPU: how soon a scan of 125,000 points stands on the page.

    python -m tests.browser.measure
    TWODPASS_REAL_DATA=dataset/SemanticKitti/dataset/sequences python -m tests.browser.measure --runs 9

Made-up scans of 64 beams, or the first two of sequence 00 below TWODPASS_REAL_DATA. A scan stands on the page from the
moment on when it looks as it does when nothing moves any more.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.browser.programs import running
from tests.support.browser import Browser, Page, missing, started

# Compares the scene, made small, with how it looked when it was still: the share of its pixels that are not as then. It
# looks only after points have been drawn, for a look takes time in which nothing is drawn.
SCRIPT = """
const small = document.createElement("canvas");
[small.width, small.height] = [80, 45];
const look = () => {
  const scene = document.querySelector("canvas[data-engine]");
  if (!scene || !scene.width) return null;
  const drawn = small.getContext("2d", {willReadFrequently: true});
  drawn.imageSmoothingQuality = "high";
  drawn.clearRect(0, 0, small.width, small.height);
  drawn.drawImage(scene, 0, 0, small.width, small.height);
  return drawn.getImageData(0, 0, small.width, small.height).data;
};
const away = (one, other) => {
  let drawn = 0, wrong = 0;
  for (let i = 0; i < other.length; i += 4) {
    if (!other[i + 3]) continue;
    drawn += 1;
    for (let c = i; c < i + 4; c++) if (Math.abs(one[c] - other[c]) > 32) { wrong += 1; break; }
  }
  return drawn ? wrong / drawn : 1;
};
let news = true;
const draw = WebGL2RenderingContext.prototype.drawArrays;
WebGL2RenderingContext.prototype.drawArrays = function (mode, first, count) {
  draw.call(this, mode, first, count);
  if (mode === this.POINTS && count > 1000) news = true;
};
window.scanLook = look;
window.scanStands = reference => new Promise((done, fail) => {
  setTimeout(() => fail("it does not come to look as it did: " + away(look(), reference)), 60000);
  const step = () => {
    if (news) {
      news = false;
      const now = look();
      if (now && away(now, reference) < 0.05) return done(performance.timeOrigin + performance.now());
    }
    requestAnimationFrame(step);
  };
  step();
});
"""


@dataclass
class Wire:
    """What a page has received, and when; times in seconds since the epoch."""

    connected: float = 0.0
    received: list[tuple[float, int]] = field(default_factory=list)

    def listen(self, driven: Any) -> None:
        """Notes the connections of a page from now on."""

        def connect(socket: Any) -> None:
            self.connected = time.time()
            socket.on("framereceived", lambda data: self.received.append((time.time(), len(data))))

        driven.on("websocket", connect)

    def of_scan(self, since: float, until: float) -> tuple[float, int]:
        """Returns when the longest message of a span of time came, in seconds from its beginning, and its bytes."""
        size, when = max((size, when) for when, size in self.received if since <= when <= until)
        return when - since, size


@dataclass(frozen=True)
class Times:
    """How long something took: until its data had come, and until it stood on the page, seconds; bytes of the data."""

    data: float
    stands: float
    size: int


def settled(page: Page) -> list[int]:
    """Waits until the scene has not changed for a second, and returns how it looks."""
    before: list[int] = []
    while True:
        now = list(page.driven.evaluate("() => Array.from(scanLook() || [])"))
        if now and now == before and any(now[3::4]):
            return now
        before = now
        page.driven.wait_for_timeout(1000)


def stands(page: Page, look: list[int]) -> float:
    """Waits until the scene looks like this, and returns when it did, in seconds since the epoch."""
    return page.driven.evaluate("look => scanStands(look)", look) / 1000


def show(page: Page, frame: int, look: list[int], wire: Wire) -> Times:
    """Shows another frame, and measures."""
    begun = time.time()
    page.set_number("Frame", frame)
    end = stands(page, look)
    return Times(*_swap(wire.of_scan(begun, end), end - begun))


def _swap(data: tuple[float, int], end: float) -> tuple[float, float, int]:
    return data[0], end, data[1]


def measure(browser: Browser, address: str, runs: int) -> tuple[list[float], list[Times], list[Times]]:
    """Returns times of loading the page until it connects, of the first scan from then on, and of the next frame."""
    address += "/?fixedDpr=1"  # else the page is drawn more coarsely where drawing takes long
    looks: list[list[int]] = []
    loads, firsts, others = [], [], []
    with browser.page(address, SCRIPT) as page:
        for frame in (1, 0):
            page.set_number("Frame", frame)
            page.driven.wait_for_timeout(3000)
            looks.insert(0, settled(page))
    for _ in range(runs):
        wire = Wire()
        begun = time.time()
        with browser.page(address, SCRIPT, wire.listen) as page:
            end = stands(page, looks[0])
            loads.append(wire.connected - begun)
            firsts.append(Times(*_swap(wire.of_scan(wire.connected, end), end - wire.connected)))
            others.append(show(page, 1, looks[1], wire))
            others.append(show(page, 0, looks[0], wire))
    return loads, firsts, others


def line(what: str, times: Sequence[Times]) -> str:
    """Describes times in words: the median, and the shortest and the longest."""
    ends = [each.stands for each in times]
    data = statistics.median(each.data for each in times)
    size = statistics.median(each.size for each in times) / 1e6
    middle, low, high = statistics.median(ends), min(ends), max(ends)
    return f"{what}: {middle:.2f} s ({low:.2f} to {high:.2f}); its {size:.1f} MB had come after {data:.2f} s"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5, help="pages that are opened, default 5")
    parser.add_argument("--size", type=int, nargs=2, default=(1280, 720), help="of the page, pixels")
    flags = parser.parse_args(arguments)
    if (reason := missing()) is not None:
        print(f"error: {reason}", file=sys.stderr)
        return 2
    with (
        tempfile.TemporaryDirectory() as folder,
        running("-m", "tests.browser.made_up", "real_size") as (_, address),
        started(Path(folder), tuple(flags.size)) as browser,
    ):
        loads, firsts, others = measure(browser, address, flags.runs)
    print(f"page loaded, until it connects: {statistics.median(loads):.2f} s")
    print(line("the first scan, from the connection on", firsts))
    print(line("another frame", others))
    return 0


if __name__ == "__main__":
    sys.exit(main())
