"""Sections of several kinds: which one it is, which keys it has, and the one line where either is wrong."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.configs import RAW, RAW_NUSCENES, RAW_VOXEL, REMOVED, refusal
from utils.config.kinds import CHOOSER, flat_kinds
from utils.config.loaders import TrainingLoader
from utils.config.loading import load_config
from utils.config.messages import nearest_key
from utils.config.schema import known_keys, spellings
from utils.config.train import TrainParams

ARCHITECTURES = "'arch_2dpass', 'minkowskinet' or 'spvcnn'"
DATA_SETS = (
    "'point_image_dataset_semkitti', 'point_image_dataset_mix_semkitti', 'point_image_dataset_nus' or 'voxel_dataset'"
)
IMAGE_KEYS = ("color_jitter", "flip2d", "image_normalizer", "max_volume_space", "min_volume_space")


@pytest.mark.parametrize("base", [RAW, RAW_NUSCENES, RAW_VOXEL], ids=["semantickitti", "nuscenes", "voxel"])
@pytest.mark.parametrize(
    ("key", "choices"),
    [("model_params.model_architecture", ARCHITECTURES), ("dataset_params.dataset_type", DATA_SETS)],
)
def test_a_missing_or_unknown_kind_lists_the_choices(key: str, choices: str, base: dict[str, Any], write) -> None:
    assert refusal(write({key: REMOVED}, base)) == f"{key} is missing, give {choices}"
    assert refusal(write({key: None}, base)) == f"{key} must be {choices}, found nothing"
    assert refusal(write({key: "arch"}, base)) == f"{key} must be {choices}, found 'arch'"
    assert refusal(write({key: [1]}, base)) == f"{key} must be {choices}, found [1]"
    assert refusal(write({}, base), (f"{key}=7",)) == f"{key} must be {choices}, found 7 (from an override)"


def test_a_misspelt_kind_is_named_beside_the_missing_one(write) -> None:
    changes = {"model_params.model_architecture": REMOVED, "model_params.model_architectur": "arch_2dpass"}
    assert refusal(write(changes)).split("; ") == [
        f"model_params.model_architecture is missing, give {ARCHITECTURES}",
        "unknown key model_params.model_architectur, did you mean model_params.model_architecture?",
    ]


def test_an_override_can_supply_the_kind(write) -> None:
    path = write({"model_params.model_architecture": REMOVED}, RAW_VOXEL)
    for overrides in (["architecture", "classes"], ["classes", "architecture"]):
        texts = {"architecture": "model_params.model_architecture=spvcnn", "classes": "model_params.num_class=20"}
        model = load_config(path, [texts[name] for name in overrides]).model_params
        assert (model.model_architecture, model.num_classes) == ("spvcnn", 20)


@pytest.mark.parametrize(
    ("base", "key", "value", "kind"),
    [
        (RAW_NUSCENES, "dataset_params.bottom_crop", [480, 320], "dataset_type point_image_dataset_nus"),
        (RAW, "dataset_params.resize", [400, 240], "dataset_type point_image_dataset_semkitti"),
        (RAW_VOXEL, "dataset_params.max_volume_space", [50, 50, 3], "dataset_type voxel_dataset"),
        (RAW_VOXEL, "model_params.hiden_size", 64, "model_architecture minkowskinet"),
        (RAW, "model_params.voxel_size", 0.05, "model_architecture arch_2dpass"),
    ],
)
def test_a_key_of_another_kind_is_refused_by_the_kind_at_hand(
    base: Any, key: str, value: Any, kind: str, write
) -> None:
    assert refusal(write({key: value}, base)) == f"{key} is no key of {kind}, remove it"
    line = refusal(write({}, base), (f"{key}={value}",))
    assert line == f"{key} (from an override) is no key of {kind}, remove it"


def test_several_keys_of_another_kind_share_a_phrase(write) -> None:
    stale = {f"dataset_params.{name}": RAW["dataset_params"][name] for name in IMAGE_KEYS}
    path = write(stale, RAW_VOXEL)
    assert refusal(path) == f"{', '.join(stale)} are no keys of dataset_type voxel_dataset, remove them"
    line = refusal(path, ("dataset_params.resize=[400,240]", "model_params.pretrained2d=true"))
    assert set(line.split("; ")) == {
        f"{', '.join(stale)}, dataset_params.resize (from an override) are no keys of dataset_type voxel_dataset, "
        "remove them",
        "model_params.pretrained2d (from an override) is no key of model_architecture minkowskinet, remove it",
    }


def test_keys_of_another_kind_hide_no_other_mistake(write) -> None:
    line = refusal(write({"model_params.hiden_size": 64, "model_params.cr": 0, "model_params.crr": 1}, RAW_VOXEL))
    assert set(line.split("; ")) == {
        "model_params.hiden_size is no key of model_architecture minkowskinet, remove it",
        "model_params.cr must be greater than 0, found 0",
        "unknown key model_params.crr, did you mean model_params.cr?",
    }


@pytest.mark.parametrize(
    ("base", "key", "nearest"),
    [
        (RAW_VOXEL, "model_params.voxel_sise", "model_params.voxel_size"),
        (RAW, "model_params.voxel_sise", None),
        (RAW, "model_params.hidden_size", "model_params.hiden_size"),
        (RAW_VOXEL, "model_params.hidden_size", None),
        (RAW_NUSCENES, "dataset_params.re_size", "dataset_params.resize"),
        (RAW_NUSCENES, "dataset_params.botom_crop", None),
        (RAW, "dataset_params.botom_crop", "dataset_params.bottom_crop"),
        (RAW_VOXEL, "dataset_params.train_data_loader.batchsize", "dataset_params.train_data_loader.batch_size"),
    ],
)
def test_only_a_key_of_the_kind_at_hand_is_suggested(base: Any, key: str, nearest: str | None, write) -> None:
    words = f"unknown key {key}" + (f", did you mean {nearest}?" if nearest else "")
    assert refusal(write({key: 1}, base)) == words
    assert refusal(write({}, base), (f"{key}=1",)) == f"{words} (from an override)"


@pytest.mark.parametrize("name", ["arch_2dpass", "minkowskinet"])
def test_a_key_called_like_a_kind_keeps_its_name(name: str, write) -> None:
    assert refusal(write({f"model_params.{name}": 1})).startswith(f"unknown key model_params.{name}")


def test_a_key_that_is_no_text_is_unknown_in_every_section(write) -> None:
    for section in ("model_params", "dataset_params"):
        changed = {section: {**RAW_VOXEL[section], 7: 1, True: 2}}
        assert "unknown key " + section + ".7" in refusal(write(changed, RAW_VOXEL))


def test_known_keys_are_those_of_the_kinds_a_file_chooses() -> None:
    every, images, voxels = known_keys(), known_keys(RAW), known_keys(RAW_VOXEL)
    assert len(every) == len(set(every))
    assert set(images) < set(every) and set(voxels) < set(every)
    assert "model_params.hiden_size" in set(images) - set(voxels)
    assert "model_params.voxel_size" in set(voxels) - set(images)
    of_others = {"dataset_params.resize", "train_params.betas"}
    schedules = flat_kinds(TrainParams)["lr_scheduler"].values()
    of_others |= {f"train_params.{key}" for kind in schedules for key in kind.model_fields if key != CHOOSER}
    of_training = {f"dataset_params.val_data_loader.{key}" for key in TrainingLoader.model_fields}
    assert set(every) == {*images, *voxels, *of_others, *of_training}
    assert of_training - set(images) == of_training - set(voxels) != set()
    assert known_keys({"model_params": {"model_architecture": ["spvcnn"]}, "dataset_params": 3}) == every
    for keys in (images, voxels):
        assert [nearest_key(key, keys) for key in keys] == keys


def test_every_known_key_spells_itself() -> None:
    assert all(key.rpartition(".")[2] in spellings(key) for key in known_keys())
    assert set(spellings("model_params.num_class", RAW_VOXEL)) == {"num_class", "num_classes"}
    assert spellings("model_params.num_class", RAW) == ()
    assert spellings("train_params.num_class", RAW_VOXEL) == ()
