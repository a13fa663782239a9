"""The vocabulary: every key is described, and a value it must refuse is refused in one line that names the key."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pydantic
import pytest

from tests.support.configs import RAW, RAW_NUSCENES, RAW_VOXEL, REMOVED, refusal
from utils.config.data import NuScenesImages, SemanticKITTIImages, VoxelDataset
from utils.config.fields import Section
from utils.config.loading import load_config
from utils.config.model import ModelParams, VoxelModelParams
from utils.config.optimizers import AdamParams, SGDParams
from utils.config.schedules import PlateauParams, StepLRParams


def _sections(kind: type[pydantic.BaseModel]) -> Iterator[type[pydantic.BaseModel]]:
    yield kind
    for below in kind.__subclasses__():
        yield from _sections(below)


def test_every_key_is_described() -> None:
    sections = list(_sections(Section))
    assert {ModelParams, VoxelModelParams, SemanticKITTIImages, NuScenesImages, VoxelDataset} <= set(sections)
    fields = {f"{section.__name__}.{name}": f for section in sections for name, f in section.model_fields.items()}
    assert len(fields) > 50
    assert [name for name, field in fields.items() if not field.description] == []


@pytest.mark.parametrize("base", [RAW, RAW_NUSCENES, RAW_VOXEL], ids=["semantickitti", "nuscenes", "voxel"])
def test_a_configuration_is_frozen(base: dict[str, Any], write) -> None:
    config = load_config(write({}, base))
    with pytest.raises(pydantic.ValidationError, match="frozen"):
        config.train_params.learning_rate = 1.0
    hash(config)  # no list or mapping is left inside


# Each key with a value it must refuse, and what the line must then say.
WRONG_VALUES = [
    ("train_params.max_num_epochs", 10**400, "must be 1000000 or less, found 1000"),
    ("model_params.num_classes", 256, "must be 255 or less, found 256"),
    ("train_params.learning_rate", 10**400, "must be a number, found 1000"),
    ("train_params.weight_decay", 1e308, "must be 1000000 or less, found 1e+308"),
    ("format_version", -(10**400), "must be -1000000000 or more, found -1000"),
    ("dataset_params.ignore_label", 10**400, "must be 1000000000 or less, found 1000"),
    ("dataset_params.train_data_loader.num_workers", 10**6, "must be 1024 or less, found 1000000"),
    ("dataset_params.train_data_loader.data_path", "x" * 5000, "must be a string of at most 4096 characters"),
    ("train_params.max_num_epochs", "abc", "must be an integer, found 'abc'"),
    ("train_params.max_num_epochs", "8", "must be an integer, found '8'"),
    ("train_params.max_num_epochs", 1.0, "must be an integer, found 1.0"),
    ("train_params.max_num_epochs", True, "must be an integer, found true"),
    ("train_params.max_num_epochs", None, "must be an integer, found nothing"),
    ("train_params.max_num_epochs", 0, "must be greater than 0, found 0"),
    ("train_params.learning_rate", True, "must be a number, found true"),
    ("train_params.learning_rate", "fast", "must be a number, found 'fast'"),
    ("train_params.learning_rate", float("inf"), "must be a finite number, found inf"),
    ("train_params.nesterov", 1, "must be true or false, found 1"),
    ("train_params.nesterov", "yes please", "must be true or false, found 'yes please'"),
    ("train_params.momentum", 1, "must be less than 1, found 1"),
    ("train_params.weight_decay", -1, "must be 0 or more, found -1"),
    ("train_params.swa_epoch_start", 1.5, "must be 1 or less, found 1.5"),
    ("train_params.optimizer", "Lion", "must be 'SGD', 'Adam' or 'AdamW', found 'Lion'"),
    ("train_params.optimizer", {"name": "SGD"}, "must be 'SGD', 'Adam' or 'AdamW', found {'name': 'SGD'}"),
    ("train_params.optimizer", REMOVED, "is missing, give 'SGD', 'Adam' or 'AdamW'"),
    ("train_params.learning_rate", REMOVED, "is missing"),
    ("train_params.lr_scheduler", "Linear", "must be 'StepLR', 'ReduceLROnPlateau', 'CosineAnnealingLR',"),
    ("train_params", None, "must be a mapping of keys to values, found nothing"),
    ("train_params", [1], "must be a mapping of keys to values, found [1]"),
    ("train_params.lambda_lovasz", -1, "must be 0 or more, found -1"),
    ("train_params.lambda_lovasz", "auto", "must be a number, found 'auto'"),
    ("model_params", None, "must be a mapping of keys to values, found nothing"),
    ("dataset_params", [1], "must be a mapping of keys to values, found [1]"),
    ("dataset_params.version", "v1.0-test", "must be 'v1.0-trainval' or 'v1.0-mini', found 'v1.0-test'"),
    ("format_version", 2, "must be 1, found 2"),
    ("format_version", True, "must be an integer, found true"),
    ("model_params.input_dims", 6, "must be 4 or 5, found 6"),
    (
        "model_params.sparse_backend",
        "cuda",
        "must be 'auto', 'torch', 'native', 'triton', 'spconv' or 'spconv-triton', found 'cuda'",
    ),
    ("model_params.hiden_size", 63, "must be a multiple of 2, found 63"),
    ("model_params.num_classes", 1, "must be greater than 1, found 1"),
    ("model_params.spatial_shape", [1000, 1000], "must have 3 entries, found 2"),
    ("model_params.spatial_shape", 1000, "must be a list, found 1000"),
    ("model_params.scale_list", [], "must be a list that is not empty, found []"),
    ("model_params.scale_list", [2, 8, 4], "must not decrease, found [2, 8, 4]"),
    ("model_params.scale_list", [2, 3], "must hold only 2, 4, 8, 16, found [2, 3]"),
    ("dataset_params.ignore_label", 255, "must be 0, found 255"),
    ("dataset_params.bottom_crop", [480, 320, 3], "must have 2 entries, found 3"),
    ("dataset_params.flip2d", -0.1, "must be 0 or more, found -0.1"),
    ("dataset_params.color_jitter", [0.4, 0.4], "must have 3 entries, found 2"),
    ("dataset_params.image_normalizer", [[0, 0, 0]], "must have 2 entries, found 1"),
    ("dataset_params.image_normalizer", [[0, 0, 0], [1, 1, 0]], "must hold standard deviations above 0"),
    ("dataset_params.min_volume_space", [-50, -50, 2], "must lie below max_volume_space [50.0, 50.0, 2.0]"),
    ("dataset_params.seg_labelweights", [0, 3, 5], "must have 20 entries (model_params.num_classes), found 3"),
    ("dataset_params.seg_labelweights", [0] * 20, "must be above 0 for every class but the ignored class 0"),
    ("dataset_params.train_data_loader.data_path", 3, "must be a string, found 3"),
    ("dataset_params.train_data_loader.data_path", "", "must be a string that is not empty, found ''"),
    ("dataset_params.train_data_loader.num_workers", -1, "must be 0 or more, found -1"),
]


@pytest.mark.parametrize(("key", "value", "words"), WRONG_VALUES)
def test_a_wrong_value_is_refused_with_what_was_expected_and_found(key: str, value: Any, words: str, write) -> None:
    assert refusal(write({key: value})).startswith(f"{key} {words}")


def test_a_grid_fits_into_packed_coordinates(write) -> None:
    line = refusal(write({"model_params.spatial_shape": [32000, 32001, 60]}))
    assert line == "model_params.spatial_shape[1] must be 32000 or less, found 32001"
    shape = (32000, 32000, 32000)
    model = load_config(write({"model_params.spatial_shape": list(shape)})).model_params
    assert isinstance(model, ModelParams) and model.spatial_shape == shape


def test_a_wrong_entry_of_a_list_is_named_by_its_place(write) -> None:
    line = refusal(write({"dataset_params.bottom_crop": [480, 321], "model_params.scale_list": [2, True]}))
    assert "dataset_params.bottom_crop[1] must be a multiple of 16, found 321" in line
    assert "model_params.scale_list[1] must be an integer, found true" in line


@pytest.mark.parametrize("scheduler", ["StepLR", "ReduceLROnPlateau"])
def test_a_decaying_schedule_needs_its_decay(scheduler: str, write) -> None:
    line = refusal(write({"train_params.lr_scheduler": scheduler}))
    assert f"train_params.decay_step must be set for lr_scheduler {scheduler}" in line
    assert f"train_params.decay_rate must be set for lr_scheduler {scheduler}" in line
    decay = {"train_params.decay_step": 5, "train_params.decay_rate": 0.1, "train_params.lr_scheduler": scheduler}
    schedule = load_config(write(decay)).train_params.lr_scheduler
    assert isinstance(schedule, StepLRParams | PlateauParams) and schedule.name == scheduler
    assert (schedule.decay_step, schedule.decay_rate) == (5, 0.1)


def test_nesterov_needs_momentum(write) -> None:
    line = refusal(write({"train_params.momentum": 0}))
    assert line == "train_params.nesterov must be false where momentum is 0"
    optimizer = load_config(write({"train_params.momentum": 0, "train_params.nesterov": False})).train_params.optimizer
    assert isinstance(optimizer, SGDParams) and optimizer.momentum == 0
    adam = load_config(write({"train_params.momentum": 0, "train_params.optimizer": "Adam"})).train_params.optimizer
    assert isinstance(adam, AdamParams)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("dataset_params.resize", [400], "must have 2 entries, found 1"),
        ("dataset_params.resize[0]", [1600, 900][::-1], "must be a multiple of 16, found 900"),
        ("dataset_params.resize", REMOVED, "is missing"),
        ("dataset_params.min_volume_space", [-50, -50, 3], "must lie below max_volume_space [50.0, 50.0, 3.0] on"),
    ],
)
def test_a_wrong_value_for_nuscenes_images_is_refused(key: str, value: Any, words: str, write) -> None:
    assert refusal(write({key.partition("[")[0]: value}, RAW_NUSCENES)).startswith(f"{key} {words}")


def test_the_weight_of_lovasz_is_left_to_the_model_where_it_is_not_said(write) -> None:
    assert load_config(write({})).train_params.lambda_lovasz is None
    assert load_config(write({"train_params.lambda_lovasz": None})).train_params.lambda_lovasz is None
    assert load_config(write({"train_params.lambda_lovasz": 0})).train_params.lambda_lovasz == 0


@pytest.mark.parametrize(
    ("base", "changes", "line"),
    [
        (
            RAW_VOXEL,
            {"dataset_params": RAW_NUSCENES["dataset_params"]},
            "dataset_params.dataset_type must be voxel_dataset for model_params.model_architecture minkowskinet, "
            "found point_image_dataset_nus",
        ),
        (
            RAW_NUSCENES,
            {"dataset_params": RAW_VOXEL["dataset_params"]},
            "dataset_params.dataset_type must be point_image_dataset_nus for model_params.model_architecture "
            "arch_2dpass, found voxel_dataset",
        ),
        (
            RAW,
            {"dataset_params": {**RAW_VOXEL["dataset_params"], "pc_dataset_type": "SemanticKITTI"}},
            "dataset_params.dataset_type must be point_image_dataset_semkitti for model_params.model_architecture "
            "arch_2dpass, found voxel_dataset",
        ),
        (
            RAW,
            {"dataset_params": {**RAW_VOXEL["dataset_params"], "pc_dataset_type": "Other"}},
            "model_params.model_architecture arch_2dpass learns from camera images, and no dataset_type has those of "
            "Other; take a voxel model",
        ),
        (
            RAW,
            {"dataset_params.pc_dataset_type": "nuScenes"},
            "dataset_params.pc_dataset_type must be SemanticKITTI for dataset_type point_image_dataset_semkitti, "
            "found nuScenes",
        ),
        (
            RAW_NUSCENES,
            {"dataset_params.pc_dataset_type": "SemanticKITTI"},
            "dataset_params.pc_dataset_type must be nuScenes for dataset_type point_image_dataset_nus, "
            "found SemanticKITTI",
        ),
        (
            RAW,
            {"dataset_params.collate_type": "collate_fn_voxel"},
            "dataset_params.collate_type must be collate_fn_default for dataset_type point_image_dataset_semkitti, "
            "found collate_fn_voxel",
        ),
        (
            RAW_VOXEL,
            {"dataset_params.collate_type": "collate_fn_default"},
            "dataset_params.collate_type must be collate_fn_voxel for dataset_type voxel_dataset, "
            "found collate_fn_default",
        ),
        (
            RAW,
            {"dataset_params.version": "v1.0-mini"},
            "dataset_params.version is for pc_dataset_type nuScenes, remove it from SemanticKITTI, found v1.0-mini",
        ),
        (
            RAW_VOXEL,
            {"dataset_params.pc_dataset_type": "SemanticKITTI", "dataset_params.version": "v1.0-trainval"},
            "dataset_params.version is for pc_dataset_type nuScenes, remove it from SemanticKITTI, found v1.0-trainval",
        ),
    ],
)
def test_keys_that_do_not_fit_together_are_refused(base: Any, changes: dict[str, Any], line: str, write) -> None:
    # The label mapping is not looked for where the sections are wrong.
    assert refusal(write(changes, base)) == line


def test_all_that_does_not_fit_is_in_the_one_line(write) -> None:
    data = {**RAW_VOXEL["dataset_params"], "seg_labelweights": [0, 1]}
    line = refusal(write({"dataset_params": data}, RAW_NUSCENES))
    assert "dataset_params.dataset_type must be point_image_dataset_nus" in line
    assert "; dataset_params.seg_labelweights must have 17 entries" in line


@pytest.mark.parametrize("base", [RAW_NUSCENES, RAW_VOXEL], ids=["images", "voxels"])
def test_nuscenes_tables_can_be_chosen(base: dict[str, Any], write) -> None:
    assert load_config(write({}, base)).dataset_params.version is None
    assert load_config(write({"dataset_params.version": "v1.0-mini"}, base)).dataset_params.version == "v1.0-mini"


@pytest.mark.parametrize(
    ("base", "kind", "collate"),
    [(RAW_NUSCENES, NuScenesImages, "collate_fn_default"), (RAW_VOXEL, VoxelDataset, "collate_fn_voxel")],
)
def test_the_way_scans_batch_follows_from_the_data_set(base: Any, kind: type, collate: str, write) -> None:
    data = load_config(write({"dataset_params.collate_type": REMOVED}, base)).dataset_params
    assert isinstance(data, kind) and data.collate_type == collate


def test_a_voxel_data_set_is_read_from_semantickitti_too(write) -> None:
    data = load_config(write({"dataset_params.pc_dataset_type": "SemanticKITTI"}, RAW_VOXEL)).dataset_params
    assert isinstance(data, VoxelDataset) and data.pc_dataset_type == "SemanticKITTI"
