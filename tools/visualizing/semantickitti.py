"""A scan in the SemanticKITTI layout: with its labels, what was predicted, and the camera picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dataloader.camera import project, read_image
from dataloader.kitti_calibration import read_calibration
from dataloader.semantickitti import read_labels, read_points
from utils.drawing import draw_scan
from utils.errors import UserError
from utils.labels import LabelMap
from utils.raster import SEMANTICKITTI_LIDAR, CameraPicture


def visualize(folder: Path, frame: str, predictions: Path | None, label_map: LabelMap, output: Path) -> None:
    """Draw the scan `frame` of the sequence of SemanticKITTI in `folder`.

    Args:
        folder: <data_path>/<sequence>, with velodyne/ and, where there are any, labels/, image_2/ and calib.txt.
        frame: name of the scan, such as "000000".
        predictions: folder of a submission or of kept predictions, or None.
        label_map: names, colours and ids of the classes.
        output: the PNG to write.

    Raises:
        UserError: a file is missing or broken, or there are neither labels nor predictions.
    """
    xyz, _ = read_points(folder / "velodyne" / f"{frame}.bin")
    label_file = folder / "labels" / f"{frame}.label"
    labels = read_labels(label_file, len(xyz), label_map)[0] if label_file.is_file() else None
    prediction = None
    if predictions is not None:
        prediction, _ = read_labels(_prediction_file(predictions, folder.name, frame), len(xyz), label_map)
    if labels is None and prediction is None:
        raise UserError(f"{label_file}: missing; give --predictions to draw those alone")
    draw_scan(
        xyz,
        SEMANTICKITTI_LIDAR,
        labels,
        prediction,
        label_map.colors,
        label_map.names,
        output,
        _cameras(folder, frame, xyz),
        title=f"Sequence {folder.name}, scan {frame}",
    )


def _prediction_file(predictions: Path, sequence: str, frame: str) -> Path:
    """The file of the frame, whether `predictions` is the folder above `sequences` or `sequences` itself."""
    below = Path(sequence) / "predictions" / f"{frame}.label"
    return predictions / below if (predictions / below).is_file() else predictions / "sequences" / below


def _cameras(folder: Path, frame: str, xyz: NDArray[np.float32]) -> list[list[CameraPicture]]:
    """The left colour camera, where picture and calibration are on disk."""
    image_file, calibration_file = folder / "image_2" / f"{frame}.png", folder / "calib.txt"
    if not (image_file.is_file() and calibration_file.is_file()):
        return []
    image = read_image(image_file)
    pixels = project(xyz, read_calibration(calibration_file), image.shape[1], image.shape[0])
    return [[CameraPicture("the camera", image, pixels)]]
