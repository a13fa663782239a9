"""The clean validation set: its frames, their reading, and the places of their corrupted copies."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from dataloader.catalogue import DATA_SETS
from dataloader.corruptions.beams import rings_of
from dataloader.corruptions.sweep import Sweep
from dataloader.datasets.nuscenes.source import NuScenes
from dataloader.datasets.semantickitti.source import SemanticKITTI
from dataloader.formats.files import read_bytes, read_point_file
from utils.errors import UserError
from utils.labels import UNKNOWN, LabelMap
from utils.scan.sensor import NUSCENES, SEMANTICKITTI, Sensor

_SPLITS = {"v1.0-trainval": "val", "v1.0-mini": "mini_val"}


@dataclass(frozen=True)
class CleanFrame:
    """A frame of the clean set.

    Attributes:
        key: name in notes, on which the frame's random numbers depend.
        scan, labels: paths of its files.
        scan_to, labels_to: paths of the corrupted files, below the folder of a subset.
    """

    key: str
    scan: Path
    labels: Path
    scan_to: str
    labels_to: str


@dataclass(frozen=True)
class CleanSet:
    """The clean validation set.

    Attributes:
        sensor: sensor of the scans.
        columns: number of float32 columns of a scan file.
        label_type: dtype of the entries of a label file.
        label_map: map from raw ids to learning ids.
        frames: the frames, in order.
        about: plain values that identify the scans, for the note.
    """

    sensor: Sensor
    columns: int
    label_type: str
    label_map: LabelMap
    frames: tuple[CleanFrame, ...]
    about: dict[str, Any]

    def read(self, frame: CleanFrame) -> tuple[Sweep, np.ndarray]:
        """Reads a frame.

        Returns:
            The scan with its learning ids, without the points that have a coordinate which is not finite; and the
            entries of the label file, of all points.

        Raises:
            UserError: a file is missing, empty or truncated, or scan and labels do not belong together.
        """
        xyz, intensity = read_point_file(frame.scan, self.columns)
        count = len(xyz)
        entries = self._read_labels(frame.labels, count)
        if self.columns == 5:
            stored = read_bytes(frame.scan, "scan").view("<f4").reshape(-1, 5)[:, 4]
            ring = np.clip(np.nan_to_num(stored), 0, self.sensor.beams - 1).astype(np.int32)
        else:
            ring = rings_of(xyz, self.sensor)
        sweep = Sweep(
            xyz=xyz,
            intensity=intensity,
            labels=self.learning_ids(entries),
            ring=ring,
            rows=np.arange(count, dtype=np.int64),
            altered=np.zeros(count, dtype=bool),
            sensor=self.sensor,
        )
        finite = np.all(np.isfinite(xyz), axis=1)
        return sweep if finite.all() else sweep.select(finite), entries

    def count(self, frame: CleanFrame) -> int:
        """Counts the points in the scan, from the size of its file."""
        return frame.scan.stat().st_size // (4 * self.columns)

    def _read_labels(self, path: Path, count: int) -> np.ndarray:
        """Reads the entries of a label file, (count,); ids outside the label mapping become the id of class 0.

        Raises:
            UserError: the file is missing, or has another number of points.
        """
        content = read_bytes(path, "labels")
        size = np.dtype(self.label_type).itemsize
        if content.size != size * count:
            raise UserError(
                f"{path}: {content.size / size:g} labels for {count} points; scan and labels do not belong together or "
                "one is truncated: unpack both again"
            )
        entries = content.view(self.label_type)
        known = self.label_map.to_learning[semantic(entries)] != UNKNOWN
        return entries if known.all() else np.where(known, entries, self.ignored_id).astype(self.label_type)

    @property
    def ignored_id(self) -> int:
        """The raw id of class 0."""
        return int(self.label_map.to_raw[0])

    def learning_ids(self, entries: np.ndarray) -> np.ndarray:
        """Returns the learning ids of label file entries, (N,) uint8; 0 for ids outside the label mapping."""
        learning = self.label_map.to_learning[semantic(entries)]
        return np.where(learning == UNKNOWN, 0, learning).astype(np.uint8)


def semantic(entries: np.ndarray) -> np.ndarray:
    """Returns the raw ids of label file entries: the low half of SemanticKITTI's, the whole of nuScenes'."""
    return entries & 0xFFFF if entries.dtype.itemsize == 4 else entries


def semantickitti(data_path: Path, sequence: str) -> CleanSet:
    """Finds a sequence of SemanticKITTI.

    Args:
        data_path: the folder of the sequences.
        sequence: its name, "08" for the validation set.

    Raises:
        UserError: the sequence does not exist, or has no scans or no labels.
    """
    label_map = LabelMap.load(DATA_SETS["SemanticKITTI"].label_mapping_path)
    if not (data_path / sequence / "velodyne").is_dir():
        raise UserError(
            f"{data_path / sequence}: no scans of sequence {sequence} there; correct --data_path or --sequence, or "
            "make a street with tools/make_demo_data.py"
        )
    source = SemanticKITTI(data_path, "valid", replace(label_map, split={"valid": (sequence,)}))
    frames = [
        CleanFrame(
            key=f.name,
            scan=Path(f.path),
            labels=data_path / f.sequence / "labels" / f"{f.name}.label",
            scan_to=f"velodyne/{f.name}.bin",
            labels_to=f"labels/{f.name}.label",
        )
        for f in source.frames
    ]
    return _clean_set(SEMANTICKITTI, 4, "<u4", label_map, frames, {"sequence": sequence})


def nuscenes(data_path: Path, version: str | None) -> CleanSet:
    """Finds the validation split of nuScenes-lidarseg.

    Args:
        data_path: the folder that holds the tables' folder and samples.
        version: "v1.0-trainval" or "v1.0-mini"; None: the first of them that exists.

    Raises:
        UserError: the split does not exist, or has no scans or no labels.
    """
    there = [name for name in _SPLITS if (data_path / name).is_dir()]
    if version is None and not there:
        raise UserError(
            f"{data_path}: neither v1.0-trainval nor v1.0-mini there; correct --data_path, or make a street with "
            "tools/make_demo_data.py --dataset nuscenes"
        )
    version = version or there[0]
    label_map = LabelMap.load(DATA_SETS["nuScenes"].label_mapping_path)
    source = NuScenes(data_path, version, _SPLITS[version], label_map)
    frames = []
    for index in range(len(source)):
        frame = source.frame(index)
        labels = f"lidarseg/{version}/{frame.name}_lidarseg.bin"
        scan_to = f"samples/LIDAR_TOP/{Path(frame.path).name}"
        frames.append(CleanFrame(frame.name, Path(frame.path), data_path / labels, scan_to, labels))
    return _clean_set(NUSCENES, 5, "u1", source.label_map, frames, {"version": version, "split": _SPLITS[version]})


def _clean_set(
    sensor: Sensor,
    columns: int,
    label_type: str,
    label_map: LabelMap,
    frames: Sequence[CleanFrame],
    about: dict[str, Any],
) -> CleanSet:
    # Names and sizes distinguish the sets; to read gigabytes for more certainty would take minutes.
    sizes = "".join(f"{frame.key} {frame.scan.stat().st_size}\n" for frame in frames)
    about = {**about, "frames": len(frames), "fingerprint": f"{zlib.crc32(sizes.encode()):08x}"}
    return CleanSet(sensor, columns, label_type, label_map, tuple(frames), about)
