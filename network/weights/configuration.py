"""The choice of the config to test a checkpoint with: its own, or a given one that must not contradict it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from network.weights.description import Description, read_description
from network.weights.pretrained import refuse_untrained
from network.weights.reading import config_beside, read_checkpoint, read_outline
from utils.config.loading import check_config, load_config
from utils.config.model import VoxelModelParams
from utils.config.schema import Config
from utils.errors import UserError
from utils.files import sha256_of
from utils.labels import LabelMap
from utils.paths import resolve_path
from utils.results.conditions import TrainedOn
from utils.results.published import name_of
from utils.results.run_folder import find_checkpoint, root_with, run_root
from utils.text import shortened

# The keys of model_params on which the weights of the 3D network do not depend.
_FREE = {"sparse_backend", "backbone_2d", "pretrained2d"}
_VOLUME = ("min_volume_space", "max_volume_space")
_MOST_NAMED = 6


@dataclass(frozen=True)
class Choice:
    """The config and the label map to test a checkpoint with.

    Attributes:
        config: the experiment.
        label_map: the label map of the checkpoint, if it is to be used; None: the file that the config names.
        notes: lines for the user about allowed differences from the training.
        description: what the checkpoint says of itself; None: nothing.
    """

    config: Config
    label_map: LabelMap | None
    notes: tuple[str, ...] = ()
    description: Description | None = None


@dataclass(frozen=True)
class Tested:
    """A checkpoint to be tested.

    Attributes:
        path: the file.
        config: the config to test it with.
        label_map: the label map of the checkpoint, if it is to be used; None: the file that the config names.
        description: what the checkpoint says of itself; None: nothing.
    """

    path: Path
    config: Config
    label_map: LabelMap | None
    description: Description | None = None

    @cached_property
    def content(self) -> dict[str, Any]:
        """The whole content of the file, from `read_checkpoint`, read when it is first asked for.

        Raises:
            UserError: the values of its tensors are damaged.
        """
        return read_checkpoint(self.path)

    @cached_property
    def classes(self) -> LabelMap:
        """The classes of the checkpoint, or of the file that its config names.

        Raises:
            UserError: the file is missing or damaged, or has another number of classes than the network.
        """
        if self.label_map is not None:
            return self.label_map
        key, classes = "dataset_params.label_mapping", self.config.model_params.num_classes
        label_map = LabelMap.load(resolve_path(self.config.dataset_params.label_mapping, key=key))
        if len(label_map.names) != classes:
            raise UserError(f"{key} has {len(label_map.names)} classes, but model_params.num_classes is {classes}")
        return label_map

    @cached_property
    def sha256(self) -> str:
        """The SHA-256 of the file, in hexadecimal digits."""
        return sha256_of(self.path)

    def trained_on(self, label_map: LabelMap) -> TrainedOn | None:
        """Returns what the checkpoint says that it was trained on; None: it does not say.

        Args:
            label_map: that of the test, whose validation split is evaluated.
        """
        if (ours := self.description) is None:
            return None
        return trained_on(ours, label_map)


def trained_on(ours: Description, label_map: LabelMap) -> TrainedOn:
    """Returns what a checkpoint was trained on; `label_map` has the validation split that is evaluated."""
    split = ours.label_map.split
    return TrainedOn.of(ours.config, split.get("train", ()), label_map.split.get("valid", ()), ours.began)


def beginning(content: Mapping[str, Any] | None, path: Path | None, label_map: LabelMap, goes_on: bool) -> str:
    """Returns the checkpoint from which a fine-tuning begins, and what it was trained on, a phrase; "": none.

    Args:
        content: of the checkpoint, from `read_checkpoint`; None: the training begins new.
        path: its path.
        label_map: of the training, whose validation split is evaluated.
        goes_on: it is continued, so that its own beginning counts.
    """
    if content is None or path is None:
        return ""
    ours = read_description(content, path)
    if goes_on:
        return "" if ours is None else ours.began
    seen = "what it was trained on is not known" if ours is None else trained_on(ours, label_map).text
    return f"{name_of(path)} ({seen})"


def open_for_test(
    name: str, log_dir: str, config_path: str | None, overrides: Sequence[str], note: Callable[[str], object] = print
) -> Tested:
    """Finds the checkpoint that --checkpoint names, reads what it says of itself, and chooses the config.

    Args:
        name: see `utils.results.run_folder.find_checkpoint`.
        log_dir: the name of the run.
        config_path: the value of --config; None: the config in the checkpoint.
        overrides: the values of --set.
        note: called with each line for the user.

    Raises:
        UserError: there is no such checkpoint, or no config that fits it.
    """
    if config_path is None:
        root = root_with(name, log_dir)
    else:
        root = run_root(load_config(config_path, overrides).dataset_params.pc_dataset_type, log_dir)
    path = find_checkpoint(name, root, note)
    chosen = configuration(config_path, overrides, read_outline(path), path)
    for line in chosen.notes:
        note(line)
    return Tested(path, chosen.config, chosen.label_map, chosen.description)


def configuration(
    config_path: str | None, overrides: Sequence[str], content: Mapping[str, Any], path: str | Path
) -> Choice:
    """Chooses the config to test a checkpoint with.

    Args:
        config_path: the file of --config, which is used if given; None: the config that the checkpoint holds.
        overrides: the values of --set, written into either.
        content: from `read_outline` or `read_checkpoint`.
        path: path of the checkpoint, for messages.

    Raises:
        UserError: there is no config, or the given one has another network, other voxels or other classes, so that
            the weights cannot be used with it; the message names the differences.
    """
    refuse_untrained(content, path)
    description = read_description(content, path)
    if description is None:
        if config_path is None:
            raise UserError(
                f"{path}: does not say with which config it was trained, as published checkpoints and those of earlier "
                f"versions do not; give it to --config{config_beside(path)}"
            )
        return Choice(load_config(config_path, overrides), None)
    own, label_map = description.config, None
    if config_path is None:
        config = check_config(own.model_dump(mode="json"), f"{path}: config in the checkpoint", overrides)
        if config.dataset_params.label_mapping == own.dataset_params.label_mapping:
            label_map = description.label_map
    else:
        config = load_config(config_path, overrides)
    found = label_map
    if found is None:
        found = LabelMap.load(resolve_path(config.dataset_params.label_mapping, key="dataset_params.label_mapping"))
    if changed := [*_other_network(own, config), *_other_classes(description.label_map, found)]:
        more = f" and {len(changed) - _MOST_NAMED} more" if len(changed) > _MOST_NAMED else ""
        remedy = "leave out --config" if config_path is not None else "leave it out of --set"
        raise UserError(
            f"{path}: was trained with another config: {'; '.join(changed[:_MOST_NAMED])}{more}; {remedy}, to test it "
            "with its own"
        )
    return Choice(config, label_map, tuple(_notes(description, config, found, path)), description)


def _notes(description: Description, config: Config, label_map: LabelMap, path: str | Path) -> Iterator[str]:
    before, now = description.config.dataset_params.pc_dataset_type, config.dataset_params.pc_dataset_type
    if before != now:
        yield (
            f"note: {path} was trained on {before} and is tested on {now} (dataset_params.pc_dataset_type): the scores "
            "say how well it carries over"
        )
    had, has = _past(description.config), _past(config)
    if had != has:
        key = config.dataset_params.past_key
        yield (
            f"note: {path} was trained {had} and is tested {has} (dataset_params.{key}): the scores say how well it "
            "does with what it was not trained for"
        )
    if label_map.to_raw.tolist() != description.label_map.to_raw.tolist():
        yield (
            f"note: {config.dataset_params.label_mapping} has other raw ids for the classes than the training of "
            f"{path} had; predictions are written with those of the file"
        )


def _past(config: Config) -> str:
    """Describes the earlier sweeps that are added to each scan."""
    data = config.dataset_params
    if not data.past:
        return "without past points"
    kind = "thinned " if data.past_predictions is not None else ""
    return f"with {data.past} {kind}{data.past_key.replace('_', ' ')}"


def _other_network(before: Config, now: Config) -> list[str]:
    """Lists the differences of the network and its voxels, a phrase each, with which the weights cannot be used."""
    changed = _changed("model_params", before.model_params, now.model_params, _FREE)
    if isinstance(before.model_params, VoxelModelParams) and isinstance(now.model_params, VoxelModelParams):
        widths = [[int(model.cr * c) for c in model.layer_num] for model in (before.model_params, now.model_params)]
        if widths[0] == widths[1]:  # only their product counts
            changed = {key: text for key, text in changed.items() if key not in ("cr", "layer_num")}
    volume = set(type(now.dataset_params).model_fields) - set(_VOLUME)
    changed |= _changed("dataset_params", before.dataset_params, now.dataset_params, volume)
    return list(changed.values())


def _changed(section: str, before: Any, now: Any, free: set[str]) -> dict[str, str]:
    """Returns a phrase for each key that both sections have with different values."""
    pairs = {
        key: (getattr(before, key), getattr(now, key))
        for key in type(now).model_fields
        if key not in free and hasattr(before, key)
    }
    return {
        key: f"{section}.{key} was {_shown(old)}, is {_shown(new)}" for key, (old, new) in pairs.items() if old != new
    }


def _other_classes(before: LabelMap, now: LabelMap) -> list[str]:
    """Describes how the classes differ from those of the training, in a list with one phrase or none."""
    if len(before.names) != len(now.names):
        return [f"the number of classes was {len(before.names)}, is {len(now.names)} in the label mapping"]
    changed = [number for number, name in enumerate(before.names) if name != now.names[number]]
    if not changed:
        return []
    names = [_shown(label_map.names[changed[0]]) for label_map in (before, now)]
    others = f" (and {len(changed) - 1} others)" if len(changed) > 1 else ""
    return [f"class {changed[0]} was {names[0]}, is {names[1]} in the label mapping{others}"]


def _shown(value: object) -> str:
    """Returns a value as a short text."""
    text = ", ".join(map(_shown, value)) if isinstance(value, tuple) else str(value)
    return shortened(f"{value:g}" if isinstance(value, float) else text, 32)
