"""What a checkpoint says about itself: it comes back as it was written, and nothing else is believed."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from network.weights.description import Description, describe, read_description
from network.weights.reading import read_checkpoint
from tests.support.networks import CONFIG, refusal
from tests.support.spoiling import OTHERS, changed, places, value_at, without
from utils.config.loading import load_config
from utils.errors import UserError
from utils.label_files import SPLITS
from utils.labels import UNKNOWN, LabelMap
from utils.names import is_folder_name
from utils.scan.statistics import Statistics

PATH = Path("last.ckpt")
ASCENDING = tuple(float(number) for number in range(9))
TRAITS = {"ground": ASCENDING, "rotation": ASCENDING}
STATISTICS = Statistics(7, ASCENDING, ASCENDING, ASCENDING, ASCENDING, -1.73, (0.05,) * 20, TRAITS)
HERE = ["2dpass", "description"]


@pytest.fixture(scope="module")
def content(label_map, tmp_path_factory) -> dict[str, Any]:
    """As it comes from the file."""
    config = load_config(CONFIG, ["train_params.learning_rate=0.125"])
    added = label_map.adding({300: "snow"})
    ours = {"geometry": {"scale_list": [2, 4, 8, 16]}, "description": describe(config, added, STATISTICS)}
    path = tmp_path_factory.mktemp("described") / "x.ckpt"
    torch.save({"2dpass": ours}, path)
    return read_checkpoint(path)


def test_it_comes_back_as_it_was(content, label_map) -> None:
    found = read_description(content, PATH)
    assert found is not None and found.format == 1
    assert found.config == load_config(CONFIG, ["train_params.learning_rate=0.125"])
    assert found.statistics == STATISTICS
    assert found.geometry == {"scale_list": (2, 4, 8, 16)}
    for name, value in vars(label_map).items():  # what corruptions add is not the training's
        assert np.array_equal(getattr(found.label_map, name), value) if name != "added" else found.label_map.added == ()


def test_it_is_small(content, tmp_path) -> None:
    torch.save(content["2dpass"], tmp_path / "x")
    assert (tmp_path / "x").stat().st_size < 20_000


@pytest.mark.parametrize("content", [{}, {"state_dict": {}}, {"2dpass": {"geometry": {}}}, {"2dpass": None}], ids=str)
def test_published_and_earlier_ones_say_nothing(content) -> None:
    assert read_description(content, PATH) is None


def test_whatever_is_changed_ends_in_one_line_or_in_a_sound_description(content) -> None:
    ways = [place for place in places(content, 7) if len(place) > 1]
    refused = 0
    for place in ways:
        old = value_at(content, place)
        candidates = {name: changed(content, place, make(old)) for name, make in OTHERS.items()}
        if isinstance(value_at(content, place[:-1]), dict):
            candidates["missing"] = without(content, place)
        for name, candidate in candidates.items():
            try:
                found = read_description(candidate, PATH)
            except UserError as error:
                refused += 1
                message = str(error)
                assert message.startswith(f"{PATH}: 2dpass") and "\n" not in message, (place, name)
                assert len(message) < 700 and message.isprintable(), (place, name)
            else:
                assert_sound(found, (place, name))
    assert len(ways) > 100 and refused > 12 * len(ways)


def assert_sound(found: Description | None, where: Any) -> None:
    if found is None:
        assert where == (HERE, "missing"), where
        return
    classes = found.config.model_params.num_classes
    label_map, statistics = found.label_map, found.statistics
    assert len(label_map.names) == len(set(label_map.names)) == len(label_map.to_raw) == classes, where
    assert label_map.colors.shape == (classes, 3) and label_map.colors.dtype == np.uint8, where
    assert (label_map.to_learning[label_map.to_raw] == np.arange(classes)).all(), where
    assert ((label_map.to_learning < classes) | (label_map.to_learning == UNKNOWN)).all(), where
    assert set(label_map.split) <= set(SPLITS), where
    assert all(is_folder_name(name) for names in label_map.split.values() for name in names), where
    assert all(math.isfinite(number) for numbers in found.geometry.values() for number in numbers), where
    if statistics is not None:
        for name in ("intensity", "height", "range", "points_per_scan"):
            assert len(numbers := getattr(statistics, name)) == 9 and list(numbers) == sorted(numbers), where
            assert all(map(math.isfinite, numbers)), where
        for numbers in statistics.traits.values():
            assert len(numbers) == 9 and list(numbers) == sorted(numbers) and all(map(math.isfinite, numbers)), where
        assert sum(statistics.class_shares) == pytest.approx(1) and min(statistics.class_shares) >= 0, where


WRONG: dict[str, tuple[list[Any], Any, str]] = {
    "a newer format": (["format"], 2, "2dpass.description.format is 2, but this version of the program knows up to 1"),
    "an unknown key": (["config", "train_params", "momentun"], 0.9, "did you mean train_params.momentum?"),
    "a value out of bounds": (["config", "train_params", "momentum"], 2, "train_params.momentum must be less than 1"),
    "an escape in the config": (
        ["config", "dataset_params", "label_mapping"], "x\x1b[2J", "label_mapping must not hold control characters"
    ),
    "a text turned round": (
        ["config", "dataset_params", "val_data_loader", "data_path"], "\u202e", "data_path must not hold control"
    ),
    "a thousand keys": (["config", "x"], {f"key {n}": n for n in range(2000)}, "description.config"),
    "long keys": (["config", "train_params", "x" * 100_000], 1, "description.config.train_params"),
    "a control character": (["class_names", 3], "car\x1b[2J", "description.class_names"),
    "one name twice": (["class_names", 3], "car", "description.class_names"),
    "a colour": (["class_colors", 3, 0], 256, "description.class_colors"),
    "a raw id of another class": (["raw_ids", 3], 10, "description.raw_ids"),
    "a learning id beyond": (["learning_map", 3, 1], 20, "description.learning_map"),
    "a path": (["split", "train", 0], "../00", "description.split.train"),
    "another split": (["split", "more"], ["00"], "description.split"),
    "not ascending": (["statistics", "height", 4], 0.5, "statistics.height"),
    "infinite": (["statistics", "intensity", 8], math.inf, "statistics.intensity"),
    "a negative range": (["statistics", "range", 0], -1.0, "statistics.range"),
    "shares beyond one": (["statistics", "class_shares", 3], 0.5, "statistics.class_shares"),
    "a trait not ascending": (["statistics", "traits", "ground", 4], 0.5, "statistics.traits.ground"),
    "a trait that is no number": (["statistics", "traits", "rotation", 0], math.nan, "statistics.traits.rotation"),
    "traits of another kind": (["statistics", "traits"], [1.0], "statistics.traits"),
    "the ignored class moves": (["moving"], [0], "description.moving"),
    "a class beyond moves": (["moving"], [19, 20], "description.moving"),
    "a class moves twice": (["moving"], [3, 3], "description.moving"),
    "a class that is none moves": (["moving"], [True], "description.moving"),
    "what moves is no list": (["moving"], {"3": True}, "description.moving"),
    "no scans": (["statistics", "scans"], 0, "statistics.scans"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_is_named(content, name) -> None:
    place, value, expected = WRONG[name]
    assert expected in refusal(read_description, changed(content, [*HERE, *place], value), PATH)


def test_what_moves_comes_back_and_earlier_checkpoints_do_not_say_it(content) -> None:
    root = CONFIG.parent
    label_map = LabelMap.load(root / "label_mapping" / "semantic-kitti-multiscan.yaml")
    added = label_map.adding({300: "snow"})
    ours = {"geometry": {}, "description": describe(load_config(root / "2DPASS-multiscan-demo.yaml"), added, None)}
    found = read_description({"2dpass": ours}, PATH)
    assert found is not None and found.label_map.moving == (20, 21, 22, 23, 24, 25) and found.format == 1
    assert all(np.array_equal(getattr(found.label_map, name), value) for name, value in vars(label_map).items())
    earlier = read_description(without(content, [*HERE, "moving"]), PATH)
    assert earlier is not None and earlier.label_map.moving == ()


def test_traits_are_optional_and_unknown_ones_are_left_out(content) -> None:
    """Checkpoints of earlier versions have none, those of later ones perhaps more."""
    earlier = read_description(without(content, [*HERE, "statistics", "traits"]), PATH)
    assert earlier is not None and earlier.statistics == replace(STATISTICS, traits={})
    later = read_description(changed(content, [*HERE, "statistics", "traits", "colour"], "blue"), PATH)
    assert later is not None and later.statistics == STATISTICS


def test_it_comes_back_for_nuscenes_too() -> None:
    """Its classes are not called as its raw ids are, and it has its own splits."""
    root = CONFIG.parent
    config, label_map = load_config(root / "2DPASS-nuscenes.yaml"), LabelMap.load(root / "label_mapping/nuscenes.yaml")
    ours = {"geometry": {}, "description": describe(config, label_map, None)}
    found = read_description({"2dpass": ours}, PATH)
    assert found is not None and found.config == config and found.statistics is None
    assert all(np.array_equal(getattr(found.label_map, name), value) for name, value in vars(label_map).items())


def test_a_label_mapping_of_thousands_of_ids_is_read_back(label_map) -> None:
    names = {**label_map.raw_names, **{raw: f"name {raw}" for raw in range(1000, 9000)}}
    to_learning = label_map.to_learning.copy()
    to_learning[1000:9000] = 0
    large = replace(label_map, raw_names=names, to_learning=to_learning)
    ours = {"geometry": {}, "description": describe(load_config(CONFIG), large, None)}
    found = read_description({"2dpass": ours}, PATH)
    assert found is not None and found.label_map.raw_names == names
