"""The section of the voxel models: the values it refuses, and its two names for the number of classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.configs import RAW_VOXEL, REMOVED, refusal
from utils.config.loading import load_config, save_config
from utils.config.model import VoxelModelParams


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("model_params.voxel_size", 0, "must be 0.01 or more, found 0"),
        ("model_params.voxel_size", "5cm", "must be a number, found '5cm'"),
        ("model_params.cr", -0.5, "must be greater than 0, found -0.5"),
        ("model_params.cr", REMOVED, "is missing"),
        ("model_params.cr", 1e308, "must be 64 or less, found 1e+308"),
        ("model_params.layer_num", [32] * 8, "must have 9 entries, found 8"),
        ("model_params.layer_blocks", [2] * 9, "must have 8 entries, found 9"),
        ("model_params.layer_blocks", 2, "must be a list, found 2"),
        ("model_params.layer_blocks[0]", [0, *[2] * 7], "must be greater than 0, found 0"),
        ("model_params.layer_blocks[7]", [*[2] * 7, 65], "must be 64 or less, found 65"),
        ("model_params.layer_num[3]", [32, 32, 64, 0, 256, 256, 128, 96, 96], "must be greater than 0, found 0"),
        ("model_params.input_dims", 6, "must be 4 or 5, found 6"),
        ("dataset_params.val_data_loader.batch_size", 0, "must be greater than 0, found 0"),
        (
            "dataset_params.seg_labelweights",
            [0, 3, 5],
            "must have 17 entries (model_params.num_classes), found 3: one for each learning id, the ignored 0 first",
        ),
    ],
)
def test_a_wrong_value_for_a_voxel_model_is_refused(key: str, value: Any, words: str, write) -> None:
    assert refusal(write({key.partition("[")[0]: value}, RAW_VOXEL)) == f"{key} {words}"


def test_every_layer_of_a_voxel_model_keeps_a_channel(write) -> None:
    widths = [32, 32, 64, 128, 256, 256, 128, 96, 96]
    line = refusal(write({"model_params.cr": 0.03}, RAW_VOXEL))
    assert line == f"model_params.layer_num must leave at least one channel per layer at cr 0.03, found {widths}"
    model = load_config(write({"model_params.cr": 1 / 32}, RAW_VOXEL)).model_params
    assert isinstance(model, VoxelModelParams) and int(model.cr * min(model.layer_num)) == 1


def test_the_classes_of_a_voxel_model_go_by_either_name(write, tmp_path: Path) -> None:
    names = {"num_class": 17, "num_classes": 17}
    for given in ([], ["num_class"], ["num_classes"], ["num_class", "num_classes"]):
        changes: dict[str, Any] = {"model_params.num_class": REMOVED}
        changes |= {f"model_params.{name}": names[name] for name in given}
        path = write(changes, RAW_VOXEL)
        if given:
            assert load_config(path).model_params.num_classes == 17
        else:
            assert refusal(path) == "model_params.num_classes is missing"
    save_config(load_config(write({}, RAW_VOXEL)), tmp_path / "saved.yaml")
    saved = yaml.safe_load((tmp_path / "saved.yaml").read_text())["model_params"]
    assert saved["num_classes"] == 17 and "num_class" not in saved


def test_two_numbers_of_classes_are_refused(write) -> None:
    line = refusal(write({"model_params.num_classes": 20}, RAW_VOXEL))
    assert line == "model_params has num_classes 20 and num_class 17 for one thing, remove one of them"


def test_a_wrong_number_of_classes_goes_by_the_name_it_has_in_the_file(write) -> None:
    path = write({"model_params.num_class": "many"}, RAW_VOXEL)
    assert refusal(path) == "model_params.num_class must be an integer, found 'many'"


@pytest.mark.parametrize("file_has", ["num_class", "num_classes"])
@pytest.mark.parametrize("override", ["num_class", "num_classes"])
def test_an_override_of_the_classes_counts_whatever_the_file_calls_them(file_has: str, override: str, write) -> None:
    path = write({"model_params.num_class": REMOVED} | {f"model_params.{file_has}": 17}, RAW_VOXEL)
    assert load_config(path, [f"model_params.{override}=20"]).model_params.num_classes == 20


def test_2dpass_has_one_name_for_its_classes(write) -> None:
    words = "unknown key model_params.num_class, did you mean model_params.num_classes?"
    assert refusal(write({"model_params.num_class": 20})) == words
    assert refusal(write({}), ("model_params.num_class=20",)) == words + " (from an override)"
