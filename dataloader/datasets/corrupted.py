"""One subset of a corrupted validation set on disk -> `Scan`.

SemanticKITTI-C, of Yan et al. (IJCV 2024) and of Robo3D (Kong et al., ICCV 2023) alike; the folder of a subset is
<root>/<subset> in the former and <root>/<corruption>/<severity> in the latter:
    <folder>/velodyne/<frame>.bin, <folder>/labels/<frame>.label      as in SemanticKITTI, without sequences
nuScenes-C of Robo3D:
    <folder>/samples/LIDAR_TOP/*.pcd.bin, <folder>/lidarseg/<version>/<token>_lidarseg.bin      as in nuScenes

There are no images: they are not needed to test. Label ids that the label mapping does not know mark points that are
no surface any more (Robo3D: 21 fog, 22 snow, 23 crosstalk; 41, 42, 43 on nuScenes); they are ignored.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dataloader.corruptions.families import NOTE
from dataloader.datasets import nuscenes, semantickitti
from dataloader.formats.files import list_sizes, read_point_file
from dataloader.formats.scan_check import KITTI, NUSCENES, check_sizes
from utils.errors import UserError
from utils.files import read_text
from utils.labels import LabelMap
from utils.results.predictions import PredictionFiles, PredictionWriter, SubmissionWriter
from utils.scan.records import Frame, Scan, no_pixels

_SWEEPS = "samples/LIDAR_TOP"


@dataclass(frozen=True)
class Origin:
    """What tools/make_corruptions.py notes beside the subsets it has made.

    Attributes:
        options: what decides their bytes: family, seed, mode, ...
        finished: names of the complete subsets, and how many scans each has; 0 if that is not noted.
    """

    options: dict[str, Any]
    finished: dict[str, int]

    @staticmethod
    def read(root: Path) -> Origin | None:
        """That of the subsets in `root`; None if there is no note, as in a published data set.

        Raises:
            UserError: the note is damaged.
        """
        path = root / NOTE
        if not path.exists():
            return None
        try:
            note = json.loads(read_text(path))
            finished = {name: int(entry.get("frames", 0)) for name, entry in note["subsets"].items()}
            return Origin(dict(note["options"]), finished)
        except (OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
            raise UserError(
                f"{path}: not readable as the note of tools/make_corruptions.py; make the subsets again elsewhere"
            ) from error


class _Subset:
    """What the sources of both layouts are: scans that are there, without cameras."""

    absent: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    num_cameras = 0
    frames: list[Frame]

    def __len__(self) -> int:
        return len(self.frames)

    def frame(self, index: int) -> Frame:
        """Which scan number `index` is; of nuScenes its scene, and the token of its LIDAR_TOP sample_data."""
        return self.frames[index]


class CorruptedKITTI(_Subset):
    """A subset in the layout of SemanticKITTI without sequences, in order of the file names.

    Args:
        folder: of the subset; without scans in it, the source is empty.
        name: of the subset; a frame's sequence is it, with "_" for "/".
        label_map: raw ids to learning ids.

    Attributes:
        frames: every scan.
        files: how predictions are filed: as the labels are, by raw id.
        absent, notes, num_cameras: as of any source; none.

    Raises:
        UserError: a scan is empty, or has no label file or one of another length.
    """

    def __init__(self, folder: Path, name: str, label_map: LabelMap) -> None:
        self.folder = folder
        self.label_map = label_map.ignoring_unknown()
        scans, labels = list_sizes(folder / "velodyne", ".bin"), list_sizes(folder / "labels", ".label")
        names = sorted(scans)
        lacking = [frame for frame in names if frame not in labels]
        if lacking:
            raise _no_labels(folder / "labels" / f"{lacking[0]}.label", len(lacking), len(names), name)
        sequence = name.replace("/", "_")
        self.frames = [Frame(sequence, frame, str(folder / "velodyne" / f"{frame}.bin")) for frame in names]
        for frame in self.frames:
            label = folder / _kitti_labels(frame)
            check_sizes(Path(frame.path), scans[frame.name], label, labels[frame.name], KITTI)

    def read(self, index: int, camera: int | None = None) -> Scan:
        """Scan number `index` as it lies on disk; there is no camera.

        Raises:
            UserError: a file is missing, truncated, empty or of the wrong length.
        """
        frame = self.frames[index]
        xyz, intensity = semantickitti.read_points(frame.path)
        path = self.folder / _kitti_labels(frame)
        labels, instances = semantickitti.read_labels(path, len(xyz), self.label_map)
        return _scan(frame, xyz, intensity, labels, instances)

    @property
    def files(self) -> PredictionFiles:
        to_raw = np.asarray(self.label_map.to_raw, dtype="<u4")
        return PredictionFiles(_kitti_labels, to_raw, valid=np.unique(to_raw[1:]))


class CorruptedNuScenes(_Subset):
    """A subset in the layout of nuScenes: those frames of the clean split whose scan is there, in its order.

    Args:
        folder: of the subset; without scans in it, the source is empty.
        name: of the subset; a frame's sequence is its scene, as in the clean split.
        clean: the clean split. Scans are found by their file name, labels by the token.
        version: of the clean tables, "v1.0-trainval" or "v1.0-mini".

    Attributes:
        frames: every scan.
        files: how predictions are filed: where the labels are, but by learning id, as nuscenes-devkit has predictions.
        absent, notes, num_cameras: as of any source; none.

    Raises:
        UserError: a scan is empty, or has no label file or one of another length.
    """

    def __init__(self, folder: Path, name: str, clean: nuscenes.NuScenes, version: str) -> None:
        self.folder, self._version = folder, version
        self.label_map = clean.label_map.ignoring_unknown()
        there = list_sizes(folder / _SWEEPS, ".bin")
        wanted = [clean.frame(index) for index in range(len(clean))]
        # The frame is that of the clean split, but for its path.
        self.frames = [
            Frame(frame.sequence, frame.name, str(folder / _SWEEPS / Path(frame.path).name))
            for frame in wanted
            if Path(frame.path).stem in there
        ]
        if there and not self.frames:
            raise UserError(
                f"{folder / _SWEEPS}: its scans are none of those of the validation split of {version} (by file name); "
                "correct --corruption_path or dataset_params.version"
            )
        labelled = list_sizes(folder / "lidarseg" / version, "_lidarseg.bin")
        lacking = [frame for frame in self.frames if frame.name not in labelled]
        if lacking:
            raise _no_labels(folder / self._labels(lacking[0]), len(lacking), len(self.frames), name)
        for frame in self.frames:
            path = Path(frame.path)
            check_sizes(path, there[path.stem], folder / self._labels(frame), labelled[frame.name], NUSCENES)

    def read(self, index: int, camera: int | None = None) -> Scan:
        """Scan number `index` as it lies on disk; there is no camera.

        Raises:
            UserError: a file is missing, truncated, empty or of the wrong length.
        """
        frame = self.frames[index]
        xyz, intensity = read_point_file(frame.path, columns=5)
        labels = nuscenes.read_labels(self.folder / self._labels(frame), len(xyz), self.label_map)
        return _scan(frame, xyz, intensity, labels, np.zeros(len(xyz), dtype=np.int32))

    def _labels(self, frame: Frame) -> str:
        return f"lidarseg/{self._version}/{frame.name}_lidarseg.bin"

    @property
    def files(self) -> PredictionFiles:
        classes = np.arange(256, dtype=np.uint8)
        return PredictionFiles(self._labels, classes, valid=classes[1 : len(self.label_map.names)])


class SubsetFormat:
    """Predictions on a subset, filed as the subset itself is.

    Args:
        files: of its source.
    """

    def __init__(self, files: PredictionFiles) -> None:
        self._files = files

    def predictions(self, directory: Path) -> PredictionWriter:
        """Keeps the files."""
        return PredictionWriter(directory, self._files)

    def submission(self, directory: Path) -> SubmissionWriter:
        """Checks and zips them; no benchmark server takes them yet."""
        return SubmissionWriter(directory, self._files)


def _scan(
    frame: Frame,
    xyz: NDArray[np.float32],
    intensity: NDArray[np.float32],
    labels: NDArray[np.uint8],
    instances: NDArray[np.int32],
) -> Scan:
    count = len(xyz)
    pixels = no_pixels(count)
    return Scan(frame, xyz, intensity, labels, instances, np.arange(count, dtype=np.int64), pixels)


def _kitti_labels(frame: Frame) -> str:
    return f"labels/{frame.name}.label"


def _no_labels(first: Path, lacking: int, count: int, name: str) -> UserError:
    return UserError(
        f"{first}: missing ({lacking} of {count} scans of {name} have no labels); unpack or make the subset again"
    )
