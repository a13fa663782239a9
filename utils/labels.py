"""Label names, colours, splits, and the maps between the ids on disk (raw) and the ids of the network (learning)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from utils.errors import UserError

UNKNOWN = 255
"""Entry of `LabelMap.to_learning` for a raw id that the map does not know."""

_RAW_IDS = 1 << 16
_SPLITS = ("train", "valid", "test")


@dataclass(frozen=True)
class LabelMap:
    """One data set's classes.

    Attributes:
        names: K class names by learning id; the first is that of the ignored points ("unlabeled", "noise").
        to_learning: (65536,) uint8, learning id of every raw id; `UNKNOWN` where the map has none.
        to_raw: (K,) uint32, the raw id that a submission holds for each learning id.
        colors: (K, 3) uint8, RGB.
        split: "train", "valid", "test" -> names of their sequences ("00"); empty where the data set defines its own.
        raw_names: name of every raw id; several of them can be one class.
    """

    names: tuple[str, ...]
    to_learning: NDArray[np.uint8]
    to_raw: NDArray[np.uint32]
    colors: NDArray[np.uint8]
    split: dict[str, tuple[str, ...]]
    raw_names: dict[int, str]

    @staticmethod
    def load(path: str | Path) -> LabelMap:
        """Reads a label mapping in the vocabulary of the semantic-kitti-api.

        Args:
            path: YAML with `labels` (raw id: name), `color_map` (raw id: [b, g, r]), `learning_map` (raw id: learning
                id), `learning_map_inv` (learning id: raw id); where needed also `split` (train, valid, test: sequence
                numbers) and `class_names` (learning id: name, where the class is not called as its raw id is).

        Raises:
            UserError: the file is missing or not YAML, a key is missing, or its entries contradict each other.
        """
        content = _read_yaml(path)
        names, colors = _ids(content, "labels", path), _ids(content, "color_map", path)
        forward, inverse = _ids(content, "learning_map", path), _ids(content, "learning_map_inv", path)
        to_raw = _inverse_table(inverse, forward, path)
        missing = [raw for raw in to_raw if raw not in names or raw not in colors]
        if missing:
            raise UserError(f"{path}: raw id {missing[0]} of learning_map_inv must be in labels and color_map; add it")
        return LabelMap(
            names=_class_names(content, [str(names[raw]) for raw in to_raw], path),
            to_learning=_forward_table(forward, len(to_raw), path),
            to_raw=np.array(to_raw, dtype=np.uint32),
            colors=np.array([_rgb(colors[raw], raw, path) for raw in to_raw], dtype=np.uint8),
            split=_split(content, path),
            raw_names={raw: str(name) for raw, name in names.items()},
        )

    def with_raw_names(self, names: Mapping[int, str], path: str | Path) -> LabelMap:
        """The same classes for a data set that numbers its raw ids itself; they are matched by name.

        nuScenes does: category.json of each version gives the ids, in whatever order.

        Args:
            names: name of every raw id of that data set.
            path: the file they come from, for the error message.

        Returns:
            The map with `to_learning`, `to_raw` and `raw_names` in the ids of `names`. A class of `to_raw` whose name
            the data set lacks keeps its raw id.

        Raises:
            UserError: the map does not know one of the names, or an id is not one of 0..65535.
        """
        known = {name: raw for raw, name in self.raw_names.items()}
        to_learning = np.full_like(self.to_learning, UNKNOWN)
        for raw, name in names.items():
            if not _is_id(raw):
                raise UserError(f"{path}: category {name} has id {raw}, not 0 to {_RAW_IDS - 1}; unpack it again")
            if name not in known or self.to_learning[known[name]] == UNKNOWN:
                raise UserError(
                    f"{path}: category {name} is not in the label mapping; add it to labels and learning_map of the "
                    "file that dataset_params.label_mapping names"
                )
            to_learning[raw] = self.to_learning[known[name]]
        ids = {name: raw for raw, name in names.items()}
        to_raw = [ids.get(self.raw_names[raw], raw) for raw in self.to_raw.tolist()]
        return replace(self, to_learning=to_learning, to_raw=np.array(to_raw, dtype=np.uint32), raw_names=dict(names))

    def ignoring_unknown(self) -> LabelMap:
        """The same map, but a raw id that it does not know is ignored (learning id 0) instead of an error.

        For data sets with ids of their own on points that are not to be scored, such as the returns of snow.
        """
        known = self.to_learning != UNKNOWN
        return replace(self, to_learning=np.where(known, self.to_learning, 0).astype(np.uint8))

    def learning_ids(self, raw: NDArray[np.unsignedinteger], path: str | Path) -> NDArray[np.uint8]:
        """Learning ids of raw ids, by one table look-up.

        Args:
            raw: (N,) unsigned integers below 65536 (SemanticKITTI: the low half of the label).
            path: the file they come from, for the error message.

        Returns:
            (N,) uint8.

        Raises:
            UserError: an id is outside of the map; names the file, the id and how many points have it.
        """
        learning = self.to_learning.take(raw)  # twice as fast as indexing
        if learning.size and learning.max() == UNKNOWN:
            ids, counts = np.unique(raw[learning == UNKNOWN], return_counts=True)
            others = f" (and {len(ids) - 1} more unknown ids)" if len(ids) > 1 else ""
            raise UserError(
                f"{path}: label id {ids[0]} on {counts[0]} points{others} is not in the label mapping; repair the "
                "file, or add the id to learning_map in the file that dataset_params.label_mapping names (nuScenes: "
                "to category.json)"
            )
        return learning


def _read_yaml(path: str | Path) -> Mapping[str, Any]:
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not a text file"
        raise UserError(f"{path}: cannot read it ({reason}); correct dataset_params.label_mapping") from error
    try:
        content = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f" at line {mark.line + 1}" if mark else ""
        raise UserError(f"{path}: the label mapping is not valid YAML{line}; repair it") from error
    if not isinstance(content, Mapping):
        raise UserError(f"{path}: the label mapping must hold keys such as labels and learning_map; repair it")
    return content


def _ids(content: Mapping[str, Any], key: str, path: str | Path) -> dict[int, Any]:
    """The table under `key`, which must map ids to something."""
    if key not in content:
        raise UserError(f"{path}: key {key} is missing from the label mapping; add it")
    table = content[key]
    if not isinstance(table, Mapping) or not table or not all(_is_id(entry) for entry in table):
        raise UserError(f"{path}: key {key} must map ids from 0 to {_RAW_IDS - 1} to their values; correct it")
    return dict(table)


def _is_id(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _RAW_IDS


def _inverse_table(inverse: dict[int, Any], forward: dict[int, Any], path: str | Path) -> list[int]:
    """Raw ids by learning id; each must come back to the learning id that names it."""
    if sorted(inverse) != list(range(len(inverse))) or len(inverse) > UNKNOWN:
        raise UserError(f"{path}: learning_map_inv must have the learning ids 0, 1, 2, ... without a gap; correct it")
    for learning in range(len(inverse)):
        if not _is_id(inverse[learning]) or forward.get(inverse[learning]) != learning:
            raise UserError(
                f"{path}: learning_map_inv sends {learning} to {inverse[learning]}, which learning_map does not send "
                f"back to {learning}; correct one of them"
            )
    return [inverse[learning] for learning in range(len(inverse))]


def _forward_table(forward: dict[int, Any], num_classes: int, path: str | Path) -> NDArray[np.uint8]:
    table = np.full(_RAW_IDS, UNKNOWN, dtype=np.uint8)
    for raw, learning in forward.items():
        if not _is_id(learning) or learning >= num_classes:
            raise UserError(
                f"{path}: learning_map sends {raw} to {learning}, which is not in learning_map_inv; correct one of them"
            )
        table[raw] = learning
    return table


def _rgb(bgr: Any, raw: int, path: str | Path) -> tuple[int, ...]:
    if not isinstance(bgr, list) or len(bgr) != 3 or not all(_is_id(value) and value < 256 for value in bgr):
        raise UserError(f"{path}: color_map of {raw} must be [blue, green, red], each 0 to 255; correct it")
    return tuple(reversed(bgr))


def _class_names(content: Mapping[str, Any], names: list[str], path: str | Path) -> tuple[str, ...]:
    """Names by learning id: those of the raw ids, but where `class_names` gives another."""
    if "class_names" in content:
        for learning, name in _ids(content, "class_names", path).items():
            if learning >= len(names):
                raise UserError(f"{path}: class_names has {learning}, which is not in learning_map_inv; correct one")
            names[learning] = str(name)
    return tuple(names)


def _split(content: Mapping[str, Any], path: str | Path) -> dict[str, tuple[str, ...]]:
    if "split" not in content:
        return {}
    split = content["split"]
    if not isinstance(split, Mapping):
        raise UserError(f"{path}: key split must hold train, valid and test, lists of sequence numbers; correct it")
    for name in _SPLITS:
        if not isinstance(split.get(name), list) or not all(_is_id(number) for number in split[name]):
            raise UserError(f"{path}: key split.{name} must be a list of sequence numbers; add or correct it")
    return {name: tuple(f"{number:02d}" for number in split[name]) for name in _SPLITS}
