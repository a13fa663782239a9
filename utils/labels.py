"""The label map: names, colours, splits, and the maps between ids on disk (raw) and ids of the network (learning)."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from utils.errors import UserError
from utils.label_files import NUMBERING, RAW_IDS, LabelFile

UNKNOWN = 255
"""Entry of `LabelMap.to_learning` for a raw id that the map does not have."""


_NO_CLASS = re.compile("unl|unk|unc|und|ignore|noise|void|outlier|invalid|none|other|background|no.?label|care", re.I)
"""Words in the names of classes that data sets do not mean to be learnt."""


@dataclass(frozen=True)
class LabelMap:
    """A frozen record of the K classes of a data set.

    Attributes:
        names: K class names by learning id; the first is the name of ignored points ("unlabeled", "noise").
        to_learning: (65536,) uint8, learning id of every raw id; `UNKNOWN` where the map has none.
        to_raw: (K,) uint32, the raw id that a submission has for each learning id.
        colors: (K, 3) uint8, RGB.
        split: "train", "valid", "test" -> names of their sequences ("00"); empty if the data set has its own splits.
        raw_names: raw id -> name; several raw ids can belong to one class.
        added: raw ids that are not in the data set itself; see `adding`.
        moving: learning ids of the classes that move, where the map tells them from those that stand still.
    """

    names: tuple[str, ...]
    to_learning: NDArray[np.uint8]
    to_raw: NDArray[np.uint32]
    colors: NDArray[np.uint8]
    split: dict[str, tuple[str, ...]]
    raw_names: dict[int, str]
    added: tuple[int, ...] = ()
    moving: tuple[int, ...] = ()

    @staticmethod
    def load(path: str | Path) -> LabelMap:
        """Reads a label mapping in the vocabulary of the semantic-kitti-api.

        Args:
            path: YAML with `labels` (raw id: name), `color_map` (raw id: [b, g, r]), `learning_map` (raw id: learning
                id, 0 if ignored) and `learning_map_inv` (learning id: raw id). Optional are `split` (train, valid,
                test: names of sequences), `class_names` (learning id: name, if the name of the class differs from
                that of its raw id) and `learning_moving` (learning id: does the class move?). `learning_ignore` may
                repeat that 0 is ignored, and nothing else.

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
            moving=_moving(file, classes),
        )

    def with_raw_names(self, names: Mapping[int, str], path: str | Path) -> LabelMap:
        """Returns the same classes for a data set that defines its raw ids itself; they are matched by name.

        nuScenes is one: category.json of each version gives the ids, in any order.

        Args:
            names: raw id -> name in that data set.
            path: the file they come from, for the error message.

        Returns:
            The map with `to_learning`, `to_raw` and `raw_names` in the ids of `names`. A class of `to_raw` whose name
            the data set does not have keeps its raw id.

        Raises:
            UserError: the map does not have one of the names, or an id is not in 0..65535.
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
        """Returns the map with further raw ids, those of points that a corruption has added.

        Args:
            names: raw id -> name of these points. A raw id that the map has already does not change.
            color: None ignores the points (learning id 0). With an RGB colour, for pictures, they get new learning ids
                after those of the K classes, with that colour and their names.
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
        """Returns the map with unknown raw ids ignored (learning id 0) instead of an error.

        This is for data sets with further ids on points that are not scored, such as returns of snow.
        """
        known = self.to_learning != UNKNOWN
        return replace(self, to_learning=np.where(known, self.to_learning, 0).astype(np.uint8))

    def classes_called(self, names: Collection[str]) -> tuple[int, ...]:
        """Returns the learning ids, without the ignored 0, of the classes whose raw id in `to_raw` has such a name."""
        raw = self.to_raw.tolist()
        return tuple(learning for learning in range(1, len(raw)) if self.raw_names[raw[learning]] in names)

    def learning_ids(self, raw: NDArray[np.unsignedinteger], path: str | Path) -> NDArray[np.uint8]:
        """Looks up the learning ids of raw ids in one table.

        Args:
            raw: (N,) unsigned integers below 65536 (SemanticKITTI: the lower 16 bits of the label).
            path: the file they come from, for the error message.

        Returns:
            (N,) uint8.

        Raises:
            UserError: an id is not in the map; the message names the file, the id and the number of points with it.
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
    """Returns the entry of each learning id in `learning_map_inv`."""
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
    """Returns the raw ids by learning id, after a check that `learning_map` maps each back to its learning id."""
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
    """Returns the names by learning id: those of `class_names`, else those of the raw ids."""
    if "class_names" in file:
        for learning, name in file.names("class_names").items():
            if learning >= len(names):
                raise file.error(f"class_names has {learning}, which is not in learning_map_inv; correct one")
            names[learning] = name
    for learning, name in enumerate(names):
        if (first := names.index(name)) != learning:
            raise file.error(f"the classes {first} and {learning} are both called {name}; name one in class_names")
    return tuple(names)


def _moving(file: LabelFile, names: Sequence[str]) -> tuple[int, ...]:
    """Returns the learning ids that the file says move; none where it says nothing."""
    flags = file.flags("learning_moving") if "learning_moving" in file else {}
    for learning in flags:
        if not 0 < learning < len(names):
            raise file.error(f"learning_moving has {learning}, which is no class of learning_map_inv; remove it")
    return tuple(sorted(learning for learning, moves in flags.items() if moves))


def _check_ignored(file: LabelFile, names: Sequence[str]) -> None:
    """Raises UserError if the file says that another class than 0 is ignored, or if class 0 looks like a real class."""
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
