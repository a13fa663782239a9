"""Small data sets, made once."""

from __future__ import annotations

from dataclasses import replace

import pytest
from nuscenes import NuScenes

from tests.demo_support import EXACT_NUSCENES, SHORT, TINY
from tools.demo_world import nuscenes
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


@pytest.fixture(scope="session")
def tree(tmp_path_factory):
    """The nuScenes tree of `EXACT_NUSCENES`."""
    output = tmp_path_factory.mktemp("exact") / "nuscenes"
    nuscenes.write_tree(output, replace(EXACT_NUSCENES, workers=2))
    return output


@pytest.fixture(scope="session")
def mini(tree):
    return NuScenes("v1.0-mini", str(tree), verbose=False)


@pytest.fixture(scope="session")
def unlabelled(tree):
    return NuScenes("v1.0-test", str(tree), verbose=False)
