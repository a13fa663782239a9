"""Corrupted validation sets for tests: every subset is a copy of the clean scans without some points, by its own rule.

Independent of dataloader/corruptions: what a subset holds is known without them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np

YAN = (
    "clean_data", "fog_light", "fog_moderate", "fog_heavy", "snowfall_light", "snowfall_moderate", "snowfall_heavy",
    "local_light", "local_moderate", "local_heavy", "global_light", "global_moderate", "global_heavy", "dense_32beam",
    "sparse_32beam", "dense_16beam", "sparse_16beam",
)  # fmt: skip
"""In the order in which the published script evaluates them."""
ROBO3D = tuple(
    f"{corruption}/{severity}"
    for corruption in (
        "fog", "wet_ground", "snow", "motion_blur", "beam_missing", "crosstalk", "incomplete_echo", "cross_sensor",
    )
    for severity in ("light", "moderate", "heavy")
)  # fmt: skip
STRANGE = {"SemanticKITTI": 22, "nuScenes": 42}
"""A label id that the label mapping does not know; the first points of a subset have it."""


def kept_rows(count: int, number: int) -> np.ndarray:
    """Lists the rows of the clean scan that subset `number` keeps."""
    return np.arange(number % 3, count, 1 + number % 2)


def write_semantickitti(sequence: Path, root: Path, names: Iterable[str] = YAN) -> Path:
    """Writes <root>/<name>/{velodyne,labels} for every name, from a sequence folder, and returns `root`."""
    for number, name in enumerate(names):
        folder = root / name
        for kind in ("velodyne", "labels"):
            (folder / kind).mkdir(parents=True)
        for scan in sorted((sequence / "velodyne").glob("*.bin")):
            points = np.fromfile(scan, "<f4").reshape(-1, 4)
            labels = np.fromfile(sequence / "labels" / f"{scan.stem}.label", "<u4")
            rows = kept_rows(len(points), number)
            labels = labels[rows]
            labels[: 5 * number] = STRANGE["SemanticKITTI"]
            points[rows].tofile(folder / "velodyne" / scan.name)
            labels.tofile(folder / "labels" / f"{scan.stem}.label")
    return root


def write_nuscenes(tree: Path, version: str, root: Path, names: Iterable[str] = ROBO3D) -> Path:
    """Writes <root>/<name>/{samples/LIDAR_TOP,lidarseg/<version>} for every name, from a nuScenes tree."""
    tokens = token_of_scans(tree, version)
    for number, name in enumerate(names):
        folder = root / name
        scans, labels = folder / "samples" / "LIDAR_TOP", folder / "lidarseg" / version
        scans.mkdir(parents=True)
        labels.mkdir(parents=True)
        for scan, token in tokens.items():
            points = np.fromfile(tree / "samples" / "LIDAR_TOP" / scan, "<f4").reshape(-1, 5)
            raw = np.fromfile(tree / "lidarseg" / version / f"{token}_lidarseg.bin", np.uint8)
            rows = kept_rows(len(points), number)
            raw = raw[rows]
            raw[: 5 * number] = STRANGE["nuScenes"]
            points[rows].tofile(scans / scan)
            raw.tofile(labels / f"{token}_lidarseg.bin")
    return root


def token_of_scans(tree: Path, version: str) -> dict[str, str]:
    """Reads the token of each labelled scan, by file name, from the tables."""
    data = json.loads((tree / version / "sample_data.json").read_text())
    labelled = {entry["sample_data_token"] for entry in json.loads((tree / version / "lidarseg.json").read_text())}
    return {Path(entry["filename"]).name: entry["token"] for entry in data if entry["token"] in labelled}
