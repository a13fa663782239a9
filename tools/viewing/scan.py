"""The picture of a scan, of any data set."""

from __future__ import annotations

from pathlib import Path

from utils.pictures.scans import draw_scan
from utils.viewer.records import Frames, ShownScan


def draw(scan: ShownScan, frames: Frames, output: Path) -> None:
    """Draws a scan from above, as the sensor sees it, and over the camera pictures, into a PNG.

    Args:
        scan: one of `frames`, with labels or a prediction.
        frames: gives the classes and the sensor.
        output: the PNG to write; its folder is made.
    """
    predictions = scan.predictions
    draw_scan(
        scan.xyz,
        frames.sensor,
        scan.labels,
        next(iter(predictions.values()), None) if len(predictions) < 2 else predictions,
        frames.colors,
        frames.names,
        output,
        [[camera.picture for camera in row] for row in scan.cameras],
        title=scan.title,
        num_classes=frames.num_classes,
    )
