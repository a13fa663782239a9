"""The vocabulary as records, for the pages that are made from it."""

from __future__ import annotations

import yaml

from tests.support.configs import SHIPPED
from utils.config.loading import load_config
from utils.config.reference import Key, reference
from utils.config.schema import known_keys

KEYS = reference()


def named(name: str) -> list[Key]:
    return [key for key in KEYS if key.name == name]


def test_every_key_is_there_with_a_meaning() -> None:
    sections = {key.rpartition(".")[0] for key in known_keys()}
    augmented = {key for key in known_keys() if key.startswith("dataset_params.val_data_loader.") and not named(key)}
    or_null = {key for key in sections if key.startswith(("dataset_params.corruption_aug", "dataset_params.mixing"))}
    assert {key.name for key in KEYS} == set(known_keys()) - (sections - or_null) - augmented
    assert len(augmented) == 7 and all(key.endswith(("_aug", ".shuffle")) for key in augmented)
    assert all(key.meaning.endswith(".") and key.type for key in KEYS)
    assert len(set(KEYS)) == len(KEYS)


def test_types_defaults_and_kinds_in_words() -> None:
    assert named("train_params.momentum")[0] == Key(
        "train_params.momentum",
        "number from 0 to below 1",
        "0.9",
        "Share of the last step that is added to the next one.",
        ("SGD",),
    )
    (optimizer,) = named("train_params.optimizer")
    assert (optimizer.type, optimizer.default, optimizer.kinds) == ("one of SGD, Adam, AdamW", None, ())
    assert {key.kinds for key in named("train_params.decay_step")} == {("StepLR",), ("ReduceLROnPlateau",)}
    (crop,) = named("dataset_params.bottom_crop")
    assert crop.type == "list of 2 integers from 16 to 8192 in steps of 16, or null" and len(crop.kinds) == 2
    (weights,) = named("dataset_params.seg_labelweights")
    assert (weights.type, weights.default, weights.kinds) == ("list of numbers from 0, or null", "null", ())
    assert named("train_params.lambda_xm")[0].kinds == ("arch_2dpass",)
    assert {key.default for key in named("train_params.nesterov")} == {"true"}
    assert named("dataset_params.image_normalizer")[0].type == "list of 2 lists of 3 numbers, or null"


def test_defaults_are_those_that_a_file_gets() -> None:
    """Independent of the models: what is loaded where a file says nothing."""
    path = next(path for path in SHIPPED if path.stem == "MinkowskiNet-demo")
    found = load_config(path).model_dump(mode="json")
    said = yaml.safe_load(path.read_text())
    for section in ("model_params", "dataset_params", "train_params"):
        for name in found[section].keys() - said[section].keys():
            defaults = [yaml.safe_load(str(key.default)) for key in named(f"{section}.{name}")]
            assert found[section][name] in defaults, name
