"""The parts that exported models of every format share: what can be exported, the folder, and `model.json` in it.

The layout of `model.json`, in plain values:

    format_version  1
    architecture    arch_2dpass, minkowskinet or spvcnn
    names           K names of the classes, the ignored one first
    colors          K lists [red, green, blue], 0..255
    raw_ids         K ids: what label files hold for each class
    volume          arch_2dpass: the lower and the upper corner of the box whose points the network labels, metres;
                    else null
    grid            arch_2dpass: the number of voxels along x, y and z at scale 1
    scales          arch_2dpass: the scale after each block of the encoder
    voxel_size      arch_2dpass: the edges along x, y and z of a voxel at scale 1, metres; else the edge of a voxel
    sensor          the data set's name, the axis of its frame that points forward, and its largest intensity
    statistics      of the training scans, see `utils.scan.statistics.Statistics`; null: not known
    usual           "intensity", "height" (metres) and "range" (metres) -> the lowest and the highest median of a scan
                    that fits the training; empty: not known
    checkpoint      the sha256 of the file that was exported
    files           name of a file of the folder -> its sha256, and for a model how its weights are stored
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from network.trained_past import TrainedPast
from network.weights.configuration import Tested
from utils.config.model import ModelParams
from utils.errors import UserError
from utils.files import read_text, sha256_of, write_text
from utils.scan.sensor import sensor_called
from utils.scan.statistics import PERCENTAGES, Statistics
from utils.scan.volume import Volume

FORMAT_VERSION = 1
DESCRIPTION = "model.json"
MODELS = {"onnx": "model.onnx", "torch": "model.pt2"}
"""Name of a format -> the file of its model."""
RUNNER = "run_onnx.py"
COMPILED = "model_cpu.pt2"
WEIGHTS = ("fp32", "fp16", "int8")
"""How the weights of a model may be stored: as trained, in half precision, or in 8 bits with a scale per row."""

_FACTOR, _SHIFT = 4.0, 1.2
"""Factor of the median intensity and range, and metres of the median height, that no other place explains."""
_OURS = {DESCRIPTION, RUNNER, COMPILED, *MODELS.values()}
_MOST_BYTES = 1 << 20  # of a model.json


def refuse(tested: Tested) -> None:
    """Refuses a checkpoint that cannot be exported.

    Raises:
        UserError: the network takes points of past scans.
    """
    if (past := TrainedPast.of(tested.config)).taken:
        raise UserError(
            f"{tested.path}: {past} and takes their points (model_params.input_dims is 5), which exported models do "
            "not; export a network that was trained on single scans, with input_dims 4"
        )


def describe(tested: Tested) -> dict[str, Any]:
    """Describes a checkpoint as `model.json` does; `files` is empty.

    Raises:
        UserError: the classes of the checkpoint are not known.
    """
    model, data, label_map = tested.config.model_params, tested.config.dataset_params, tested.classes
    sensor, statistics = sensor_called(data.pc_dataset_type), tested.description and tested.description.statistics
    if isinstance(model, ModelParams):
        volume = Volume(*data.bounds, model.spatial_shape)
        geometry = {
            "volume": data.bounds,
            "grid": model.spatial_shape,
            "scales": model.scale_list,
            "voxel_size": volume.voxel_size,
        }
    else:
        geometry = {"volume": None, "voxel_size": model.voxel_size}
    return {
        "format_version": FORMAT_VERSION,
        "architecture": model.model_architecture,
        "names": label_map.names,
        "colors": label_map.colors.tolist(),
        "raw_ids": label_map.to_raw.tolist(),
        **geometry,
        "sensor": {"name": sensor.name, "forward": sensor.forward, "intensity_max": sensor.intensity_max},
        "statistics": None if statistics is None else asdict(statistics),
        "usual": {} if statistics is None else _usual(statistics),
        "checkpoint": {"sha256": tested.sha256},
        "files": {},
    }


def _usual(statistics: Statistics) -> dict[str, tuple[float, float]]:
    """Returns between which bounds medians of a scan lie, unless its unit or its frame is not that of the training."""
    middle = {name: getattr(statistics, name)[PERCENTAGES.index(50)] for name in ("intensity", "height", "range")}
    bounds = {name: (middle[name] / _FACTOR, middle[name] * _FACTOR) for name in ("intensity", "range") if middle[name]}
    return bounds | {"height": (middle["height"] - _SHIFT, middle["height"] + _SHIFT)}


def check_folder(folder: Path, description: Mapping[str, Any], model: str) -> dict[str, Any]:
    """Checks that an export may go into a folder, and returns what of an earlier one stays there.

    Args:
        folder: the folder, which need not exist.
        description: from `describe`.
        model: the file that is to be written, of `MODELS`.

    Returns:
        The `files` of `model.json` that go on to be true beside the new model.

    Raises:
        UserError: it is no folder, holds files of something else, or a model of another checkpoint in another format.
    """
    if folder.is_symlink() and not folder.exists():
        raise UserError(f"{folder}: a link that leads nowhere; choose another folder for --output")
    if not folder.exists():
        return {}
    if not folder.is_dir():
        raise UserError(f"{folder}: is no folder; choose another place for --output")
    others = sorted(path.name for path in folder.iterdir() if path.name not in _OURS or not path.is_file())
    if others:
        more = f" and {len(others) - 1} more" if len(others) > 1 else ""
        raise UserError(f"{folder}: holds {others[0]}{more}, no file of an export; choose another folder for --output")
    if not any(folder.iterdir()):
        return {}
    if (before := _read(folder / DESCRIPTION)) is None:
        raise UserError(
            f"{folder}: its files are those of no export ({DESCRIPTION} is missing or of something else); choose "
            "another folder for --output"
        )
    kept = {name: entry for name, entry in before["files"].items() if name in MODELS.values() and name != model}
    kept = {name: entry for name, entry in kept.items() if (folder / name).is_file()}
    if kept and {**before, "files": {}} != json.loads(json.dumps(description)):
        raise UserError(
            f"{folder}: {next(iter(kept))} in it is of another checkpoint or config, and both models would share "
            f"{DESCRIPTION}; remove it, or choose another folder for --output"
        )
    if kept and RUNNER in before["files"] and (folder / RUNNER).is_file():
        kept[RUNNER] = before["files"][RUNNER]
    return kept


def write_description(folder: Path, description: Mapping[str, Any], files: Mapping[str, Mapping[str, Any]]) -> None:
    """Writes `model.json`, last of all files of an export.

    Args:
        folder: the folder of the export.
        description: from `describe`.
        files: name of each file -> what `model.json` says of it besides its sha256, or with it, as it stays.
    """
    known = {name: {"sha256": sha256_of(folder / name), **entry} for name, entry in files.items()}
    content = {**description, "files": dict(sorted(known.items()))}
    write_text(folder / DESCRIPTION, json.dumps(content, indent=1, allow_nan=False) + "\n")


def _read(path: Path) -> dict[str, Any] | None:
    """Reads the `model.json` of an earlier export; None if the file is none."""
    try:
        if path.stat().st_size > _MOST_BYTES:
            return None
        found = json.loads(read_text(path))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(found, dict) or not isinstance(found.get("files"), dict) or "format_version" not in found:
        return None
    return found if all(isinstance(entry, dict) for entry in found["files"].values()) else None
