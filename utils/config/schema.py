"""Every key a configuration file may hold: its type, its default and what it does.

The key names are those of the published 2DPASS configurations, so that the YAML beside a published checkpoint loads
as it is; spellings such as `hiden_size` are therefore part of the format.

`model_params` and `dataset_params` come in several kinds, told apart by `model_architecture` and `dataset_type`: they
are in `config_model.py` and `config_data.py`. Another architecture or data set is another section class there, joined
by `|` at the field of `Config`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, get_args

from pydantic import AliasChoices, Field
from pydantic import model_validator as check_all
from pydantic.fields import FieldInfo

from utils.config.data import (
    DatasetParams,
    LoaderParams,
    NuScenesImages,
    PointImageDataset,
    SemanticKITTIImages,
    VoxelDataset,
)
from utils.config.fields import Section, only
from utils.config.model import ModelParams, VoxelModelParams
from utils.config.train import TrainParams

__all__ = [
    "Config",
    "DatasetParams",
    "LoaderParams",
    "ModelParams",
    "NuScenesImages",
    "PointImageDataset",
    "Section",
    "SemanticKITTIImages",
    "TrainParams",
    "VoxelDataset",
    "VoxelModelParams",
    "kinds_of",
    "known_keys",
    "spellings",
]


class Config(Section):
    """A whole configuration file."""

    format_version: Annotated[int, Field(ge=-(10**9), le=10**9), only(1)] = Field(
        default=1, description="Version of this vocabulary."
    )
    model_params: ModelParams | VoxelModelParams = Field(
        discriminator="model_architecture", description="The network; its kind by model_architecture."
    )
    dataset_params: SemanticKITTIImages | NuScenesImages | VoxelDataset = Field(
        discriminator="dataset_type", description="The data; its kind by dataset_type."
    )
    train_params: TrainParams = Field(description="Optimisation.")

    @check_all(mode="after")
    def _sections_fit_together(self) -> Config:
        problems = [problem for problem in (self._wrong_data_set(), self._wrong_label_weights()) if problem]
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def _wrong_data_set(self) -> str | None:
        model, data = self.model_params, self.dataset_params
        if isinstance(model, VoxelModelParams) == isinstance(data, VoxelDataset):
            return None
        images = "point_image_dataset_nus" if data.pc_dataset_type == "nuScenes" else "point_image_dataset_semkitti"
        wanted = "voxel_dataset" if isinstance(model, VoxelModelParams) else images
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


def kinds_of(field: FieldInfo) -> dict[str, type[Section]]:
    """The section classes a field may hold, by the value that chooses each; by "" where there is only one."""
    kinds: dict[str, type[Section]] = {}
    for kind in get_args(field.annotation) or (field.annotation,):  # one section class, or several joined by |
        if isinstance(kind, type) and issubclass(kind, Section):
            chooser = kind.model_fields.get(str(field.discriminator))
            names = ("",) if chooser is None else get_args(chooser.annotation)
            kinds.update(dict.fromkeys(names, kind))
    return kinds


def known_keys(raw: Any = None) -> list[str]:
    """Every key of the vocabulary, dotted ("train_params.momentum"), sections before their keys.

    Args:
        raw: a configuration as its file has it. Where it says of which kind a section is, the keys of the other kinds
            are left out. None: the keys of all kinds.
    """
    return list(dict.fromkeys(key for key, _ in _fields(raw)))


def spellings(key: str, raw: Any = None) -> tuple[str, ...]:
    """All spellings of the last part of a dotted key, itself included; none if the key is not known.

    Args:
        key: in any of its spellings.
        raw: as in `known_keys`.
    """
    section, _, leaf = key.rpartition(".")
    for known, field in _fields(raw):
        known_section, _, name = known.rpartition(".")
        alias = field.validation_alias
        names = tuple(map(str, alias.choices)) if isinstance(alias, AliasChoices) else (name,)
        if known_section == section and leaf in names:
            return names
    return ()


def _fields(raw: Any, section: type[Section] = Config, prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Dotted keys and their fields; one that several kinds of a section have comes several times."""
    for name, field in section.model_fields.items():
        yield prefix + name, field
        below = raw.get(name) if isinstance(raw, dict) else None
        kinds = kinds_of(field)
        choice = below.get(field.discriminator) if isinstance(below, dict) else None
        chosen = {kinds[choice]} if isinstance(choice, str) and choice in kinds else dict.fromkeys(kinds.values())
        for kind in chosen:
            yield from _fields(below, kind, f"{prefix}{name}.")
