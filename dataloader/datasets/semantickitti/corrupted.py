"""One subset of SemanticKITTI-C on disk -> `Scan`: of Yan et al. (IJCV 2024) and of Robo3D (Kong et al., ICCV 2023).

The folder of a subset is <root>/<subset> in the former and <root>/<corruption>/<severity> in the latter:

    <folder>/velodyne/<frame>.bin, <folder>/labels/<frame>.label      as in SemanticKITTI, without sequences

There are no images: they are not needed to test. Poses are those of the clean sequence, whose scans have the same
names; a past scan is the file of the same subset with the number before. Label ids that the label mapping does not know
mark points that are no surface any more (Robo3D: 21 fog, 22 snow, 23 crosstalk); they are ignored.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dataloader.datasets.corrupted import CorruptedScans, no_labels
from dataloader.datasets.data_set import Request
from dataloader.datasets.past_sweeps import PastSweep
from dataloader.datasets.semantickitti.files import read_labels, read_points
from dataloader.datasets.semantickitti.poses import Track
from dataloader.datasets.semantickitti.sequences import sequences_of
from dataloader.formats.files import list_sizes
from dataloader.formats.scan_check import KITTI, check_sizes
from utils.errors import UserError
from utils.labels import LabelMap
from utils.results.predictions import PredictionFiles
from utils.scan.records import Frame, Scan, constant


class CorruptedKITTI(CorruptedScans):
    """A subset in the layout of SemanticKITTI without sequences, in order of the file names.

    Args:
        folder: of the subset; without scans in it, the source is empty.
        name: of the subset; a frame's sequence is it, with "_" for "/".
        label_map: raw ids to learning ids.
        past_scans: number of scans before each one that `past` lists.
        clean: the folder of the clean sequence, with poses.txt and calib.txt; needed with `past_scans`.

    Attributes:
        frames: every scan.
        takes_all: true: a folder has one edition of the data set.
        absent, notes, num_cameras: see `Source`; empty or 0 here.

    Raises:
        UserError: a scan is empty, or has no label file or one of another length, or, with `past_scans`, the poses are
            missing or damaged.
    """

    takes_all = True

    def __init__(
        self, folder: Path, name: str, label_map: LabelMap, past_scans: int = 0, clean: Path | None = None
    ) -> None:
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
        self._past_scans, self._track = past_scans, None
        if past_scans and self.frames:
            assert clean is not None
            self._track = Track.read(clean, self.frames)

    @staticmethod
    def open(wanted: Request, folder: Path, name: str) -> CorruptedKITTI:
        """Opens a subset; `wanted` is the request for the clean scans.

        Raises:
            UserError: see the class; or past scans are asked for and it is not plain where the scans come from, or
                which points of them to keep.
        """
        past_scans = wanted.params.past_scans
        if not past_scans:
            return CorruptedKITTI(folder, name, wanted.label_map)
        if wanted.params.past_predictions is not None:
            raise UserError(
                "dataset_params.past_predictions: is of the clean scans, whose points are not those of corrupted ones; "
                "set it to null (--set dataset_params.past_predictions=null)"
            )
        sequences = sequences_of("valid", wanted.label_map)
        present = [sequence for sequence in sequences if (wanted.path / sequence).is_dir()]
        if len(present) != 1:
            raise UserError(
                f"{wanted.path}: has {len(present)} of the sequences {', '.join(sequences)} to validate on, and past "
                f"scans of {folder} want the poses of one: keep that one there, or set dataset_params.past_scans to 0"
            )
        return CorruptedKITTI(folder, name, wanted.label_map, past_scans, wanted.path / present[0])

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

    def past(self, index: int) -> Sequence[PastSweep]:
        """Lists the scans of the subset with the `past_scans` numbers before that of scan `index`, the newest first."""
        return () if self._track is None else self._track.past(self.frames[index], self._past_scans)

    def read_past(self, sweep: PastSweep, with_labels: bool) -> Scan:
        """Reads a scan that `past` names; the errors are those of `read`."""
        frame = sweep.frame
        xyz, intensity = read_points(frame.path, copy=False)  # they are moved next
        count = len(xyz)
        if with_labels:
            labels, instances = read_labels(self.folder / _labels(frame), count, self.label_map)
        else:
            labels, instances = constant(np.uint8(0), count), constant(np.int32(0), count)
        return self._scan(frame, xyz, intensity, labels, instances)

    @property
    def files(self) -> PredictionFiles:
        """The files of predictions: as the labels are, by raw id."""
        to_raw = np.asarray(self.label_map.to_raw, dtype="<u4")
        return PredictionFiles(_labels, to_raw, valid=np.unique(to_raw[1:]))


def _labels(frame: Frame) -> str:
    return f"labels/{frame.name}.label"
