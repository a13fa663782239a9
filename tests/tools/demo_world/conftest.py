"""Two small data sets, made once."""

from __future__ import annotations

import pytest

from tests.demo_support import SHORT, TINY
from tools.demo_world.semantickitti import write_tree


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    output = tmp_path_factory.mktemp("tiny") / "sequences"
    write_tree(output, TINY)
    return output


@pytest.fixture(scope="session")
def short(tmp_path_factory):
    """The default sensor for a few frames."""
    output = tmp_path_factory.mktemp("short") / "sequences"
    write_tree(output, SHORT)
    return output
