"""Reading of a nuScenes scan with its labels, its prediction, and the six cameras, laid out as on the car."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dataloader.datasets.nuscenes.corrupted import CorruptedNuScenes
from dataloader.datasets.nuscenes.predictions import prediction_path
from dataloader.datasets.nuscenes.source import CAMERAS, NuScenes
from dataloader.formats.files import read_bytes
from tools.viewing.scan import ShownScan, find_prediction, naming_added
from utils.errors import UserError
from utils.labels import LabelMap
from utils.pictures.raster import CameraPicture
from utils.scan.sensor import NUSCENES

ON_THE_CAR = (
    ("CAM_FRONT_LEFT", "CAM_FRONT", "CAM_FRONT_RIGHT"),
    ("CAM_BACK_LEFT", "CAM_BACK", "CAM_BACK_RIGHT"),
)
IMAGE_SIZE = (800, 450)  # a JPEG of 1600 x 900 is decoded at half its size in a third of the time


def read_scan(
    data_path: Path,
    version: str,
    split: str,
    frame: str,
    predictions: Path | None,
    label_map: LabelMap,
    subset: tuple[Path, str] | None = None,
) -> ShownScan:
    """Reads a scan of nuScenes.

    Args:
        data_path: the folder that holds the folder `version`, samples and lidarseg. The cameras are shown if all their
            folders are in samples and the tables know them.
        version, split: see `dataloader.datasets.nuscenes.source.NuScenes`.
        frame: number of the scan in the split (or in the subset), from 0, or its LIDAR_TOP sample_data token.
        predictions: folder of a submission or of saved predictions, or None.
        label_map: names and colours of the classes.
        subset: folder of the corrupted subsets and name of one ("fog/light"), which is read in place of the clean
            scans and has no cameras; None: the clean scans.

    Raises:
        UserError: a file of the split is missing or broken, the split has no such frame, a prediction does not fit the
            scan, or there are neither labels nor predictions.
    """
    shown = naming_added(label_map, "nuScenes")
    clean = NuScenes(data_path, version, split, shown)
    there = all((data_path / "samples" / camera).is_dir() for camera in CAMERAS)
    with_images = subset is None and clean.knows_images and there
    if with_images:
        clean = NuScenes(data_path, version, split, shown, IMAGE_SIZE)
    source = clean if subset is None else _open_subset(subset, clean, version)
    if not clean.has_labels and predictions is None:
        raise UserError(f"{data_path}: the split {split} has no labels; give --predictions to draw those alone")
    index = _find(source, split, frame)
    scan = source.read(index, camera=None)
    token = scan.frame.name
    prediction = None
    if predictions is not None:
        # robust_test.py stores the predictions of a subset like its labels, by the version.
        names = [prediction_path(split if subset is None else version, token)]
        path = find_prediction(predictions, names, "" if subset is None else subset[1])
        prediction = _read_prediction(path, len(scan), len(label_map.names))
    where = split if subset is None else subset[1]
    title = f"{scan.frame.sequence}, scan {index} of {where} ({token})"
    labels = scan.labels if clean.has_labels else None
    cameras = _cameras(clean, index) if with_images else ()
    return ShownScan(title, scan.xyz, NUSCENES, labels, prediction, shown, len(label_map.names), cameras)


def _open_subset(subset: tuple[Path, str], clean: NuScenes, version: str) -> CorruptedNuScenes:
    root, name = subset
    source = CorruptedNuScenes(root / name, name, clean, version)
    if not len(source):
        raise UserError(f"{root / name}: no scans of the subset {name} there; correct --subset or --corruption_path")
    return source


def _find(source: NuScenes | CorruptedNuScenes, split: str, frame: str) -> int:
    """Returns the index of a scan in the split; `frame` is this index or the token of the scan."""
    tokens = [source.frame(index).name for index in range(len(source))]
    if frame in tokens:
        return tokens.index(frame)
    if frame.isdecimal() and int(frame) < len(tokens):
        return int(frame)
    raise UserError(
        f"--frame {frame}: the split {split} has no such scan; give a number from 0 to {len(tokens) - 1} or the token "
        "of a LIDAR_TOP sample_data of the split"
    )


def _cameras(source: NuScenes, index: int) -> list[list[CameraPicture]]:
    rows = []
    for beside in ON_THE_CAR:
        row = []
        for camera in beside:
            scan = source.read(index, CAMERAS.index(camera))
            assert scan.image is not None  # since the source was opened with an image size
            row.append(CameraPicture(camera, scan.image, scan.pixels))
        rows.append(row)
    return rows


def _read_prediction(path: Path, count: int, num_classes: int) -> NDArray[np.uint8]:
    """Reads the predictions of a scan, (count,) uint8 learning ids."""
    prediction = read_bytes(path, "predictions")
    if prediction.size != count:
        raise UserError(f"{path}: {prediction.size} predictions for {count} points; they belong to other data")
    if prediction.max() >= num_classes:
        raise UserError(f"{path}: class {prediction.max()} is none of 1 to {num_classes - 1}; run the test again")
    return prediction
