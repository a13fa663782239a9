"""Drives past points that stand still: every scan of a sequence sees the same points from another place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from utils.labels import LabelMap

MULTISCAN = Path(__file__).parents[2] / "config" / "label_mapping" / "semantic-kitti-multiscan.yaml"
TO_CAMERA = np.array([[0.0, -1, 0, 0.02], [0, 0, -1, -0.07], [1, 0, 0, -0.28], [0, 0, 0, 1]])
"""Tr: x forward, y left, z up -> x right, y down, z forward."""
RAW_IDS = np.array([10, 40, 50, 70, 252, 254], np.uint32)
SIZE = (64, 32)  # width and height of the images, pixels


def place(number: int) -> np.ndarray:
    """Returns the (4, 4) pose of the LiDAR at scan `number`: two metres further on, turned by a few degrees."""
    c, s = np.cos(0.05 * number), np.sin(0.05 * number)
    return np.array([[c, -s, 0, 2.0 * number], [s, c, 0, 0.3 * number], [0, 0, 1, 0.01 * number], [0, 0, 0, 1]])


def standing(count: int = 300, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Returns points (count, 4) x, y, z (metres), reflectance in the world, and their labels (count,) uint32.

    Labels are raw ids, with the number of an instance for what is a thing.
    """
    rng = np.random.default_rng(seed)
    points = np.column_stack([rng.uniform(-18, 30, count), rng.uniform(-18, 18, count), rng.uniform(-1.7, 1.5, count)])
    raw = RAW_IDS[rng.integers(len(RAW_IDS), size=count)]
    instance = np.where(np.isin(raw, [10, 252, 254]), raw + rng.integers(1, 4, count).astype(np.uint32), 0)
    return np.column_stack([points, rng.random(count)]), raw | (instance.astype(np.uint32) << np.uint32(16))


def lines_of(poses: Sequence[np.ndarray]) -> str:
    """Writes poses (4, 4) of the LiDAR as poses.txt has them: of camera 0."""
    of_camera = [TO_CAMERA @ pose @ np.linalg.inv(TO_CAMERA) for pose in poses]
    return "".join(" ".join(map(repr, pose[:3].ravel().tolist())) + "\n" for pose in of_camera)


def write_drive(
    folder: Path, scans: Mapping[str, int] | Sequence[int], lines: int | None = None, labels: bool = True, seed: int = 0
) -> Path:
    """Writes a sequence, and returns its folder.

    Args:
        folder: of the sequence.
        scans: name -> number of each scan, at `place(number)`; or the numbers of scans that are called as KITTI's.
        lines: of poses.txt; None: up to the last scan.
        labels: whether there are labels.
        seed: of the points.
    """
    numbers = scans if isinstance(scans, Mapping) else {f"{number:06d}": number for number in scans}
    points, raw = standing(seed=seed)
    for kind in ("velodyne", "image_2", *(["labels"] if labels else [])):
        (folder / kind).mkdir(parents=True)
    for name, number in numbers.items():
        seen = np.linalg.inv(place(number)) @ np.vstack([points[:, :3].T, np.ones(len(points))])
        np.column_stack([seen[:3].T, points[:, 3]]).astype("<f4").tofile(folder / "velodyne" / f"{name}.bin")
        picture = np.random.default_rng(number).integers(256, size=(SIZE[1], SIZE[0], 3), dtype=np.uint8)
        Image.fromarray(picture).save(folder / "image_2" / f"{name}.png")
        if labels:
            raw.astype("<u4").tofile(folder / "labels" / f"{name}.label")
    transform = " ".join(map(repr, TO_CAMERA[:3].ravel().tolist()))
    (folder / "calib.txt").write_text(f"P2: 30 0 32 0 0 30 16 0 0 0 1 0\nTr: {transform}\n")
    count = max(numbers.values()) + 1 if lines is None else lines
    (folder / "poses.txt").write_text(lines_of([place(number) for number in range(count)]))
    return folder


def write_drives(root: Path) -> Path:
    """Writes sequences 00 of 5 scans, 08 of 4 and 11 of 3 without labels, and returns `root`."""
    for sequence, count in (("00", 5), ("08", 4), ("11", 3)):
        write_drive(root / sequence, range(count), labels=sequence != "11", seed=int(sequence))
    return root


def multiscan(**split: Sequence[str]) -> LabelMap:
    """Loads the label mapping of multi-scan, with other sequences in a part of the split."""
    label_map = LabelMap.load(MULTISCAN)
    return replace(label_map, split={**label_map.split, **{part: tuple(names) for part, names in split.items()}})
