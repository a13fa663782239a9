"""Small data sets, made once."""

from __future__ import annotations

import pytest

from tests.conftest import made_once
from tests.support.demo import EXACT_NUSCENES, SHORT, TINY
from tools.demo_world import nuscenes
from tools.demo_world.semantickitti import write_tree


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    return made_once(tmp_path_factory, "tiny", lambda folder: write_tree(folder / "sequences", TINY)) / "sequences"


@pytest.fixture(scope="session")
def short(tmp_path_factory):
    """Makes a few frames of the default sensor."""
    return made_once(tmp_path_factory, "short", lambda folder: write_tree(folder / "sequences", SHORT)) / "sequences"


@pytest.fixture(scope="session")
def tree(tmp_path_factory):
    """Makes the nuScenes tree of `EXACT_NUSCENES`."""
    return made_once(tmp_path_factory, "exact", _write_nuscenes) / "nuscenes"


def _write_nuscenes(folder):
    nuscenes.write_tree(folder / "nuscenes", EXACT_NUSCENES)


@pytest.fixture(scope="session")
def mini(tree):
    devkit = pytest.importorskip("nuscenes.nuscenes")
    return devkit.NuScenes("v1.0-mini", str(tree), verbose=False)


@pytest.fixture(scope="session")
def unlabelled(tree):
    devkit = pytest.importorskip("nuscenes.nuscenes")
    return devkit.NuScenes("v1.0-test", str(tree), verbose=False)
