"""Takes a picture of the viewer in headless Chromium, for the documentation.

    python -m tests.browser.picture docs/pictures/viewer.png tools/view.py --data_path dataset/demo/sequences \
        --predictions logs/SemanticKITTI/demo/test_1/predictions

After the file come a program that shows scans in the browser and its arguments; --port 0 is added for tools/view.py.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from tests.browser.programs import running
from tests.support.browser import Page, Pixels, missing, started


def settled(page: Page) -> Pixels:
    """Waits until the page does not change for a second, and returns how it looks."""
    before, now = None, page.picture()
    while before is None or not np.array_equal(before, now):
        page.driven.wait_for_timeout(1000)
        before, now = now, page.picture()
    return now


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, nargs=2, default=(1600, 900), help="of the page, pixels")
    parser.add_argument("--point_size", type=float, default=0.06, help="metres, default 0.06")
    parser.add_argument(
        "--pick", nargs=2, action="append", default=[], metavar=("LIST", "OPTION"), help="option that is picked before"
    )
    parser.add_argument("--press", nargs="+", default=[], metavar="BUTTON", help="buttons that are pressed before")
    parser.add_argument("file", type=Path, help="the PNG")
    parser.add_argument("program", nargs=argparse.REMAINDER, help="a program that shows scans, and its arguments")
    flags = parser.parse_args(arguments)
    if (reason := missing()) is not None:
        print(f"error: {reason}", file=sys.stderr)
        return 2
    port = ["--port", "0"] if flags.program[:1] == ["tools/view.py"] else []
    with (
        tempfile.TemporaryDirectory() as folder,
        running(*flags.program, *port) as (_, address),
        started(Path(folder), tuple(flags.size)) as browser,
        browser.page(address) as page,
    ):
        page.set_number("Point size", flags.point_size)
        for name, option in flags.pick:
            page.pick(name, option)
        for button in flags.press:
            page.press(button)
        page.driven.mouse.move(5, 5)  # nothing is pointed at
        page.driven.evaluate("() => document.querySelectorAll('*').forEach(each => each.scrollTo(0, 0))")
        picture = settled(page)
    Image.fromarray(picture).save(flags.file, optimize=True)
    print(f"wrote {flags.file}, {flags.file.stat().st_size / 1000:.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
