"""The programs that show scans in the browser, as people start and end them."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from tests.support.browser import PATIENCE, Browser, Page
from tests.support.checkpoints import small_config, write_checkpoint

ROOT = Path(__file__).resolve().parents[2]


@contextmanager
def running(*command: object) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A program of this project that has printed an address, and the address."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    # A shell that starts something in the background lets it ignore Ctrl-C; a test may be run from one.
    listening = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.default_int_handler)}
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    program = subprocess.Popen([sys.executable, *map(str, command)], cwd=ROOT, env=environment, **pipes, **listening)  # type: ignore[call-overload]
    try:
        assert program.stdout is not None
        lines = []
        for line in program.stdout:
            lines.append(line)
            if found := re.search(r"http://\S+:\d+", line):
                yield program, found[0]
                return
        pytest.fail(f"no address: {lines} {program.communicate()[1]}")
    finally:
        program.kill()
        program.communicate()


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
