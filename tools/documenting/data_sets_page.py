"""docs/reference/data-sets.md: sensor, splits and classes of each data set."""

from __future__ import annotations

import numpy as np

from dataloader.corruptions.families import FAMILIES, added_labels
from tools.documenting.markdown import code, page, table
from utils.labels import UNKNOWN, LabelMap
from utils.paths import REPOSITORY
from utils.scan.sensor import NUSCENES, SEMANTICKITTI, Sensor

_INTRODUCTION = """Each data set has a label mapping in `config/label_mapping/`: which learning id each raw id becomes, and how classes
are called and coloured. [SemanticKITTI](../data/semantickitti.md) and [nuScenes](../data/nuscenes.md) say where the files
come from."""

_MAPPINGS = {"SemanticKITTI": "semantic-kitti.yaml", "nuScenes": "nuscenes.yaml"}


def data_sets_page() -> str:
    """Return the page."""
    return page("Data sets", _INTRODUCTION, *(block for sensor in (SEMANTICKITTI, NUSCENES) for block in _blocks(sensor)))


def _blocks(sensor: Sensor) -> list[str]:
    mapping = f"config/label_mapping/{_MAPPINGS[sensor.name]}"
    labels = LabelMap.load(REPOSITORY / mapping)
    corrupted = ", ".join(f"`{family}`" for family, datasets in FAMILIES.items() if sensor.name in datasets)
    splits = "; ".join(f"{part}: {', '.join(names)}" for part, names in labels.split.items())
    added = ", ".join(f"{raw} {name}" for raw, name in added_labels(sensor.name).items())
    facts = (
        ("`dataset_params.pc_dataset_type`", code(sensor.name)),
        ("label mapping", code(mapping)),
        ("classes", f"{len(labels.names) - 1}, and the ignored one"),
        ("splits", splits or "those of nuscenes-devkit"),
        ("LiDAR", f"{sensor.beams} beams, {sensor.top:g} to {sensor.bottom:g} degrees"),
        ("intensity", f"0 to {sensor.intensity_max:g}"),
        ("families of corruptions", corrupted),
        ("raw ids of altered points (Robo3D)", added),
    )
    header = ("learning id", "class", "colour", "raw ids")
    rows = [(str(number), labels.names[number], _colour(labels, number), _raw(labels, number))
            for number in range(len(labels.names))]  # fmt: skip
    return [f"## {sensor.name}", table(("what", "value"), facts), table(header, rows, right=(0,))]


def _colour(labels: LabelMap, number: int) -> str:
    return code("#" + "".join(f"{part:02x}" for part in labels.colors[number].tolist()))


def _raw(labels: LabelMap, number: int) -> str:
    known = np.flatnonzero((labels.to_learning == number) & (labels.to_learning != UNKNOWN)).tolist()
    return ", ".join(f"{raw} {labels.raw_names.get(raw, '')}".strip() for raw in known)
