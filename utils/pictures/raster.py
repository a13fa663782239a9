"""Points to pixels: a scan from above, as the sensor sees it, and over the camera picture, as plain arrays.

Points are set pixel for pixel, without smoothing: a class has exactly its colour of the label map.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from utils.scan.sensor import Sensor

BACKGROUND = (20, 22, 26)
RING = (48, 52, 60)
UNLABELLED = (84, 90, 98)
RIGHT, WRONG, NOT_JUDGED = (128, 134, 142), (255, 64, 64), (56, 60, 68)
ALTERED = (255, 255, 255)
"""Of a point that weather or noise has put there: a colour that no class has."""
RANGE_COLUMNS = 1024

Pixels = NDArray[np.uint8]
"""(H, W, 3) uint8 RGB."""


@dataclass(frozen=True)
class CameraPicture:
    """What a camera saw of a scan.

    Attributes:
        name: for the caption.
        image: (H, W, 3) uint8 RGB.
        pixels: (N, 2) (row, col) in `image` of each point of the scan, NaN where not seen.
    """

    name: str
    image: Pixels
    pixels: NDArray[np.float32]


def paint(labels: NDArray[np.integer], colors: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(N, 3) uint8, the colour of each point; class 0 is grey, whatever its colour in the map."""
    table = np.array(colors, dtype=np.uint8)
    table[0] = UNLABELLED
    return table[labels]


def paint_errors(labels: NDArray[np.integer], prediction: NDArray[np.integer]) -> NDArray[np.uint8]:
    """(N, 3) uint8: grey where right, red where wrong, faint where the point has no label."""
    verdict = np.where(labels == 0, 2, labels != prediction)
    return np.array([RIGHT, WRONG, NOT_JUDGED], dtype=np.uint8)[verdict]


def paint_altered(
    labels: NDArray[np.integer], altered: NDArray[np.bool_], colors: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    """(N, 3) uint8: as `paint`, but `ALTERED` where (N,) `altered` says so."""
    return np.where(altered[:, None], np.array(ALTERED, dtype=np.uint8), paint(labels, colors))


def birds_eye_view(
    xyz: NDArray[np.float32], sensor: Sensor, rgb: NDArray[np.uint8], size: int, reach: float = 50.0, dot: int = 2
) -> Pixels:
    """The scan from above, driving direction up, rings every 10 m.

    Args:
        xyz: (N, 3) metres, frame of `sensor`.
        sensor: what took the scan.
        rgb: (N, 3) uint8.
        size: edge length in pixels.
        reach: metres from the sensor to each edge.
        dot: edge length of a point in pixels.

    Returns:
        (size, size, 3) uint8. Where points share a pixel the highest wins, but red errors are never hidden.
    """
    scale = size / (2 * reach)
    away = np.abs(np.arange(size) + 0.5 - size / 2) / scale
    distance = np.hypot(away[:, None], away[None, :])
    canvas = np.full((size, size, 3), BACKGROUND, dtype=np.uint8)
    near_ring = np.abs((distance + 5) % 10 - 5) < 0.5 / scale
    canvas[near_ring & (distance > 5) & (distance < reach)] = RING

    on_top = (rgb == WRONG).all(axis=1)
    order = np.lexsort((xyz[:, 2], on_top))
    ahead, left = sensor.ahead_and_left(xyz[order])
    rows = np.floor((reach - ahead) * scale)
    columns = np.floor((reach - left) * scale)
    return _splat(canvas, rows, columns, rgb[order], dot)


def range_view(
    xyz: NDArray[np.float32], sensor: Sensor, rgb: NDArray[np.uint8], columns: int = RANGE_COLUMNS
) -> Pixels:
    """The scan as the sensor sees it: azimuth across (driving direction in the middle), elevation down.

    Args:
        xyz: (N, 3) metres, frame of `sensor`.
        sensor: what took the scan.
        rgb: (N, 3) uint8.
        columns: pixels of the whole turn.

    Returns:
        (beams, columns, 3) uint8; where points share a pixel the nearest wins; points above or below the field of
        view are left out.
    """
    distance = np.linalg.norm(xyz, axis=1)
    order = np.argsort(-distance, kind="stable")
    ahead, left = sensor.ahead_and_left(xyz[order])
    elevation = np.degrees(np.arcsin(np.clip(xyz[order, 2] / np.maximum(distance[order], 1e-6), -1, 1)))
    across = np.floor((0.5 - np.arctan2(left, ahead) / (2 * np.pi)) * columns).clip(0, columns - 1)
    top, bottom = sensor.picture_edges
    rows = np.floor((top - elevation) / (top - bottom) * sensor.beams)
    canvas = np.full((sensor.beams, columns, 3), BACKGROUND, dtype=np.uint8)
    return _splat(canvas, rows, across, rgb[order], dot=1)


def camera_view(camera: CameraPicture, rgb: NDArray[np.uint8], width: int, dot: int = 3) -> Pixels:
    """The camera picture, darkened, with the points over it.

    Args:
        camera: picture and points.
        rgb: (N, 3) uint8.
        width: width to draw at, pixels; the shape of the picture is kept.
        dot: edge length of a point in pixels.

    Returns:
        (H * width / W, width, 3) uint8.
    """
    scale = width / camera.image.shape[1]
    height = round(camera.image.shape[0] * scale)
    resized = Image.fromarray(camera.image).resize((width, height), Image.Resampling.LANCZOS)
    canvas = (np.asarray(resized) * 0.6).astype(np.uint8)
    seen = ~np.isnan(camera.pixels).any(axis=1)
    rows, columns = np.floor(camera.pixels[seen] * scale).T
    return _splat(canvas, rows, columns, rgb[seen], dot)


def _splat(
    canvas: Pixels, rows: NDArray[np.floating], columns: NDArray[np.floating], rgb: NDArray[np.uint8], dot: int
) -> Pixels:
    """Set a square of `dot` pixels per point on `canvas`, in place; later points cover earlier ones."""
    height, width = canvas.shape[:2]
    offset = (dot - 1) // 2
    for down in range(dot):
        for right in range(dot):
            row, column = rows + down - offset, columns + right - offset
            on = (row >= 0) & (row < height) & (column >= 0) & (column < width)
            canvas[row[on].astype(int), column[on].astype(int)] = rgb[on]
    return canvas
