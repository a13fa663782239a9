"""The options of demo data: which values are taken, and which are refused."""

from __future__ import annotations

import json

import pytest

from tests.support.demo import TINY
from tools.demo_world.options import DemoOptions
from utils.errors import UserError


@pytest.mark.parametrize(
    "change",
    [
        {"train_frames": 0},
        {"beams": 1},
        {"dropout": 1.0},
        {"image_size": (8, 64)},
        {"vertical_fov": (-20.0, 2.0)},
        {"sweeps": 10},
        {"train_streets": 11},
        {"train_streets": 3, "train_frames": 2},
    ],
)
def test_senseless_options_are_refused(change):
    with pytest.raises(UserError, match=next(iter(change))):
        DemoOptions(**change)


def test_streets_belong_to_the_identity_only_where_there_are_several():
    assert "train_streets" not in TINY.identity()  # or a data set of an earlier version would count as another one


def reflecting(*changes):
    return DemoOptions(**{**vars(TINY), "reflectance": changes})


def test_reflectance_belongs_to_the_identity_only_where_it_is_chosen():
    assert "reflectance" not in TINY.identity()  # or a data set of an earlier version would count as another one
    one, other = ("ASPHALT", 0.1), ("METAL", 0.5)
    chosen = reflecting(one, other).identity()
    assert chosen == reflecting(other, one).identity() == json.loads(json.dumps(chosen))
    assert chosen != reflecting(one).identity() != TINY.identity()


def test_sweeps_belong_to_the_identity_only_where_there_are_some():
    assert "sweeps" not in TINY.identity()  # SemanticKITTI has none
    assert DemoOptions(**{**vars(TINY), "sweeps": 2}).identity() == {**TINY.identity(), "sweeps": 2}


@pytest.mark.parametrize(
    ("name", "share", "words"),
    [
        ("ASPHALTT", 0.5, "did you mean ASPHALT?"),
        ("metall", 0.5, "did you mean METAL?"),
        ("SKY", 0.5, "no such material"),
        ("", 0.5, "no such material"),
        ("METAL", 1.5, "METAL has to be from 0 to 1, not 1.5"),
        ("METAL", -0.1, "METAL has to be from 0 to 1"),
        ("METAL", float("nan"), "METAL has to be from 0 to 1"),
    ],
)
def test_senseless_reflectance_is_refused(name, share, words):
    with pytest.raises(UserError) as error:
        reflecting((name, share))
    assert str(error.value).startswith(f"--reflectance {name}")
    assert words in str(error.value)
