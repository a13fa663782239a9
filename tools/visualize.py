"""Draw one scan in the SemanticKITTI layout: from above, as the sensor sees it, and over the camera picture.

    python tools/visualize.py --data_path dataset/demo/sequences --sequence 08 --frame 000000 --output scan.png

Labels and the camera picture are shown where they are on disk, predictions with `--predictions`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that the tool runs from anywhere

from dataloader.camera import project, read_image
from dataloader.semantickitti import read_calibration, read_labels, read_points
from utils.config import REPOSITORY
from utils.drawing import draw_scan
from utils.errors import UserError, run_command
from utils.labels import LabelMap
from utils.raster import Pixels

LABEL_MAPPING = REPOSITORY / "config" / "label_mapping" / "semantic-kitti.yaml"


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Draw a scan with its labels and predictions.")
    parser.add_argument("--data_path", type=Path, required=True, help="the folder that holds the sequence folders")
    parser.add_argument("--sequence", default="08", help="such as 08")
    parser.add_argument("--frame", default="000000", help="such as 000000")
    parser.add_argument("--predictions", type=Path, help="folder with sequences/<sequence>/predictions/<frame>.label")
    parser.add_argument(
        "--label_mapping", type=Path, default=LABEL_MAPPING, help="names, colours and ids of the classes"
    )
    parser.add_argument("--output", type=Path, required=True, help="the PNG to write")
    return parser.parse_args(arguments)


def visualize(folder: Path, frame: str, predictions: Path | None, label_map: LabelMap, output: Path) -> None:
    """Draw the scan `frame` of the sequence in `folder`.

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
    image, pixels = _camera(folder, frame, xyz)
    title = f"Sequence {folder.name}, scan {frame}"
    draw_scan(xyz, labels, prediction, label_map.colors, label_map.names, output, image, pixels, title)


def _prediction_file(predictions: Path, sequence: str, frame: str) -> Path:
    """The file of the frame, whether `predictions` is the folder above `sequences` or `sequences` itself."""
    below = Path(sequence) / "predictions" / f"{frame}.label"
    return predictions / below if (predictions / below).is_file() else predictions / "sequences" / below


def _camera(
    folder: Path, frame: str, xyz: NDArray[np.float32]
) -> tuple[Pixels, NDArray[np.float32]] | tuple[None, None]:
    """The camera picture and the pixel of each point, where picture and calibration are on disk."""
    image_file, calibration_file = folder / "image_2" / f"{frame}.png", folder / "calib.txt"
    if not (image_file.is_file() and calibration_file.is_file()):
        return None, None
    image = read_image(image_file)
    return image, project(xyz, read_calibration(calibration_file), image.shape[1], image.shape[0])


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw what the flags say; returns the exit code."""
    flags = parse_arguments(arguments)

    def draw() -> None:
        label_map = LabelMap.load(flags.label_mapping)
        visualize(flags.data_path / flags.sequence, flags.frame, flags.predictions, label_map, flags.output)
        print(f"wrote {flags.output}")

    return run_command(draw)


if __name__ == "__main__":
    sys.exit(main())
