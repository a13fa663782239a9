"""A browser for the tests of a file, or the reason why there is none."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.browser import Browser, need_browser, started


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A running browser."""
    need_browser()
    with started(tmp_path_factory.mktemp("browser")) as running:
        yield running
