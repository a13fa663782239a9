"""The scans of nuScenes with their labels, predictions, and the six cameras, laid out as on the car."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dataloader.datasets.camera import project
from dataloader.datasets.nuscenes.corrupted import CorruptedNuScenes
from dataloader.datasets.nuscenes.predictions import prediction_path
from dataloader.datasets.nuscenes.source import CAMERAS, NuScenes
from dataloader.datasets.past_sweeps import PastSweep
from tools.viewing.frames import DiskFrames, naming_added
from tools.viewing.predictions import Places
from utils.errors import UserError
from utils.labels import LabelMap
from utils.pictures.raster import CameraPicture
from utils.scan.records import Frame, Scan
from utils.scan.sensor import NUSCENES
from utils.viewer.records import CameraPose, ShownCamera, ShownScan

ON_THE_CAR = (
    ("CAM_FRONT_LEFT", "CAM_FRONT", "CAM_FRONT_RIGHT"),
    ("CAM_BACK_LEFT", "CAM_BACK", "CAM_BACK_RIGHT"),
)
IMAGE_SIZE = (800, 450)  # a JPEG of 1600 x 900 is decoded at half its size in a third of the time


class NuScenesFrames(DiskFrames):
    """The scans of a split of nuScenes, or of one of its scenes, or of a subset of a corrupted set; by scene and time.

    Args:
        data_path: the folder that holds the folder `version`, samples and lidarseg. The cameras are shown if all their
            folders are in samples and the tables know them.
        version, split: see `dataloader.datasets.nuscenes.source.NuScenes`.
        label_map: names and colours of the classes.
        folders: folders of predictions.
        scene: name of the only scene to show; None: all of the split.
        subset: folder of the corrupted subsets and name of one ("fog/light"), which is read in place of the clean
            scans and has no cameras; None: the clean scans.
        past_sweeps: number of sweeps before each scan that are shown with it, of the clean scans only.

    Raises:
        UserError: a file of the split is missing or broken, there is no such scene or subset, or there are no
            predictions of the scans.
    """

    def __init__(
        self,
        data_path: Path,
        version: str,
        split: str,
        label_map: LabelMap,
        folders: Sequence[Path] = (),
        scene: str | None = None,
        subset: tuple[Path, str] | None = None,
        past_sweeps: int = 0,
    ) -> None:
        shown = naming_added(label_map, NUSCENES.name)
        self._clean = NuScenes(data_path, version, split, shown)
        there = all((data_path / "samples" / camera).is_dir() for camera in CAMERAS)
        self._with_images = subset is None and self._clean.knows_images and there
        if self._with_images or past_sweeps:
            image_size = IMAGE_SIZE if self._with_images else None
            self._clean = NuScenes(data_path, version, split, shown, image_size, past_sweeps)
        self._source = self._clean if subset is None else _open_subset(subset, self._clean, version)
        self._split = f"{data_path}: the split {split}"
        kind, self._where = ("split", split) if subset is None else ("subset", subset[1])
        if scene is not None:
            kind, self._where = "scene", scene
        self._called = f"the {kind} {self._where}"
        frames = [self._source.frame(index) for index in range(len(self._source))]
        self._rows = [row for row, frame in enumerate(frames) if scene in (None, frame.sequence)]
        if not self._rows:
            names = list(dict.fromkeys(frame.sequence for frame in frames))
            raise UserError(f"--sequence {scene}: no scene of {split}, which has {', '.join(names)}; give one of them")
        self._frames = [frames[row] for row in self._rows]
        # robust_test.py stores the predictions of a subset like its labels, by the version.
        places = _places(self._frames, data_path, split if subset is None else version, subset)
        paths = [frame.path for frame in self._frames]
        super().__init__(NUSCENES, label_map, shown, paths, folders, places, "s" if past_sweeps else None)

    def title(self, index: int) -> str:
        """Returns the title of a scan, with its scene, number and token."""
        frame = self._frames[index]
        return f"{frame.sequence}, scan {index} of {self._where} ({frame.name})"

    def find(self, frame: str) -> int:
        """Finds the number of a scan by its token; `frame` may be the number, too."""
        tokens = [each.name for each in self._frames]
        if frame in tokens:
            return tokens.index(frame)
        if frame.isascii() and frame.isdecimal() and len(frame) < 10 and int(frame) < len(tokens):
            return int(frame)
        raise UserError(
            f"--frame {frame}: {self._called} has no such scan; give a number from 0 to {len(tokens) - 1} or the token "
            "of a LIDAR_TOP sample_data of it"
        )

    def no_labels(self, index: int) -> str | None:
        """Returns that a split has no labels; None if it has some."""
        return None if self._clean.has_labels else f"{self._split} has no labels"

    def _read(self, index: int) -> ShownScan:
        row = self._rows[index]
        scan = self._source.read(row, camera=None)
        labels = scan.labels if self._clean.has_labels else None
        cameras = self._cameras(row, scan.xyz) if self._with_images else ()
        return ShownScan(self.title(index), scan.xyz, scan.intensity, labels, cameras=cameras)

    def _past(self, index: int) -> Sequence[PastSweep]:
        return self._clean.past(self._rows[index])

    def _read_past(self, sweep: PastSweep) -> Scan:
        return self._clean.read_past(sweep, with_labels=True)

    def _cameras(self, row: int, xyz: NDArray[np.float32]) -> list[list[ShownCamera]]:
        return [[self._camera(row, name, xyz) for name in beside] for beside in ON_THE_CAR]

    def _camera(self, row: int, name: str, xyz: NDArray[np.float32]) -> ShownCamera:
        camera = CAMERAS.index(name)
        image, projection = self._clean.image(row, camera), self._clean.projection(row, camera)
        picture = CameraPicture(name, image, project(xyz, projection, *IMAGE_SIZE, front="depth"))
        return ShownCamera(picture, CameraPose.of(projection, IMAGE_SIZE))


def _open_subset(subset: tuple[Path, str], clean: NuScenes, version: str) -> CorruptedNuScenes:
    root, name = subset
    source = CorruptedNuScenes(root / name, name, clean, version)
    if not len(source):
        raise UserError(f"{root / name}: no scans of the subset {name} there; correct --subset or --corruption_path")
    return source


def _places(frames: Sequence[Frame], data_path: Path, eval_set: str, subset: tuple[Path, str] | None) -> Places:
    tests = prediction_path(eval_set, "").rpartition("/")[0]
    # predict.py keeps the names of folders, from the one on that it was given.
    inputs = [f"{data_path.resolve().name}/samples/LIDAR_TOP", "samples/LIDAR_TOP", "LIDAR_TOP", ""]
    files = []
    for frame in frames:
        stem = Path(frame.path).name.removesuffix(".bin").removesuffix(".pcd")
        usual = prediction_path(eval_set, frame.name).rpartition("/")[2]
        files.append((usual, f"{stem}.label", f"{stem}.npy"))
    return Places([tests, *inputs], files, subset="" if subset is None else subset[1])
