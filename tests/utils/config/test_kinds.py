"""No key is accepted and ignored: one of another kind is refused where it asks for something, and else has no effect.

The cases are made from the models, so that a new kind or key is among them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_origin

import pytest
import yaml
from pydantic.fields import FieldInfo

from tests.support.configs import RAW, RAW_NUSCENES, RAW_VOXEL, refusal
from utils.config.kinds import CHOOSER, flat_kinds, kinds_of
from utils.config.loaders import TrainingLoader, ValidationLoader
from utils.config.loading import load_config, save_config
from utils.config.schema import Config, architectures
from utils.config.train import TrainParams

VAL = "dataset_params.val_data_loader"


def asking(field: FieldInfo) -> Any:
    """A value of a key that is not its default and switches something on; None: there is none."""
    if get_origin(field.annotation) is tuple:
        return [7] if field.is_required() else [0.5, 0.625]
    types = {*(get_args(field.annotation) or ()), field.annotation}
    if bool in types:
        return None if field.default is True else True
    return 7 if int in types else 0.625


def chosen(group: str, name: str) -> dict[str, Any]:
    """Changes of a published run to another flat kind, with what that requires."""
    fields = flat_kinds(TrainParams)[group][name].model_fields
    required = {f"train_params.{key}": asking(field) for key, field in fields.items() if field.is_required()}
    return {f"train_params.{group}": name, **required}


def keys_of_others() -> Iterator[Any]:
    for group, kinds in flat_kinds(TrainParams).items():
        fields: dict[str, FieldInfo] = {}
        for kind in kinds.values():
            fields = {key: field for key, field in kind.model_fields.items() if key != CHOOSER} | fields
        for name, kind in kinds.items():
            for key in sorted(fields.keys() - kind.model_fields.keys()):
                yield pytest.param(group, name, key, fields[key], id=f"{key} under {name}")


def test_no_key_belongs_to_two_groups_of_kinds() -> None:
    groups = [
        {key for kind in kinds.values() for key in kind.model_fields} for kinds in flat_kinds(TrainParams).values()
    ]
    groups = [group - {CHOOSER} for group in groups]
    assert (
        len(groups) == 2 and not groups[0] & groups[1] and not (groups[0] | groups[1]) & set(TrainParams.model_fields)
    )


@pytest.mark.parametrize(("group", "name", "key", "field"), keys_of_others())
def test_a_key_of_another_kind_is_refused_where_it_asks_for_something(group, name, key, field, write) -> None:
    owners = [other for other, kind in flat_kinds(TrainParams)[group].items() if key in kind.model_fields]
    line = f"train_params.{key}{{}} is a key of {group} {' and '.join(owners)}, not of {name}: it has no effect"
    base = write(chosen(group, name))
    if (value := asking(field)) is not None:
        changed = {**chosen(group, name), f"train_params.{key}": value}
        assert refusal(write(changed)) == f"{line.format('')}, remove it or set it to null"
        base = write(chosen(group, name))
        assert refusal(base, (f"train_params.{key}={value}",)).startswith(line.format(" (from an override)"))
    expected = load_config(base)
    for nothing in (None, False, 0, *([] if field.is_required() else [field.default])):
        assert load_config(write({**chosen(group, name), f"train_params.{key}": nothing})) == expected


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(
    ("group", "name"), [(group, name) for group, kinds in flat_kinds(TrainParams).items() for name in kinds]
)
def test_an_override_of_the_kind_takes_the_keys_of_the_kind(group, name, reverse, write, tmp_path: Path) -> None:
    """In whatever order; the file's own keys are of another kind then, and only their defaults pass."""
    overrides = [f"{key}={value}" for key, value in chosen(group, name).items()]
    config = load_config(write({}), overrides[::-1] if reverse else overrides)
    kind = getattr(config.train_params, group)
    assert kind.name == name
    save_config(config, tmp_path / "saved.yaml")
    assert load_config(tmp_path / "saved.yaml") == config
    saved = yaml.safe_load((tmp_path / "saved.yaml").read_text())["train_params"]
    assert saved[group] == name and {key: saved[key] for key in type(kind).model_fields if key != CHOOSER} == {
        key: value for key, value in kind.model_dump(mode="json").items() if key != CHOOSER
    }
    of_others = {key for other in flat_kinds(TrainParams)[group].values() for key in other.model_fields}
    assert not (of_others - set(type(kind).model_fields)) & set(saved) and CHOOSER not in saved


def test_what_the_file_asks_of_its_kind_is_refused_under_the_kind_of_an_override(write) -> None:
    path = write({"train_params.weight_decay": 0.01})
    line = refusal(path, ("train_params.optimizer=Adam",))
    assert line.startswith("train_params.weight_decay is a key of optimizer SGD and AdamW, not of Adam")
    assert load_config(path, ["train_params.optimizer=Adam", "train_params.weight_decay=null"])
    assert load_config(path, ["train_params.weight_decay=0", "train_params.optimizer=Adam"])


def test_a_file_that_an_earlier_version_saved_loads(write) -> None:
    """It held every key of what was one section, at its default where the file did not say otherwise."""
    defaults = {
        "optimizer": "Adam", "lr_scheduler": "CosineAnnealingLR", "momentum": 0.9, "nesterov": True,
        "weight_decay": 0.0001, "decay_step": None, "decay_rate": None, "lambda_seg2d": 1.0, "lambda_xm": 0.05,
        "lambda_lovasz": None, "trainval": False, "swa_epoch_start": 0.75, "gradient_clip_norm": 1.0,
        "sync_batchnorm": False,
    }  # fmt: skip
    for base in (RAW, RAW_VOXEL):
        training = {"max_num_epochs": 6, "learning_rate": 0.004}
        old = load_config(write({"train_params": {**training, **defaults}}, base))
        new = {**training, "optimizer": "Adam", "lr_scheduler": "CosineAnnealingLR"}
        assert old == load_config(write({"train_params": new}, base))


@pytest.mark.parametrize("key", sorted(TrainingLoader.model_fields.keys() - ValidationLoader.model_fields.keys()))
def test_validation_scans_are_neither_augmented_nor_shuffled(key: str, write) -> None:
    expected = load_config(write({}))
    assert load_config(write({f"{VAL}.{key}": False}), [f"{VAL}.{key}=false"]) == expected
    words = "is no key of val_data_loader, since scans are validated and tested as they are and in order"
    assert refusal(write({f"{VAL}.{key}": True})) == f"{VAL}.{key} {words}; set it to false, or remove it"
    assert refusal(write({}), (f"{VAL}.{key}=true",)).startswith(f"{VAL}.{key} (from an override) {words}")


def test_z_is_scaled_with_x_and_y_or_not_at_all(write) -> None:
    key = "dataset_params.train_data_loader.scale"
    line = refusal(write({f"{key}_aug": False, f"{key}_z_aug": True}))
    assert line.startswith(f"{key}_z_aug is true, but scale_aug is false: nothing is scaled")
    assert load_config(write({f"{key}_aug": True, f"{key}_z_aug": True})).dataset_params.train_data_loader.scale_z_aug


def test_several_augmentations_of_validation_share_a_phrase(write) -> None:
    line = refusal(write({f"{VAL}.rotate_aug": True, f"{VAL}.shuffle": True, f"{VAL}.rotat_aug": True}))
    assert f"{VAL}.rotate_aug, {VAL}.shuffle are no keys of val_data_loader" in line and line.count("as they are") == 1
    assert f"unknown key {VAL}.rotat_aug, did you mean dataset_params.train_data_loader.rotate_aug?" in line


def keys_of_other_sections() -> Iterator[Any]:
    bases = {"arch_2dpass": RAW, "minkowskinet": RAW_VOXEL, "point_image_dataset_semkitti": RAW}
    bases |= {"point_image_dataset_nus": RAW_NUSCENES, "voxel_dataset": RAW_VOXEL}
    for section in ("model_params", "dataset_params"):
        kinds = kinds_of(Config.model_fields[section])
        for name in sorted(kinds.keys() & bases.keys()):
            others = {key for kind in kinds.values() for key in kind.model_fields}
            for key in sorted(others - kinds[name].model_fields.keys()):
                yield pytest.param(bases[name], name, f"{section}.{key}", id=f"{key} under {name}")


@pytest.mark.parametrize(("base", "name", "key"), keys_of_other_sections())
def test_a_key_of_another_section_passes_where_it_asks_for_nothing(base, name, key, write) -> None:
    expected = load_config(write({}, base))
    for nothing in (None, False):
        assert load_config(write({key: nothing}, base)) == expected
    assert f"{key} is no key of" in refusal(write({key: 1}, base)) and name in refusal(write({key: 1}, base))


@pytest.mark.parametrize("key", [key for key, field in TrainParams.model_fields.items() if architectures(field)])
def test_weights_of_losses_that_a_voxel_model_does_not_have(key: str, write) -> None:
    default = TrainParams.model_fields[key].default
    for value in (0, default):
        load_config(write({f"train_params.{key}": value}, RAW_VOXEL))
    assert refusal(write({f"train_params.{key}": default + 1}, RAW_VOXEL)) == (
        f"train_params.{key} is a key of model_architecture arch_2dpass, not of minkowskinet: it has no effect, "
        "remove it"
    )
    load_config(write({f"train_params.{key}": default + 1}))


def test_a_flat_kind_is_chosen_by_its_name_alone(write) -> None:
    path = write({})
    assert refusal(path, ("train_params.name=SGD",)).startswith("unknown key train_params.name")
    assert refusal(path, ("train_params.optimizer.momentum=0.8",)) == (
        "unknown key train_params.optimizer.momentum, did you mean train_params.momentum? (from an override)"
    )


def test_an_override_reaches_into_a_section_that_the_file_has_as_null(write) -> None:
    path = write({"dataset_params.corruption_aug": None})
    corruption = load_config(path, ["dataset_params.corruption_aug.corruptions=[fog]"]).dataset_params.corruption_aug
    assert corruption is not None and corruption.corruptions == ("fog",)


def test_defaults_that_have_no_effect_are_named(write) -> None:
    """A file may hold them, but not without a word."""
    notes: list[str] = []
    path = write({})
    load_config(path, note=notes.append)
    load_config(path, ["train_params.decay_step=null", "train_params.nesterov=false"], notes.append)
    assert notes == []
    load_config(path, ["train_params.optimizer=Adam", "train_params.momentum=0"], notes.append)
    (line,) = notes
    assert line.startswith(f"note: {path}: train_params.nesterov, train_params.weight_decay: without an effect")
    load_config(write({"train_params.lambda_xm": 0.05}, RAW_VOXEL), note=notes.append)
    assert len(notes) == 2 and ": train_params.lambda_xm: without an effect" in notes[1]
