"""One subset of SemanticKITTI-C on disk -> `Scan`: of Yan et al. (IJCV 2024) and of Robo3D (Kong et al., ICCV 2023).

The folder of a subset is <root>/<subset> in the former and <root>/<corruption>/<severity> in the latter:

    <folder>/velodyne/<frame>.bin, <folder>/labels/<frame>.label      as in SemanticKITTI, without sequences

There are no images: they are not needed to test. Label ids that the label mapping does not know mark points that are
no surface any more (Robo3D: 21 fog, 22 snow, 23 crosstalk); they are ignored.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dataloader.datasets.corrupted import CorruptedScans, no_labels
from dataloader.datasets.semantickitti.files import read_labels, read_points
from dataloader.formats.files import list_sizes
from dataloader.formats.scan_check import KITTI, check_sizes
from utils.labels import LabelMap
from utils.results.predictions import PredictionFiles
from utils.scan.records import Frame, Scan


class CorruptedKITTI(CorruptedScans):
    """A subset in the layout of SemanticKITTI without sequences, in order of the file names.

    Args:
        folder: of the subset; without scans in it, the source is empty.
        name: of the subset; a frame's sequence is it, with "_" for "/".
        label_map: raw ids to learning ids.

    Attributes:
        frames: every scan.
        takes_all: true: a folder has one edition of the data set.
        absent, notes, num_cameras: see `Source`; empty or 0 here.

    Raises:
        UserError: a scan is empty, or has no label file or one of another length.
    """

    takes_all = True

    def __init__(self, folder: Path, name: str, label_map: LabelMap) -> None:
        self.folder = folder
        self.label_map = label_map.ignoring_unknown()
        scans, labels = list_sizes(folder / "velodyne", ".bin"), list_sizes(folder / "labels", ".label")
        names = sorted(scans)
        lacking = [frame for frame in names if frame not in labels]
        if lacking:
            raise no_labels(folder / "labels" / f"{lacking[0]}.label", len(lacking), len(names), name)
        sequence = name.replace("/", "_")
        self.frames = [Frame(sequence, frame, str(folder / "velodyne" / f"{frame}.bin")) for frame in names]
        for frame in self.frames:
            label = folder / _labels(frame)
            check_sizes(Path(frame.path), scans[frame.name], label, labels[frame.name], KITTI)

    def read(self, index: int, camera: int | None = None) -> Scan:
        """Reads scan number `index` as it lies on disk; there is no camera.

        Raises:
            UserError: a file is missing, truncated, empty or of the wrong length.
        """
        frame = self.frames[index]
        xyz, intensity = read_points(frame.path)
        path = self.folder / _labels(frame)
        labels, instances = read_labels(path, len(xyz), self.label_map)
        return self._scan(frame, xyz, intensity, labels, instances)

    @property
    def files(self) -> PredictionFiles:
        """The files of predictions: as the labels are, by raw id."""
        to_raw = np.asarray(self.label_map.to_raw, dtype="<u4")
        return PredictionFiles(_labels, to_raw, valid=np.unique(to_raw[1:]))


def _labels(frame: Frame) -> str:
    return f"labels/{frame.name}.label"
