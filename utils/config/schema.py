"""The keys that a configuration file may hold: their types, defaults and meanings.

The key names are those of the published 2DPASS configurations, so that the YAML of a published checkpoint loads
unchanged; spellings such as `hiden_size` are therefore part of the format.

`model_params` and `dataset_params` come in kinds, which `model_architecture` and `dataset_type` choose. They are
in `model.py` and `data.py`: a new architecture or data set is a new section class there, joined by `|` at the field of
`Config`. Optimisers and schedules are kinds as well (`optimizers.py`, `schedules.py`); `kinds.py` explains kinds.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Annotated, Any

from pydantic import AliasChoices, Field
from pydantic import model_validator as check_all
from pydantic.fields import FieldInfo

from utils.config.data import NuScenesImages, PointImageDataset, SemanticKITTIImages, VoxelDataset
from utils.config.fields import ForKinds, Section, only
from utils.config.kinds import (
    CHOOSER,
    FlatKind,
    IdleKeysAllowed,
    asks_something,
    is_flat,
    kinds_of,
    without_idle,
)
from utils.config.model import ModelParams, VoxelModelParams
from utils.config.train import TrainParams


class Config(Section):
    """A whole configuration file."""

    format_version: Annotated[int, Field(ge=-(10**9), le=10**9), only(1)] = Field(
        default=1, description="Version of this vocabulary; it must be 1."
    )
    model_params: ModelParams | VoxelModelParams = Field(
        discriminator="model_architecture", description="The network; model_architecture chooses its kind."
    )
    dataset_params: SemanticKITTIImages | NuScenesImages | VoxelDataset = Field(
        discriminator="dataset_type", description="The data; dataset_type chooses its kind."
    )
    train_params: TrainParams = Field(description="The optimisation.")

    @check_all(mode="before")
    @classmethod
    def _drop_idle(cls, raw: Any) -> Any:
        """Drops the keys of another kind of section where they ask for nothing (`pretrained2d: false`)."""
        if not isinstance(raw, dict):
            return raw
        kept = dict(raw)
        for name in ("model_params", "dataset_params"):
            section, field = raw.get(name), cls.model_fields[name]
            kinds = kinds_of(field)
            choice = section.get(field.discriminator) if isinstance(section, dict) else None
            if isinstance(section, dict) and isinstance(choice, str) and choice in kinds:
                kept[name] = without_idle(section, kinds[choice], kinds.values(), defaults=False)
        return kept

    @check_all(mode="after")
    def _sections_fit_together(self) -> Config:
        found = (
            self._wrong_data_set(),
            self._wrong_label_weights(),
            self._no_age(),
            self._wrong_steps(),
            self._nothing_to_keep(),
            self._no_crop(),
            *self._keys_of_other_architectures(),
        )
        problems = [problem for problem in found if problem]
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def _wrong_data_set(self) -> str | None:
        model, data = self.model_params, self.dataset_params
        if isinstance(model, VoxelModelParams) == isinstance(data, VoxelDataset):
            return None
        with_images = {
            kind.fixed.get("pc_dataset_type"): name  # of several names of a kind the first: it comes last here
            for name, kind in reversed(kinds_of(Config.model_fields["dataset_params"]).items())
            if issubclass(kind, PointImageDataset)
        }
        wanted = "voxel_dataset" if isinstance(model, VoxelModelParams) else with_images.get(data.pc_dataset_type)
        if wanted is None:
            return (
                f"model_params.model_architecture {model.model_architecture} learns from camera images, and no "
                f"dataset_type has those of {data.pc_dataset_type}; take a voxel model"
            )
        return (
            f"dataset_params.dataset_type must be {wanted} for model_params.model_architecture "
            f"{model.model_architecture}, found {data.dataset_type}"
        )

    def _wrong_label_weights(self) -> str | None:
        weights, classes = self.dataset_params.seg_labelweights, self.model_params.num_classes
        if weights is None or len(weights) == classes:
            return None
        return (
            f"dataset_params.seg_labelweights must have {classes} entries (model_params.num_classes), "
            f"found {len(weights)}: one for each learning id, the ignored 0 first"
        )

    def _no_age(self) -> str | None:
        data = self.dataset_params
        if not data.past or self.model_params.input_dims == 5:
            return None
        return (
            f"model_params.input_dims must be 5 for dataset_params.{data.past_key} {data.past}, so that the network "
            f"knows the age of a point, found {self.model_params.input_dims}"
        )

    def _wrong_steps(self) -> str | None:
        steps, classes = self.dataset_params.past_steps, self.model_params.num_classes
        if steps is None or len(steps) == classes:
            return None
        return (
            f"dataset_params.past_steps must have {classes} entries (model_params.num_classes), found {len(steps)}: "
            "one for each learning id, the ignored 0 first"
        )

    def _no_crop(self) -> str | None:
        model, data = self.model_params, self.dataset_params
        if not isinstance(model, ModelParams) or not isinstance(data, SemanticKITTIImages):
            return None
        if model.frozen_teacher or data.bottom_crop is not None:
            return None
        return (
            f"dataset_params.bottom_crop is missing: model_params.backbone_2d {model.backbone_2d} learns from a crop "
            "of the image, as [480, 320]"
        )

    def _nothing_to_keep(self) -> str | None:
        model, data = self.model_params, self.dataset_params
        if not isinstance(data, PointImageDataset) or not isinstance(model, ModelParams):
            return None
        if data.teacher_cache is None or model.frozen_teacher:
            return None
        return (
            f"dataset_params.teacher_cache keeps the features of a frozen teacher, but model_params.backbone_2d is "
            f"{model.backbone_2d}, which is trained along: remove one of them"
        )

    def _keys_of_other_architectures(self) -> Iterator[str]:
        """Yields a phrase for each key that asks something of an architecture that does not use it."""
        chosen = self.model_params.model_architecture
        for name, field in TrainParams.model_fields.items():
            value, owners = getattr(self.train_params, name), architectures(field)
            if owners and chosen not in owners and asks_something(value, field):
                yield (
                    f"train_params.{name} is a key of model_architecture {' and '.join(owners)}, not of {chosen}: it "
                    "has no effect, remove it"
                )


def architectures(field: FieldInfo) -> tuple[str, ...]:
    """Returns the architectures that use a key; empty: all do."""
    return tuple(name for entry in field.metadata if isinstance(entry, ForKinds) for name in entry.names)


def known_keys(raw: Any = None) -> list[str]:
    """Lists all keys, dotted ("train_params.momentum"), sections before their keys.

    Args:
        raw: a configuration as its file has it. Where it chooses the kind of a section, the keys of the other kinds
            are left out. None: the keys of all kinds.
    """
    return list(dict.fromkeys(key for key, _ in _fields_with_effect(raw)))


def spellings(key: str, raw: Any = None) -> tuple[str, ...]:
    """Returns all spellings of the last part of a dotted key, including its own; empty if the key is not known.

    Args:
        key: dotted key, in any of its spellings.
        raw: see `known_keys`.
    """
    section, _, leaf = key.rpartition(".")
    for known, field in _fields_with_effect(raw):
        known_section, _, name = known.rpartition(".")
        alias = field.validation_alias
        names = tuple(map(str, alias.choices)) if isinstance(alias, AliasChoices) else (name,)
        if known_section == section and leaf in names:
            return names
    return ()


def _fields_with_effect(raw: Any) -> Iterator[tuple[str, FieldInfo]]:
    """Yields dotted keys and their fields, without those that the architecture of `raw` does not use."""
    model = raw.get("model_params") if isinstance(raw, dict) else None
    chosen = model.get("model_architecture") if isinstance(model, dict) else None
    if not isinstance(chosen, str) or chosen not in kinds_of(Config.model_fields["model_params"]):
        chosen = None
    for key, field in _fields(raw):
        if chosen is None or not (names := architectures(field)) or chosen in names:
            yield key, field


def _fields(raw: Any, section: type[Section] = Config, prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Yields dotted keys and their fields; a key that several kinds of a section have comes several times."""
    for name, field in section.model_fields.items():
        if issubclass(section, FlatKind) and name == CHOOSER:
            continue  # in a file it is the value of the field that holds the kind
        yield prefix + name, field
        below = raw.get(name) if isinstance(raw, dict) else None
        kinds, flat = kinds_of(field), is_flat(field)
        choice = below if flat else below.get(field.discriminator) if isinstance(below, dict) else None
        chosen = {kinds[choice]} if isinstance(choice, str) and choice in kinds else dict.fromkeys(kinds.values())
        for kind in chosen:
            yield from _fields(raw, kind, prefix) if flat else _fields(below, kind, f"{prefix}{name}.")
    if issubclass(section, IdleKeysAllowed) and not isinstance(raw, dict):
        yield from _fields(None, section.other, prefix)


def leaves(section: Mapping[str, Any], whole: Collection[str] = (), prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields each dotted key of a section in plain values, with its value.

    Args:
        section: plain values by name; those that are mappings are sections themselves.
        whole: dotted keys whose sections are yielded as they are.
        prefix: what the keys begin with: of a section in another, its key and a dot.
    """
    for name, value in section.items():
        key = prefix + name
        if isinstance(value, dict) and key not in whole:
            yield from leaves(value, whole, f"{key}.")
        else:
            yield key, value
