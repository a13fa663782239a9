"""Reading of a scan in the SemanticKITTI layout, with its labels, its prediction, and the camera picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dataloader.datasets.camera import project, read_image
from dataloader.datasets.semantickitti.calibration import read_calibration
from dataloader.datasets.semantickitti.source import read_labels, read_points
from tools.viewing.scan import ShownScan, find_prediction, naming_added
from utils.errors import UserError
from utils.labels import LabelMap
from utils.pictures.raster import CameraPicture
from utils.scan.sensor import SEMANTICKITTI


def read_scan(
    data_path: Path,
    sequence: str,
    frame: str,
    predictions: Path | None,
    label_map: LabelMap,
    is_subset: bool = False,
) -> ShownScan:
    """Reads a scan of a sequence of SemanticKITTI, or of a subset of a corrupted set, which has the same files.

    Args:
        data_path: the folder of the sequences or of the subsets.
        sequence: name of the folder below it ("08", "fog_light", "fog/light"), with velodyne/ and, where there are any,
            labels/, image_2/ and calib.txt.
        frame: name of the scan, such as "000000".
        predictions: folder of a submission or of saved predictions, or None.
        label_map: names, colours and ids of the classes.
        is_subset: whether it is a subset, whose labels may have ids outside the label mapping; these are ignored.

    Raises:
        UserError: a file is missing or broken, or there are neither labels nor predictions.
    """
    folder = data_path / sequence
    xyz, _ = read_points(folder / "velodyne" / f"{frame}.bin")
    label_file = folder / "labels" / f"{frame}.label"
    shown = naming_added(label_map, "SemanticKITTI")
    shown = shown.ignoring_unknown() if is_subset else shown
    labels = read_labels(label_file, len(xyz), shown)[0] if label_file.is_file() else None
    prediction = None
    if predictions is not None:
        below = f"{sequence}/predictions/{frame}.label"
        path = find_prediction(predictions, [f"sequences/{below}", below, f"labels/{frame}.label"], subset=sequence)
        prediction, _ = read_labels(path, len(xyz), label_map)
    if labels is None and prediction is None:
        raise UserError(f"{label_file}: missing; give --predictions to draw those alone")
    title = f"{'Subset' if is_subset else 'Sequence'} {sequence}, scan {frame}"
    cameras = _cameras(folder, frame, xyz)
    return ShownScan(title, xyz, SEMANTICKITTI, labels, prediction, shown, len(label_map.names), cameras)


def _cameras(folder: Path, frame: str, xyz: NDArray[np.float32]) -> list[list[CameraPicture]]:
    """Reads the picture of the left colour camera; returns [] if picture or calibration are not on disk."""
    image_file, calibration_file = folder / "image_2" / f"{frame}.png", folder / "calib.txt"
    if not (image_file.is_file() and calibration_file.is_file()):
        return []
    image = read_image(image_file)
    pixels = project(xyz, read_calibration(calibration_file), image.shape[1], image.shape[0])
    return [[CameraPicture("the camera", image, pixels)]]
