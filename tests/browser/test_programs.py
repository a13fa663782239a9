"""The programs that show scans in the browser, as people start and end them."""

from __future__ import annotations

import signal
from pathlib import Path

import numpy as np
import pytest

from tests.browser.programs import running
from tests.support.browser import PATIENCE, Browser, Page
from tests.support.checkpoints import small_config, write_checkpoint


def colourful(page: Page) -> float:
    """The share of the scene's pixels that are of no shade of grey."""
    pixels = page.points().astype(int)
    return float((np.ptp(pixels, axis=1) > 50).mean())


@pytest.fixture
def scan(demo_trees: dict[str, Path]) -> list[object]:
    """The labelled scans of the made-up street, for tools/view.py."""
    return ["tools/view.py", "--data_path", demo_trees["SemanticKITTI"], "--sequence", "08", "--port", 0]


@pytest.fixture
def prediction(demo_trees: dict[str, Path], tmp_path: Path) -> list[object]:
    """A scan without labels and a network that has not learnt much, for predict.py."""
    network = write_checkpoint(tmp_path / "best.ckpt", small_config())
    file = demo_trees["SemanticKITTI"] / "08" / "velodyne" / "000000.bin"
    return ["predict.py", "--checkpoint", network, "--cpu", "--columns", "x,y,z,i", file, "--view"]


@pytest.mark.parametrize("command", ["scan", "prediction"])
def test_a_program_shows_points_until_it_is_interrupted(
    browser: Browser, request: pytest.FixtureRequest, command: str
) -> None:
    with running(*request.getfixturevalue(command)) as (program, address), browser.page(address) as page:
        page.set_number("Point size", 0.4)
        page.until(lambda: colourful(page) > 0.02, "points in colours")
        page.press("None")
        page.until(lambda: colourful(page) < 0.01, "no points")
        page.press("All")
        page.until(lambda: colourful(page) > 0.02, "points in colours")
        assert not page.faults

        program.send_signal(signal.SIGINT)
        _, errors = program.communicate(timeout=PATIENCE)
        assert program.returncode == 130 and "Traceback" not in errors
        page.faults.clear()  # the page has lost its server
