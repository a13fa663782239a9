"""Shipped and published configurations load, and are what they should be."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from tests.support.configs import (
    CONFIG_FOLDER,
    PUBLISHED,
    PUBLISHED_NUSCENES,
    PUBLISHED_VOXEL,
    RAW,
    RAW_NUSCENES,
    RAW_VOXEL,
    SHIPPED,
    contained,
    plain,
    set_key,
)
from utils.config.data import DatasetParams
from utils.config.loading import load_config
from utils.config.model import VoxelModelParams
from utils.labels import LabelMap
from utils.paths import resolve_path


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_shipped_configuration_loads_from_any_folder(path: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = load_config(path)
    assert contained(yaml.safe_load(path.read_text()), plain(config))
    assert resolve_path(config.dataset_params.label_mapping).is_file()


def test_every_model_is_shipped_for_every_data_set() -> None:
    models = ("2DPASS", "MinkowskiNet", "SPVCNN")
    wanted = {f"{model}-{data}" for model in models for data in ("semantickitti", "nuscenes", "demo")}
    wanted |= {f"{model}-multiscan-{data}" for model in models for data in ("semantickitti", "demo")}
    mixed = ("2DPASS", "MinkUNet34", "SPVCNN")
    wanted |= {f"{model}-mix-{data}" for model in mixed for data in ("semantickitti", "nuscenes")}
    wanted |= {f"{model}-mix-demo" for model in ("2DPASS", "MinkowskiNet")}
    others = {
        "2DPASS-large-semantickitti",
        "2DPASS-base-nuscenes",
        "2DPASS-nuscenes-demo",
        "2DPASS-dinov2-semantickitti",
    }
    assert {path.stem for path in SHIPPED} == wanted | others


HALF_AND_HALF = {
    "choose": "one_of",
    "laser_mix": {"chance": 0.5, "bands": [3, 4, 5, 6], "pitch": [-25, 3]},
    "polar_mix": {"chance": 0.5, "swap_chance": 0.5, "paste_chance": 1.0},
}


@pytest.mark.parametrize(("model", "blocks"), [("MinkUNet34", (2, 3, 4, 6, 2, 2, 2, 2)), ("SPVCNN", (2,) * 8)])
def test_the_mix_recipe_is_that_of_mmdetection3d(model: str, blocks: tuple[int, ...]) -> None:
    config = load_config(CONFIG_FOLDER / f"{model}-mix-semantickitti.yaml")
    raw = plain(config)
    assert (
        contained(HALF_AND_HALF, raw["dataset_params"]["mixing"]) and raw["dataset_params"]["seg_labelweights"] is None
    )
    loader = raw["dataset_params"]["train_data_loader"]
    assert {key for key, value in loader.items() if key.endswith("_aug") and value} == {
        "rotate_aug", "scale_aug", "scale_z_aug"
    }  # fmt: skip
    training = {
        "optimizer": "AdamW", "learning_rate": 0.008, "weight_decay": 0.01, "gradient_clip_norm": 10.0,
        "lr_scheduler": "MultiStepLR", "milestones": [24, 32], "decay_rate": 0.1, "max_num_epochs": 36,
        "lambda_lovasz": 0.0,
    }  # fmt: skip
    assert contained(training, raw["train_params"]) and loader["batch_size"] == 16
    assert isinstance(config.model_params, VoxelModelParams) and config.model_params.layer_blocks == blocks


@pytest.mark.parametrize(("data", "pitch"), [("semantickitti", [-25, 3]), ("nuscenes", [-30, 10])])
def test_2dpass_with_mixing_is_the_published_run_otherwise(data: str, pitch: list[int]) -> None:
    single, mixed = (plain(load_config(CONFIG_FOLDER / f"2DPASS-{kind}{data}.yaml")) for kind in ("", "mix-"))
    mixing = mixed["dataset_params"].pop("mixing")
    assert single["dataset_params"].pop("mixing") is None and single == mixed
    assert contained(HALF_AND_HALF | {"laser_mix": {"chance": 0.5, "bands": [3, 4, 5, 6], "pitch": pitch}}, mixing)


MULTISCAN = {
    "model_params.input_dims": 5,
    "model_params.num_classes": 26,
    "dataset_params.label_mapping": "./config/label_mapping/semantic-kitti-multiscan.yaml",
    "dataset_params.past_scans": 2,
}
HALF_THE_BATCH = {"dataset_params.train_data_loader.batch_size": 4, "train_params.learning_rate": 0.12}


@pytest.mark.parametrize("model", ["2DPASS", "MinkowskiNet", "SPVCNN"])
@pytest.mark.parametrize("data", ["semantickitti", "demo"])
def test_multiscan_differs_from_the_single_scan_run_in_classes_and_past_scans_alone(model: str, data: str) -> None:
    single, multi = (plain(load_config(CONFIG_FOLDER / f"{model}-{kind}{data}.yaml")) for kind in ("", "multiscan-"))
    for key, value in (MULTISCAN | (HALF_THE_BATCH if data == "semantickitti" else {})).items():
        set_key(single, key, value)
    weights = [raw["dataset_params"].pop("seg_labelweights") for raw in (single, multi)]
    assert multi == single
    if data == "demo":
        assert weights == [None, None]
        return
    label_map = LabelMap.load(resolve_path(MULTISCAN["dataset_params.label_mapping"]))
    content = yaml.safe_load(resolve_path(MULTISCAN["dataset_params.label_mapping"]).read_text())["content"]
    shares = [sum(share for raw, share in content.items() if label_map.to_learning[raw] == k) for k in range(26)]
    lifted = {7, 8}  # bicyclists and motorcyclists that stand: some twenty points
    expected = [0.0] + [min(shares[k] for k in range(1, 26) if k not in lifted) if k in lifted else shares[k]
                        for k in range(1, 26)]  # fmt: skip
    np.testing.assert_allclose(np.array(weights[1]) / 1e9, expected, rtol=1e-4)


@pytest.mark.parametrize(
    ("text", "raw", "shipped", "unsaid"),
    [
        (PUBLISHED, RAW, "2DPASS-semantickitti", 0.1),
        (PUBLISHED_NUSCENES, RAW_NUSCENES, "2DPASS-nuscenes", None),
        (PUBLISHED_VOXEL, RAW_VOXEL, "MinkowskiNet-nuscenes", 1),
    ],
    ids=["semantickitti", "nuscenes", "voxel"],
)
def test_a_published_run_loads_as_it_is_and_is_what_we_ship(
    text: str, raw: dict[str, Any], shipped: str, unsaid: float | None, tmp_path: Path
) -> None:
    path = tmp_path / "published.yaml"
    path.write_text(text)
    expected = copy.deepcopy(raw)
    if "num_class" in expected["model_params"]:
        expected["model_params"]["num_classes"] = expected["model_params"].pop("num_class")
    assert contained(expected, plain(load_config(path)))
    # What we ship says the weight of Lovasz-Softmax, where the published run leaves it to the model.
    said = [] if unsaid is None else [f"train_params.lambda_lovasz={unsaid}"]
    assert (load_config(path).train_params.lambda_lovasz is None) == bool(said)
    assert load_config(path, said) == load_config(CONFIG_FOLDER / f"{shipped}.yaml")


def test_the_large_run_differs_from_the_small_one_only_where_published() -> None:
    small, large = (load_config(CONFIG_FOLDER / f"2DPASS-{name}semantickitti.yaml") for name in ("", "large-"))
    raw = plain(small)
    for key, value in {
        "model_params.hiden_size": 256,
        "model_params.scale_list": [2, 4, 8, 16, 16, 16],
        "dataset_params.dataset_type": "point_image_dataset_mix_semkitti",
        "dataset_params.train_data_loader.batch_size": 4,
        "train_params.lr_scheduler": "CosineAnnealingLR",
        "train_params.lambda_lovasz": 1,
    }.items():
        set_key(raw, key, value)
    assert plain(large) == raw


@pytest.mark.parametrize(
    ("one", "other", "changes"),
    [
        (
            "2DPASS-nuscenes",
            "2DPASS-base-nuscenes",
            {"model_params.hiden_size": 128, "dataset_params.train_data_loader.batch_size": 8},
        ),
        *(
            (f"MinkowskiNet-{data}", f"SPVCNN-{data}", {"model_params.model_architecture": "spvcnn"})
            for data in ("semantickitti", "nuscenes")
        ),
        (
            "MinkowskiNet-demo",
            "SPVCNN-demo",
            {"model_params.model_architecture": "spvcnn", "train_params.max_num_epochs": 6},
        ),
    ],
)
def test_shipped_configurations_differ_only_where_they_should(one: str, other: str, changes: dict[str, Any]) -> None:
    raw = plain(load_config(CONFIG_FOLDER / f"{one}.yaml"))
    for key, value in changes.items():
        set_key(raw, key, value)
    assert plain(load_config(CONFIG_FOLDER / f"{other}.yaml")) == raw


@pytest.mark.parametrize("model", ["MinkowskiNet", "SPVCNN"])
def test_the_voxel_models_train_on_semantickitti_as_2dpass_does(model: str) -> None:
    images, voxels = (load_config(CONFIG_FOLDER / f"{name}-semantickitti.yaml") for name in ("2DPASS", model))
    training = voxels.train_params.model_copy(update={"lambda_lovasz": images.train_params.lambda_lovasz})
    assert training == images.train_params
    for name in DatasetParams.model_fields.keys() - {"dataset_type", "collate_type"}:
        assert getattr(voxels.dataset_params, name) == getattr(images.dataset_params, name), name
