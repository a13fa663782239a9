"""With which config a checkpoint is tested: its own, or one that does not contradict it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from network.weights.configuration import beginning, configuration
from network.weights.description import describe, read_description
from tests.conftest import ROOT
from tests.support.networks import refusal
from utils.config.loading import load_config
from utils.config.model import VoxelModelParams
from utils.config.schema import Config
from utils.labels import LabelMap

CONFIGS = {name: str(ROOT / "config" / f"{name}-semantickitti.yaml") for name in ("2DPASS", "SPVCNN")}
NUSCENES = str(ROOT / "config" / "2DPASS-nuscenes.yaml")
LABELS = ROOT / "config" / "label_mapping" / "semantic-kitti.yaml"
PATH = Path("x.ckpt")


def checkpoint(config: Config, label_map: LabelMap) -> dict[str, Any]:
    return {"2dpass": {"geometry": {}, "description": describe(config, label_map, None)}}


@pytest.fixture
def described(label_map) -> dict[str, dict[str, Any]]:
    """What checkpoints hold, by model."""
    return {name: checkpoint(load_config(path), label_map) for name, path in CONFIGS.items()}


def test_what_a_fine_tuning_began_with(described, label_map) -> None:
    """Trained on the training split, then on all; a continued training keeps its own beginning."""
    first, second = described["2DPASS"], load_config(CONFIGS["2DPASS"], ["train_params.trainval=true"])
    began = beginning(first, Path("runs/first.ckpt"), label_map, goes_on=False)
    assert began == "first.ckpt (not trained on this split)"
    tuned = {"2dpass": {"geometry": {}, "description": describe(second, label_map, None, began)}}
    assert beginning(tuned, PATH, label_map, goes_on=True) == began
    again = beginning(tuned, PATH, label_map, goes_on=False)
    assert again == f"x.ckpt (also trained on scans of this split, fine-tuned from {began})"
    assert beginning({}, PATH, label_map, goes_on=False) == "x.ckpt (what it was trained on is not known)"
    assert beginning(None, None, label_map, goes_on=False) == beginning(first, PATH, label_map, goes_on=True) == ""
    for wrong in (3, "", "a\nb", "a" * 301):
        tuned["2dpass"]["description"]["began_with"] = wrong
        assert "2dpass.description.began_with is missing or damaged" in refusal(read_description, tuned, PATH)


@pytest.mark.parametrize("name", CONFIGS)
def test_its_own_config_is_taken_and_overrides_on_top(described, name) -> None:
    chosen = configuration(None, ["dataset_params.val_data_loader.num_workers=1"], described[name], PATH)
    assert chosen.config == load_config(CONFIGS[name], ["dataset_params.val_data_loader.num_workers=1"])
    assert chosen.notes == ()


def test_the_file_of_its_label_mapping_need_not_be_here(described, label_map) -> None:
    data = described["SPVCNN"]["2dpass"]["description"]["config"]["dataset_params"]
    data["label_mapping"] = "/elsewhere/labels.yaml"
    chosen = configuration(None, [], described["SPVCNN"], PATH)
    assert chosen.label_map is not None and chosen.label_map.names == label_map.names
    # Another file counts, if it is asked for.
    key = "dataset_params.label_mapping"
    assert configuration(None, [f"{key}={LABELS}"], described["SPVCNN"], PATH).label_map is None
    assert key in refusal(configuration, None, [f"{key}=/nowhere.yaml"], described["SPVCNN"], PATH)


SAME = {
    "the same": ("2DPASS", ()),
    "how it is computed, trained and read": (
        "2DPASS",
        ("model_params.sparse_backend=torch", "model_params.pretrained2d=true", "train_params.max_num_epochs=3",
         "dataset_params.val_data_loader.data_path=/elsewhere", "dataset_params.flip2d=0.25"),
    ),
    "the same widths": (
        "SPVCNN",
        ("model_params.cr=0.5", "model_params.layer_num=[64,64,128,256,512,512,256,192,192]"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", SAME)
def test_a_config_that_fits_is_taken_without_a_word(described, label_map, case) -> None:
    name, overrides = SAME[case]
    own = ["model_params.cr=1", "model_params.layer_num=[32,32,64,128,256,256,128,96,96]"] if name == "SPVCNN" else []
    content = checkpoint(load_config(CONFIGS[name], own), label_map)
    chosen = configuration(CONFIGS[name], overrides, content, PATH)
    assert chosen.config == load_config(CONFIGS[name], overrides) and chosen.notes == ()


OTHER: dict[str, tuple[str, str | None, tuple[str, ...], tuple[str, ...]]] = {
    "another model": ("2DPASS", CONFIGS["SPVCNN"], (), ("model_architecture was arch_2dpass, is spvcnn",)),
    "other voxels": (
        "2DPASS",
        CONFIGS["2DPASS"],
        ("model_params.spatial_shape=[500,500,30]", "dataset_params.max_volume_space=[50,50,3]"),
        ("spatial_shape was 1000, 1000, 60, is 500, 500, 30", "max_volume_space was 50, 50, 2, is 50, 50, 3"),
    ),
    "other widths": ("SPVCNN", CONFIGS["SPVCNN"], ("model_params.cr=0.25",), ("model_params.cr was",)),
    "more blocks": (
        "SPVCNN",
        CONFIGS["SPVCNN"],
        ("model_params.layer_blocks=[2,3,4,6,2,2,2,2]",),
        ("layer_blocks was 2, 2, 2, 2, 2, 2, 2, 2, is 2, 3, 4, 6, 2, 2, 2, 2",),
    ),
    "another size, by --set": ("SPVCNN", None, ("model_params.voxel_size=0.1",), ("voxel_size was 0.05, is 0.1",)),
    "another data set": (
        "2DPASS",
        NUSCENES,
        (),
        ("num_classes was 20, is 17", "scale_list was 2, 4, 8, 16, is 2, 4, 8, 16, 16, 16"),
    ),
}


@pytest.mark.parametrize("case", OTHER)
def test_a_config_that_contradicts_is_refused_with_all_that_differs(described, case) -> None:
    name, path, overrides, expected = OTHER[case]
    message = refusal(configuration, path, overrides, described[name], PATH)
    assert message.startswith("x.ckpt: was trained with another config: ")
    assert all(text in message for text in expected)
    assert ("leave out --config" if path else "--set") in message


def test_a_checkpoint_of_a_version_without_numbers_of_blocks_has_two_everywhere(described) -> None:
    own = described["SPVCNN"]["2dpass"]["description"]["config"]["model_params"]
    assert own.pop("layer_blocks") == [2] * 8
    for path in (None, CONFIGS["SPVCNN"]):
        model = configuration(path, [], described["SPVCNN"], PATH).config.model_params
        assert isinstance(model, VoxelModelParams) and model.layer_blocks == (2,) * 8


@pytest.fixture
def relabelled(tmp_path, described):
    """Makes a config like that of SPVCNN, but with a label mapping in which a text is replaced by another."""

    def make(old: str, new: str, *more: tuple[str, str]) -> str:
        labels, config = tmp_path / "labels.yaml", tmp_path / "config.yaml"
        text = LABELS.read_text()
        assert len(re.findall(old, text)) >= 1
        labels.write_text(re.sub(old, new, text))
        content = Path(CONFIGS["SPVCNN"]).read_text()
        for before, after in (("./config/label_mapping/semantic-kitti.yaml", str(labels)), *more):
            assert before in content
            content = content.replace(before, after)
        config.write_text(content)
        return str(config)

    return make


def test_other_classes_are_refused(described, relabelled) -> None:
    """The weights would fit, but the score of a class would be that of another."""
    path = relabelled('"road"', '"street"')
    assert "class 9 was road, is street in the label mapping" in refusal(
        configuration, path, [], described["SPVCNN"], PATH
    )


def test_another_data_set_with_the_same_classes_is_noted(described, relabelled) -> None:
    path = relabelled("road", "road", ("pc_dataset_type: SemanticKITTI", "pc_dataset_type: nuScenes"))
    (note,) = configuration(path, [], described["SPVCNN"], PATH).notes
    assert note.startswith("note: x.ckpt was trained on SemanticKITTI and is tested on nuScenes")


MULTI = str(ROOT / "config" / "SPVCNN-multiscan-semantickitti.yaml")


@pytest.mark.parametrize(
    ("trained", "tested", "said"),
    [
        ((), ("dataset_params.past_scans=0",), "with 2 past scans and is tested without past points"),
        ((), ("dataset_params.past_scans=5",), "with 2 past scans and is tested with 5 past scans"),
        (
            ("dataset_params.past_scans=0",),
            ("dataset_params.past_scans=1",),
            "without past points and is tested with",
        ),
        ((), (), None),
        ((), ("dataset_params.past_labels=false",), None),
        (("model_params.cr=1",), ("model_params.cr=1", "dataset_params.past_scans=2"), None),
    ],
)
def test_another_number_of_past_scans_is_noted(trained, tested, said) -> None:
    """By --set or by --config; with another number of channels it is refused."""
    label_map = LabelMap.load(ROOT / "config" / "label_mapping" / "semantic-kitti-multiscan.yaml")
    content = checkpoint(load_config(MULTI, trained), label_map)
    for path in (None, MULTI):
        notes = configuration(path, tested, content, PATH).notes
        assert len(notes) == (said is not None)
        assert said is None or (said in notes[0] and notes[0].startswith("note: x.ckpt was trained "))
        assert said is None or "(dataset_params.past_scans)" in notes[0]
        fewer = ("model_params.input_dims=4", "dataset_params.past_scans=0")
        assert "input_dims was 5, is 4" in refusal(configuration, path, [*trained, *fewer], content, PATH)


def test_past_sweeps_are_no_past_scans() -> None:
    """Their ages are seconds, so one note is about the data set, and one about these."""
    label_map = LabelMap.load(ROOT / "config" / "label_mapping" / "semantic-kitti-multiscan.yaml")
    content = checkpoint(load_config(MULTI), label_map)
    other = ("dataset_params.past_scans=0", "dataset_params.pc_dataset_type=nuScenes", "dataset_params.past_sweeps=2")
    first, second = configuration(None, other, content, PATH).notes
    assert "was trained on SemanticKITTI" in first
    assert "with 2 past scans and is tested with 2 past sweeps (dataset_params.past_sweeps)" in second


def test_one_that_says_nothing_asks_for_a_config(tmp_path) -> None:
    for content in ({}, {"state_dict": {}}, {"2dpass": {"geometry": {}}}):
        message = refusal(configuration, None, [], content, tmp_path / "x.ckpt")
        assert "give it to --config" in message and "config.yaml" not in message
        assert configuration(NUSCENES, [], content, PATH).config == load_config(NUSCENES)
    (tmp_path / "config.yaml").touch()
    assert str(tmp_path / "config.yaml") in refusal(configuration, None, [], {}, tmp_path / "x.ckpt")
