"""The scans of a sequence in the SemanticKITTI layout, with their labels, predictions and camera pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dataloader.datasets.camera import project, read_image
from dataloader.datasets.past_sweeps import PastSweep
from dataloader.datasets.semantickitti.calibration import RAW_FILES, read_calibration
from dataloader.datasets.semantickitti.files import read_labels, read_points
from dataloader.datasets.semantickitti.poses import Track
from dataloader.formats.files import list_sizes
from tools.viewing.frames import DiskFrames, naming_added
from tools.viewing.predictions import Places
from utils.errors import UserError
from utils.labels import LabelMap
from utils.pictures.raster import CameraPicture
from utils.scan.records import Frame, Scan, no_pixels
from utils.scan.sensor import SEMANTICKITTI
from utils.viewer.records import CameraPose, ShownCamera, ShownScan


class SemanticKITTIFrames(DiskFrames):
    """The scans of a sequence, or of a subset of a corrupted set, which has the same files; in order of their names.

    Args:
        data_path: the folder of the sequences or of the subsets.
        sequence: name of the folder below it ("08", "fog_light", "fog/light"), with velodyne/ and, where there are any,
            labels/, image_2/ and calib.txt.
        label_map: names, colours and ids of the classes.
        folders: folders of predictions.
        is_subset: whether it is a subset, whose labels may have ids outside the label mapping; these are ignored.
        past_scans: number of scans before each one that are shown with it, by `Track`; only with some are poses.txt and
            calib.txt needed.

    Raises:
        UserError: there are no scans, or no predictions of them, or the poses are missing or damaged.
    """

    def __init__(
        self,
        data_path: Path,
        sequence: str,
        label_map: LabelMap,
        folders: Sequence[Path] = (),
        is_subset: bool = False,
        past_scans: int = 0,
    ) -> None:
        self._folder = data_path / sequence
        self._scans = self._folder / "velodyne"
        self._frames = sorted(list_sizes(self._scans, ".bin"))
        if not self._frames:
            remedy = "--subset or --corruption_path" if is_subset else "--data_path or --sequence"
            raise UserError(f"{self._scans / '000000.bin'}: missing, and there are no other scans; correct {remedy}")
        self._title = f"{'Subset' if is_subset else 'Sequence'} {sequence}"
        shown = naming_added(label_map, SEMANTICKITTI.name)
        self._label_map = shown.ignoring_unknown() if is_subset else shown
        tests = [f"sequences/{sequence}/predictions", f"{sequence}/predictions", "labels"]
        # predict.py keeps the names of folders, from the one on that it was given.
        inputs = [f"{data_path.resolve().name}/{sequence}/velodyne", f"{sequence}/velodyne", "velodyne", ""]
        files = [(f"{frame}.label", f"{frame}.npy") for frame in self._frames]
        places = Places([*tests, *inputs], files, subset=sequence if is_subset else "")
        paths = [str(self._scans / f"{frame}.bin") for frame in self._frames]
        named = [Frame(sequence, frame, path) for frame, path in zip(self._frames, paths, strict=True)]
        self._named, self._past_scans = named, past_scans
        self._track = _track(self._folder, named) if past_scans else None
        super().__init__(SEMANTICKITTI, label_map, shown, paths, folders, places, "scans" if past_scans else None)

    def title(self, index: int) -> str:
        """Returns the title of a scan, which names sequence and file."""
        return f"{self._title}, scan {self._frames[index]}"

    def find(self, frame: str) -> int:
        """Finds the number of a scan by its name, such as "000012"."""
        if frame not in self._frames:
            raise UserError(
                f"{self._scans / frame}.bin: missing; --frame must be a scan that is there, {self._frames[0]} to "
                f"{self._frames[-1]}"
            )
        return self._frames.index(frame)

    def no_labels(self, index: int) -> str | None:
        """Returns which label file is missing; None if it is there."""
        path = self._label_file(self._frames[index])
        return None if path.is_file() else f"{path}: missing"

    def _read(self, index: int) -> ShownScan:
        frame = self._frames[index]
        xyz, intensity = read_points(self._paths[index])
        labels = self._labels(frame, len(xyz))
        return ShownScan(self.title(index), xyz, intensity, labels, cameras=self._cameras(frame, xyz))

    def _past(self, index: int) -> Sequence[PastSweep]:
        return [] if self._track is None else self._track.past(self._named[index], self._past_scans)

    def _read_past(self, sweep: PastSweep) -> Scan:
        xyz, intensity = read_points(sweep.frame.path)
        count = len(xyz)
        labels, none = self._labels(sweep.frame.name, count), np.zeros(count, dtype=np.int32)
        known = none.astype(np.uint8) if labels is None else labels
        return Scan(sweep.frame, xyz, intensity, known, none, np.arange(count, dtype=np.int64), no_pixels(count))

    def _labels(self, frame: str, count: int) -> NDArray[np.uint8] | None:
        """Reads the (count,) labels of a scan; None where it has none."""
        path = self._label_file(frame)
        return read_labels(path, count, self._label_map)[0] if path.is_file() else None

    def _label_file(self, frame: str) -> Path:
        return self._folder / "labels" / f"{frame}.label"

    def _cameras(self, frame: str, xyz: NDArray[np.float32]) -> list[list[ShownCamera]]:
        """Reads the picture of the left colour camera; returns [] if picture or calibration are not on disk."""
        image_file = self._folder / "image_2" / f"{frame}.png"
        calibrated = any(all((self._folder / name).is_file() for name in form) for form in (["calib.txt"], RAW_FILES))
        if not (image_file.is_file() and calibrated):
            return []
        image = read_image(image_file)
        height, width = image.shape[:2]
        calibration = read_calibration(self._folder / "calib.txt")
        picture = CameraPicture("the camera", image, project(xyz, calibration, width, height))
        return [[ShownCamera(picture, CameraPose.of(calibration, (width, height)))]]


def _track(folder: Path, frames: Sequence[Frame]) -> Track:
    path = folder / "poses.txt"
    if not path.exists():
        raise UserError(
            f"{path}: missing, so it is not known where past scans were; take it from the SemanticKITTI label archive, "
            "or leave out --past_scans"
        )
    return Track.read(folder, frames)
