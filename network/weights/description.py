"""What a checkpoint says about itself: its config, its classes, and the scans that it was trained on.

Layout, plain values throughout, under the key `2dpass` of the checkpoint:

    geometry      what decides which voxel a point falls into: name -> list of numbers; checkpoints had it before
    description
        format          1
        config          the resolved config, section by section, as `config.yaml` of the run has it
        class_names     K names by learning id, the ignored class first
        class_colors    K lists [red, green, blue], 0..255
        raw_ids         K ids: what predictions on disk hold for each learning id
        statistics      of the training scans, or None; see `utils.scan.statistics.Statistics`

Paths in the config are those of the machine it was trained on. Nothing is opened for them but by a command that tests
on that data. Names, colours and raw ids stand here so that the label mapping of the config need not exist.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from network.weights.entries import Wrong, count, entry, plain_values, section
from network.weights.loading import is_number
from utils.config.loading import check_config
from utils.config.schema import Config
from utils.errors import UserError
from utils.label_files import RAW_IDS
from utils.labels import LabelMap
from utils.scan.statistics import PERCENTAGES, Statistics

FORMAT = 1
KEY = "description"
_WHERE = f"2dpass.{KEY}"
_MAX_NUMBERS = 16  # of one entry of the geometry
_ROUNDING = 1e-6  # of a sum of shares


@dataclass(frozen=True)
class Description:
    """A checkpoint's description of itself, checked.

    Attributes:
        format: the version of its layout.
        config: that of the training, defaults filled in.
        class_names: K names by learning id, the ignored class first.
        class_colors: K colours (red, green, blue), 0..255.
        raw_ids: K ids on disk, by learning id.
        geometry: what decides which voxel a point falls into.
        statistics: of the training scans; None: not known.
    """

    format: int
    config: Config
    class_names: tuple[str, ...]
    class_colors: tuple[tuple[int, ...], ...]
    raw_ids: tuple[int, ...]
    geometry: dict[str, tuple[float, ...]]
    statistics: Statistics | None


def describe(config: Config, label_map: LabelMap, statistics: Statistics | None) -> dict[str, Any]:
    """Make the plain values that a checkpoint holds under `2dpass.description`."""
    return {
        "format": FORMAT,
        "config": config.model_dump(mode="json"),
        "class_names": [str(name) for name in label_map.names],
        "class_colors": label_map.colors.tolist(),
        "raw_ids": label_map.to_raw.tolist(),
        "statistics": None if statistics is None else _listed(asdict(statistics)),
    }


def _listed(values: dict[str, Any]) -> dict[str, Any]:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}


def read_description(content: Mapping[str, Any], path: str | Path) -> Description | None:
    """Read and check what a checkpoint says about itself.

    Args:
        content: from `read_checkpoint`.
        path: of the checkpoint, for error messages.

    Returns:
        None: it says nothing, as published checkpoints and those of earlier versions.

    Raises:
        UserError: something of it is missing, damaged or of a newer version; names the key.
    """
    ours = content.get("2dpass")
    if not isinstance(ours, Mapping) or KEY not in ours:
        return None
    try:
        found = plain_values(section(ours, KEY, "2dpass."), _WHERE)
        version = entry(
            found, "format", lambda value: value if type(value) is int and value > 0 else None, f"{_WHERE}."
        )
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
    config = check_config(dict(section(found, "config", where)), f"{path}: {where}config")
    classes = config.model_params.num_classes

    def each(key: str, check: Any) -> tuple[Any, ...]:
        """The entry of each class."""
        return entry(found, key, lambda value: _all(value, check, classes), where)

    names, raw_ids = each("class_names", _name), each("raw_ids", _raw_id)
    for key, values in (("class_names", names), ("raw_ids", raw_ids)):
        if len(set(values)) < classes:
            raise Wrong(f"{where}{key}")
    statistics = None
    if found.get("statistics") is not None:
        statistics = _statistics(section(found, "statistics", where), classes, f"{where}statistics.")
    numbers = {
        key: entry(geometry, key, lambda value: _all(value, _real), "2dpass.geometry.")
        for key in plain_values(geometry, "2dpass.geometry")
    }
    return Description(version, config, names, each("class_colors", _color), raw_ids, numbers, statistics)


def _statistics(found: Mapping[str, Any], classes: int, where: str) -> Statistics:
    def quantiles(key: str, lowest: float = float("-inf")) -> tuple[float, ...]:
        numbers = entry(found, key, lambda value: _all(value, _real, len(PERCENTAGES)), where)
        if list(numbers) != sorted(numbers) or numbers[0] < lowest:
            raise Wrong(where + key)
        return numbers

    shares = entry(found, "class_shares", lambda value: _all(value, _real, classes), where)
    if min(shares) < 0 or abs(sum(shares) - 1) > _ROUNDING:
        raise Wrong(f"{where}class_shares")
    ground = None if found.get("ground_height") is None else entry(found, "ground_height", _real, where)
    return Statistics(
        scans=entry(found, "scans", _positive, where),
        intensity=quantiles("intensity"),
        height=quantiles("height"),
        range=quantiles("range", 0.0),
        points_per_scan=quantiles("points_per_scan", 0.0),
        ground_height=ground,
        class_shares=shares,
    )


def _all(values: Any, check: Any, number: int | None = None) -> tuple[Any, ...] | None:
    """A list whose entries all pass a check, and that has so many; None for any other."""
    if type(values) not in (list, tuple) or len(values) > max(_MAX_NUMBERS, number or 0):
        return None
    checked = tuple(map(check, values))
    return None if None in checked or (number is not None and len(checked) != number) else checked


def _real(value: Any) -> float | None:
    return float(value) if is_number(value) else None


def _positive(value: Any) -> int | None:
    return count(value) or None


def _name(value: Any) -> str | None:
    return value if type(value) is str and value.strip() and value.isprintable() else None


def _raw_id(value: Any) -> int | None:
    return value if type(value) is int and 0 <= value < RAW_IDS else None


def _level(value: Any) -> int | None:
    return value if type(value) is int and 0 <= value < 256 else None


def _color(value: Any) -> tuple[int, ...] | None:
    return _all(value, _level, 3)
