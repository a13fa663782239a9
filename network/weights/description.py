"""The description in a checkpoint: its config, its classes, and the statistics of its training scans.

The layout, under the key `2dpass` of the checkpoint, with plain values only:

    geometry      what decides which voxel a point falls into: name -> list of numbers; older checkpoints have it too
    pretraining   true in checkpoints of a pre-training without labels, see `network.weights.pretrained`; else not there
    description
        format          1
        config          the resolved config, section by section, as `config.yaml` of the run has it
        class_names     K names by learning id, the ignored class first
        class_colors    K lists [red, green, blue], 0..255
        raw_ids         K ids: what predictions on disk hold for each learning id
        raw_names       pairs [raw id, name] of all ids on disk
        learning_map    pairs [raw id, learning id]; ids that the training did not know are left out
        moving          learning ids of the classes that move; empty where the classes do not tell, and not there in
                        checkpoints of earlier versions
        split           train, valid and test -> names of sequences; empty where the data set has its own splits
        statistics      of the training scans, or None; see `utils.scan.statistics.Statistics`; earlier versions have
                        written it without `traits`
        began_with      the checkpoint from which a fine-tuning began, and what that was trained on, a phrase; not there
                        where the training began new

Paths in the config are those of the machine of the training. Only a command that tests on that data opens them. The
label map is here as a whole, so that the file of `dataset_params.label_mapping` need not exist.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from network.weights.entries import Wrong, entry, is_number, plain_values, positive, section
from utils.config.loading import check_config
from utils.config.schema import Config
from utils.errors import UserError
from utils.label_files import RAW_IDS, SPLITS
from utils.labels import UNKNOWN, LabelMap
from utils.names import is_folder_name
from utils.scan.statistics import Statistics
from utils.scan.traits import PERCENTAGES, TRAITS
from utils.text import printable, shortened

FORMAT = 1
DESCRIPTION = "description"
_WHERE = f"2dpass.{DESCRIPTION}"
_ROUNDING = 1e-6  # rounding error of a sum of shares
_MAX_VALUES = 1 << 18  # more than the ids of a label mapping and the sequences of a split can be
_MAX_OF_CONFIG = 600  # values
_LONGEST = 500  # characters of a message about the config
_LONGEST_BEGINNING = 300  # characters of what a fine-tuning began with


@dataclass(frozen=True)
class Description:
    """The checked description in a checkpoint.

    Attributes:
        format: the version of its layout.
        config: the config of the training, with defaults filled in.
        label_map: names, colours and raw ids of its K classes, and which raw ids they are made of.
        geometry: what decides which voxel a point falls into.
        statistics: statistics of the training scans; None: not known.
        began: the checkpoint from which the fine-tuning began, and what that was trained on; "": none.
    """

    format: int
    config: Config
    label_map: LabelMap
    geometry: dict[str, tuple[float, ...]]
    statistics: Statistics | None
    began: str = ""


def describe(config: Config, label_map: LabelMap, statistics: Statistics | None, began: str = "") -> dict[str, Any]:
    """Builds the plain values that a checkpoint holds under `2dpass.description`; `began`: see `Description`."""
    known = np.setdiff1d(np.flatnonzero(label_map.to_learning != UNKNOWN), label_map.added)
    return {
        "format": FORMAT,
        "config": config.model_dump(mode="json"),
        "class_names": list(label_map.names),
        "class_colors": label_map.colors.tolist(),
        "raw_ids": label_map.to_raw.tolist(),
        "raw_names": [[raw, name] for raw, name in label_map.raw_names.items()],
        "learning_map": [[raw, int(label_map.to_learning[raw])] for raw in known.tolist()],
        "moving": list(label_map.moving),
        "split": {part: list(names) for part, names in label_map.split.items()},
        "statistics": None if statistics is None else _listed(asdict(statistics)),
        **({"began_with": shortened(printable(began), _LONGEST_BEGINNING)} if began else {}),
    }


def _listed(values: dict[str, Any]) -> dict[str, Any]:
    def listed(value: Any) -> Any:
        if isinstance(value, dict):
            return _listed(value)
        return list(value) if isinstance(value, tuple) else value

    return {key: listed(value) for key, value in values.items()}


def read_description(content: Mapping[str, Any], path: str | Path) -> Description | None:
    """Reads and checks the description in a checkpoint.

    Args:
        content: from `read_checkpoint`.
        path: path of the checkpoint, for error messages.

    Returns:
        The description; None if there is none, as in published checkpoints and those of earlier versions.

    Raises:
        UserError: an entry is missing, damaged or of a newer version; the message names its key.
    """
    ours = content.get("2dpass")
    if not isinstance(ours, Mapping) or DESCRIPTION not in ours:
        return None
    try:
        found = plain_values(section(ours, DESCRIPTION, "2dpass."), _WHERE, _MAX_VALUES)
        version = entry(found, "format", positive, f"{_WHERE}.")
        if version > FORMAT:
            raise UserError(
                f"{path}: {_WHERE}.format is {version}, but this version of the program knows up to {FORMAT}; use the "
                "version that wrote the checkpoint, or a newer one"
            )
        return _checked(found, version, section(ours, "geometry", "2dpass."), path)
    except Wrong as wrong:
        raise UserError(f"{path}: {wrong} is missing or damaged; download or copy the file again") from None


def _checked(found: Mapping[str, Any], version: int, geometry: Mapping[Any, Any], path: str | Path) -> Description:
    where = f"{_WHERE}."
    config = _config(plain_values(section(found, "config", where), f"{where}config", _MAX_OF_CONFIG), path)
    classes = config.model_params.num_classes
    statistics = None
    if found.get("statistics") is not None:
        statistics = _statistics(section(found, "statistics", where), classes, f"{where}statistics.")
    plain = plain_values(geometry, "2dpass.geometry")
    numbers = {key: entry(plain, key, lambda value: _all(value, _real), "2dpass.geometry.") for key in plain}
    began = entry(found, "began_with", _beginning, where) if "began_with" in found else ""
    return Description(version, config, _label_map(found, classes, where), numbers, statistics, began)


def _config(found: dict[str, Any], path: str | Path) -> Config:
    try:
        return check_config(found, f"{path}: {_WHERE}.config")
    except UserError as error:
        raise UserError(shortened(str(error), _LONGEST)) from None


def _label_map(found: Mapping[str, Any], classes: int, where: str) -> LabelMap:
    def each(key: str, check: Check, number: int | None = None) -> tuple[Any, ...]:
        """Returns a checked list with `number` values, or with any number of them."""
        return entry(found, key, lambda value: _all(value, check, number), where)

    names, raw_ids = each("class_names", _name, classes), each("raw_ids", _raw_id, classes)
    raw_names = dict(each("raw_names", _pair(_name)))
    moving = each("moving", _raw_id) if "moving" in found else ()
    learning = dict(each("learning_map", _pair(lambda value: value if _raw_id(value) in range(classes) else None)))
    for key, wrong in (
        ("class_names", len(set(names)) < classes),
        ("raw_ids", any(learning.get(raw) != number for number, raw in enumerate(raw_ids))),
        ("raw_names", any(raw not in raw_names for raw in raw_ids)),
        ("moving", sorted(set(moving) & set(range(1, classes))) != list(moving)),
    ):
        if wrong:
            raise Wrong(where + key)
    split = section(found, "split", where)
    if not set(split) <= set(SPLITS):
        raise Wrong(f"{where}split")
    to_learning = np.full(RAW_IDS, UNKNOWN, dtype=np.uint8)
    for raw, number in learning.items():
        to_learning[raw] = number
    return LabelMap(
        names=names,
        to_learning=to_learning,
        to_raw=np.array(raw_ids, dtype=np.uint32),
        colors=np.array(each("class_colors", lambda value: _all(value, _level, 3), classes), dtype=np.uint8),
        split={part: entry(split, part, lambda value: _all(value, _folder), f"{where}split.") for part in split},
        raw_names=raw_names,
        moving=moving,
    )


def _quantiles(found: Mapping[str, Any], key: str, where: str, lowest: float = float("-inf")) -> tuple[float, ...]:
    numbers = entry(found, key, lambda value: _all(value, _real, len(PERCENTAGES)), where)
    if list(numbers) != sorted(numbers) or numbers[0] < lowest:
        raise Wrong(where + key)
    return numbers


def _traits(found: Mapping[str, Any], where: str) -> dict[str, tuple[float, ...]]:
    """Checks the traits that this version knows; there are none in a checkpoint of an earlier one."""
    traits = section(found, "traits", where) if "traits" in found else {}
    return {name: _quantiles(traits, name, f"{where}traits.") for name in TRAITS if name in traits}


def _statistics(found: Mapping[str, Any], classes: int, where: str) -> Statistics:
    quantiles = partial(_quantiles, found, where=where)
    shares = entry(found, "class_shares", lambda value: _all(value, _real, classes), where)
    if min(shares) < 0 or abs(sum(shares) - 1) > _ROUNDING:
        raise Wrong(f"{where}class_shares")
    ground = None if found.get("ground_height") is None else entry(found, "ground_height", _real, where)
    return Statistics(
        scans=entry(found, "scans", positive, where),
        intensity=quantiles("intensity"),
        height=quantiles("height"),
        range=quantiles("range", lowest=0.0),
        points_per_scan=quantiles("points_per_scan", lowest=0.0),
        ground_height=ground,
        class_shares=shares,
        traits=_traits(found, where),
    )


Check = Callable[[Any], Any]
"""A function that returns the checked form of a value, or None if the value is wrong."""


def _all(values: Any, check: Check, number: int | None = None) -> tuple[Any, ...] | None:
    """Checks every entry of a list of `number` entries; returns None if one is wrong or the number differs."""
    if type(values) is not list or (number is not None and len(values) != number):
        return None
    checked = tuple(map(check, values))
    return None if any(value is None for value in checked) else checked


def _pair(check: Check) -> Check:
    """Returns a check of a list of two: a raw id, and a value that `check` accepts."""

    def both(value: Any) -> tuple[Any, ...] | None:
        if type(value) is not list or len(value) != 2:
            return None
        pair = _raw_id(value[0]), check(value[1])
        return None if None in pair else pair

    return both


def _real(value: Any) -> float | None:
    return float(value) if is_number(value) else None


def _name(value: Any) -> str | None:
    return value if type(value) is str and value.strip() and value.isprintable() else None


def _beginning(value: Any) -> str | None:
    return value if _name(value) and len(value) <= _LONGEST_BEGINNING else None


def _folder(value: Any) -> str | None:
    return value if is_folder_name(value) else None


def _raw_id(value: Any) -> int | None:
    return value if type(value) is int and 0 <= value < RAW_IDS else None


def _level(value: Any) -> int | None:
    return value if type(value) is int and 0 <= value < 256 else None
