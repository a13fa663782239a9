"""One subset of nuScenes-C of Robo3D (Kong et al., ICCV 2023) on disk -> `Scan`.

    <folder>/samples/LIDAR_TOP/*.pcd.bin, <folder>/lidarseg/<version>/<token>_lidarseg.bin      as in nuScenes

There are no images: they are not needed to test. Label ids that the label mapping does not know mark points that are
no surface any more (41 fog, 42 snow, 43 crosstalk); they are ignored.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np

from dataloader.datasets.corrupted import CorruptedScans, no_labels
from dataloader.datasets.nuscenes.files import read_labels
from dataloader.datasets.source import Source
from dataloader.formats.files import list_sizes, read_point_file
from dataloader.formats.scan_check import NUSCENES, check_sizes
from utils.errors import UserError
from utils.labels import LabelMap
from utils.results.predictions import PredictionFiles
from utils.scan.records import Frame, Scan

_SWEEPS = "samples/LIDAR_TOP"


class CleanSplit(Source, Protocol):
    """The clean scans, and the label map with the ids of their tables."""

    label_map: LabelMap


class CorruptedNuScenes(CorruptedScans):
    """A subset in the layout of nuScenes: those frames of the clean split whose scan is there, in its order.

    Args:
        folder: of the subset; without scans in it, the source is empty.
        name: of the subset; a frame's sequence is its scene, as in the clean split.
        clean: the clean split. Scans are found by their file name, labels by the token.
        version: of the clean tables, "v1.0-trainval" or "v1.0-mini".

    Attributes:
        frames: every scan.
        takes_all: false: the scans of a smaller version may be tested on what a larger one was made into.
        absent, notes, num_cameras: see `Source`; empty or 0 here.

    Raises:
        UserError: a scan is empty, or has no label file or one of another length.
    """

    takes_all = False

    def __init__(self, folder: Path, name: str, clean: CleanSplit, version: str) -> None:
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
            raise no_labels(folder / self._labels(lacking[0]), len(lacking), len(self.frames), name)
        for frame in self.frames:
            path = Path(frame.path)
            check_sizes(path, there[path.stem], folder / self._labels(frame), labelled[frame.name], NUSCENES)

    def read(self, index: int, camera: int | None = None) -> Scan:
        """Reads scan number `index` as it lies on disk; there is no camera.

        Raises:
            UserError: a file is missing, truncated, empty or of the wrong length.
        """
        frame = self.frames[index]
        xyz, intensity = read_point_file(frame.path, columns=5)
        labels = read_labels(self.folder / self._labels(frame), len(xyz), self.label_map)
        return self._scan(frame, xyz, intensity, labels, np.zeros(len(xyz), dtype=np.int32))

    def _labels(self, frame: Frame) -> str:
        return f"lidarseg/{self._version}/{frame.name}_lidarseg.bin"

    @property
    def files(self) -> PredictionFiles:
        """The files of predictions: where the labels are, but by learning id, as nuscenes-devkit has predictions."""
        classes = np.arange(256, dtype=np.uint8)
        return PredictionFiles(self._labels, classes, valid=classes[1 : len(self.label_map.names)])
