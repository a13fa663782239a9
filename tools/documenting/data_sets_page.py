"""The page docs/reference/data-sets.md: sensor, splits and classes of each data set."""

from __future__ import annotations

import numpy as np

from dataloader.catalogue import DATA_SETS
from dataloader.corruptions.families import added_labels
from dataloader.datasets.data_set import DataSet
from tools.documenting.markdown import code, page, table
from utils.labels import LabelMap
from utils.paths import REPOSITORY

_INTRODUCTION = """\
Each data set has a label mapping: which learning id each raw id becomes, and how classes are called and coloured.
[SemanticKITTI](../data/semantickitti.md) and [nuScenes](../data/nuscenes.md) say where the files come from."""


_FURTHER = {"SemanticKITTI": {"multi-scan": "config/label_mapping/semantic-kitti-multiscan.yaml"}}
"""By data set: the label mappings of further tasks on it."""


def data_sets_page() -> str:
    """Returns the page."""
    return page("Data sets", _INTRODUCTION, *(block for data_set in DATA_SETS.values() for block in _blocks(data_set)))


def _blocks(data_set: DataSet) -> list[str]:
    labels, sensor = LabelMap.load(data_set.label_mapping_path), data_set.sensor
    splits = "; ".join(f"{part}: {', '.join(names)}" for part, names in labels.split.items())
    unseen = "is left out of the mean" if data_set.skips_unseen else "counts 0 in the mean"
    facts = (
        ("`dataset_params.pc_dataset_type`", code(data_set.name)),
        ("label mapping", code(data_set.label_mapping)),
        ("classes", f"{len(labels.names) - 1}, and the ignored one"),
        ("splits", splits or "as its devkit defines them"),
        ("a class that neither occurs nor is predicted", unseen),
        ("LiDAR", f"{sensor.beams} beams, {sensor.top:g} to {sensor.bottom:g} degrees, {sensor.forward} ahead"),
        ("intensity", f"0 to {sensor.intensity_max:g}"),
        ("families of corruptions", ", ".join(map(code, data_set.families))),
        ("raw ids of points that Robo3D adds", ", ".join(f"{raw} {name}" for raw, name in _added(data_set))),
    )
    further = [
        block for task, path in _FURTHER.get(data_set.name, {}).items() for block in _further(data_set.name, task, path)
    ]
    return [f"## {data_set.name}", table(("what", "value"), facts), _classes(labels), *further]


def _further(name: str, task: str, path: str) -> list[str]:
    labels = LabelMap.load(REPOSITORY / path)
    moving = f"{labels.moving[0]} to {labels.moving[-1]} move"
    text = f"{code(path)}: {len(labels.names) - 1} classes, and the ignored one. Of the learning ids, {moving}."
    return [f"### {name}, {task}", text, _classes(labels)]


def _classes(labels: LabelMap) -> str:
    header = ("learning id", "class", "colour", "raw ids")
    rows = [
        (str(number), name, _colour(labels, number), _raw_ids(labels, number))
        for number, name in enumerate(labels.names)
    ]
    return table(header, rows, right=(0,))


def _added(data_set: DataSet) -> list[tuple[int, str]]:
    return list(added_labels(data_set.name).items())


def _colour(labels: LabelMap, number: int) -> str:
    return code("#" + "".join(f"{part:02x}" for part in labels.colors[number].tolist()))


def _raw_ids(labels: LabelMap, number: int) -> str:
    ids = np.flatnonzero(labels.to_learning == number).tolist()
    return ", ".join(f"{raw} {labels.raw_names.get(raw, '')}".strip() for raw in ids)
