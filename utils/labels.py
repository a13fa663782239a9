"""Label names, colours, splits, and the maps between the ids on disk (raw) and the ids of the network (learning)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from utils.errors import UserError
from utils.label_files import NUMBERING, RAW_IDS, LabelFile

UNKNOWN = 255
"""Entry of `LabelMap.to_learning` for a raw id that the map does not know."""


_NO_CLASS = re.compile("unl|unk|unc|und|ignore|noise|void|outlier|invalid|none|other|background|no.?label|care", re.I)
"""In the name of what no data set means to be learnt."""


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
        added: raw ids that are no category of the data set; see `adding`.
    """

    names: tuple[str, ...]
    to_learning: NDArray[np.uint8]
    to_raw: NDArray[np.uint32]
    colors: NDArray[np.uint8]
    split: dict[str, tuple[str, ...]]
    raw_names: dict[int, str]
    added: tuple[int, ...] = ()

    @staticmethod
    def load(path: str | Path) -> LabelMap:
        """Reads a label mapping in the vocabulary of the semantic-kitti-api.

        Args:
            path: YAML with `labels` (raw id: name), `color_map` (raw id: [b, g, r]), `learning_map` (raw id: learning
                id, 0 for what is ignored), `learning_map_inv` (learning id: raw id); where needed also `split` (train,
                valid, test: names of sequences) and `class_names` (learning id: name, where the class is not called as
                its raw id is). `learning_ignore` may say again that 0 is ignored, and nothing else.

        Raises:
            UserError: the file is missing or not YAML, a key is missing, or its entries contradict each other.
        """
        file = LabelFile(path)
        names, colors = file.names("labels"), file.table("color_map")
        inverse = _inverse_table(file)
        to_learning = _forward_table(file, len(inverse))
        to_raw = _checked(file, inverse, to_learning)
        missing = [raw for raw in to_raw if raw not in names or raw not in colors]
        if missing:
            raise file.error(f"raw id {missing[0]} of learning_map_inv must be in labels and color_map; add it")
        classes = _class_names(file, [names[raw] for raw in to_raw])
        _check_ignored(file, classes)
        return LabelMap(
            names=classes,
            to_learning=to_learning,
            to_raw=np.array(to_raw, dtype=np.uint32),
            colors=np.array([file.color(raw, colors[raw]) for raw in to_raw], dtype=np.uint8),
            split=file.split(),
            raw_names=names,
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
            if not 0 <= raw < RAW_IDS:
                raise UserError(f"{path}: category {name} has id {raw}, not 0 to {RAW_IDS - 1}; unpack it again")
            if name not in known or self.to_learning[known[name]] == UNKNOWN:
                raise UserError(
                    f"{path}: category {name} is not in the label mapping; add it to labels and learning_map of the "
                    "file that dataset_params.label_mapping names"
                )
            to_learning[raw] = self.to_learning[known[name]]
        for raw in set(self.added) - set(names):
            to_learning[raw] = self.to_learning[raw]
        ids = {name: raw for raw, name in names.items()}
        to_raw = [ids.get(self.raw_names[raw], raw) for raw in self.to_raw.tolist()]
        return replace(self, to_learning=to_learning, to_raw=np.array(to_raw, dtype=np.uint32), raw_names=dict(names))

    def adding(self, names: Mapping[int, str], color: Sequence[int] | None = None) -> LabelMap:
        """The same map for scans with points that a corruption has put there, which have raw ids of their own.

        Args:
            names: of these raw ids. One that the map has already stays what it is.
            color: None: the points are ignored (learning id 0). RGB: for pictures they get learning ids of their own,
                behind those of the K classes, with that colour and their names.
        """
        new = [raw for raw in names if self.to_learning[raw] == UNKNOWN]
        to_learning = self.to_learning.copy()
        to_learning[new] = 0 if color is None else np.arange(len(self.names), len(self.names) + len(new))
        wider = replace(self, to_learning=to_learning, added=(*self.added, *new))
        if color is None:
            return wider
        colors = np.concatenate([self.colors, np.array([color] * len(new), dtype=np.uint8).reshape(-1, 3)])
        return replace(wider, names=(*self.names, *(names[raw] for raw in new)), colors=colors)

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


def _inverse_table(file: LabelFile) -> list[int | None]:
    """What stands for each learning id in `learning_map_inv`."""
    inverse = file.ids("learning_map_inv")
    if sorted(inverse) != list(range(len(inverse))) or not 1 < len(inverse) <= UNKNOWN:
        raise file.error(f"learning_map_inv must have the learning ids 0, 1, 2, ... without a gap: {NUMBERING}")
    return [inverse[learning] for learning in range(len(inverse))]


def _forward_table(file: LabelFile, num_classes: int) -> NDArray[np.uint8]:
    table = np.full(RAW_IDS, UNKNOWN, dtype=np.uint8)
    for raw, learning in file.ids("learning_map").items():
        if learning is None or learning >= num_classes:
            found = file.written("learning_map", raw)
            raise file.error(f"learning_map sends {raw} to {found}, which is not in learning_map_inv: {NUMBERING}")
        table[raw] = learning
    return table


def _checked(file: LabelFile, inverse: Sequence[int | None], to_learning: NDArray[np.uint8]) -> list[int]:
    """Raw ids by learning id; each must come back to the learning id that names it."""
    to_raw = []
    for learning, raw in enumerate(inverse):
        if raw is None or to_learning[raw] != learning:
            found = file.written("learning_map_inv", learning)
            raise file.error(
                f"learning_map_inv sends {learning} to {found}, which learning_map does not send back to {learning}; "
                "correct one of them"
            )
        to_raw.append(raw)
    return to_raw


def _class_names(file: LabelFile, names: list[str]) -> tuple[str, ...]:
    """Names by learning id: those of the raw ids, but where `class_names` gives another."""
    if "class_names" in file:
        for learning, name in file.names("class_names").items():
            if learning >= len(names):
                raise file.error(f"class_names has {learning}, which is not in learning_map_inv; correct one")
            names[learning] = name
    for learning, name in enumerate(names):
        if (first := names.index(name)) != learning:
            raise file.error(f"the classes {first} and {learning} are both called {name}; name one in class_names")
    return tuple(names)


def _check_ignored(file: LabelFile, names: Sequence[str]) -> None:
    """Raise UserError if another class than 0 is to be left out, as far as the file tells."""
    ignored = file.flags("learning_ignore") if "learning_ignore" in file else {}
    for learning, ignore in ignored.items():
        if learning >= len(names):
            raise file.error(f"learning_ignore has {learning}, which is not in learning_map_inv: {NUMBERING}")
        if ignore != (learning == 0):
            does = "ignores" if ignore else "does not ignore"
            raise file.error(f"learning_ignore {does} {learning} ({names[learning]}), but {NUMBERING}")
    if 0 not in ignored and not _NO_CLASS.search(names[0]):
        raise file.error(
            f"learning_map_inv has {names[0]} for 0, but {NUMBERING}; or say learning_ignore: {{0: true}} if "
            f"{names[0]} is to be left out"
        )
