"""Small made-up scans for the viewer."""

from __future__ import annotations

import pytest

from tests.support.shown import MadeFrames, make_scan
from utils.viewer.records import ShownScan


@pytest.fixture
def scan() -> ShownScan:
    return make_scan(0)


@pytest.fixture
def frames() -> MadeFrames:
    return MadeFrames()
