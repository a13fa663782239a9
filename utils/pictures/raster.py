"""Images of points as arrays: a scan from above, as the sensor sees it, and over a camera image.

Points are drawn as whole pixels, without smoothing: a class has exactly its colour of the label map.
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
"""Colour of an altered point, a return of weather or noise; no class has it."""
RANGE_COLUMNS = 1024

Pixels = NDArray[np.uint8]
"""(H, W, 3) uint8 RGB."""


@dataclass(frozen=True)
class CameraPicture:
    """A frozen record of a camera image and of the pixels of a scan's points in it.

    Attributes:
        name: name of the camera, for the caption.
        image: (H, W, 3) uint8 RGB.
        pixels: (N, 2) float32 (row, column) in `image` of each point of the scan; NaN if the camera does not see it.
    """

    name: str
    image: Pixels
    pixels: NDArray[np.float32]


def paint(labels: NDArray[np.integer], colors: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Returns the (N, 3) uint8 RGB colours of points with (N,) labels; class 0 is grey, whatever its colour in the map.

    Args:
        labels: (N,) learning ids.
        colors: (K, 3) uint8 RGB.
    """
    table = np.array(colors, dtype=np.uint8)
    table[0] = UNLABELLED
    return table[labels]


def paint_errors(labels: NDArray[np.integer], prediction: NDArray[np.integer]) -> NDArray[np.uint8]:
    """Returns (N, 3) uint8 RGB colours: grey for right predictions, red for wrong ones, dark for points without label.

    Args:
        labels, prediction: (N,) learning ids.
    """
    verdict = np.where(labels == 0, 2, labels != prediction)
    return np.array([RIGHT, WRONG, NOT_JUDGED], dtype=np.uint8)[verdict]


def paint_altered(
    labels: NDArray[np.integer], altered: NDArray[np.bool_], colors: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    """Returns the (N, 3) uint8 RGB colours of `paint`, with `ALTERED` for the points of the (N,) mask `altered`."""
    return np.where(altered[:, None], np.array(ALTERED, dtype=np.uint8), paint(labels, colors))


def birds_eye_view(
    xyz: NDArray[np.float32],
    sensor: Sensor,
    rgb: NDArray[np.uint8],
    size: int,
    reach: float = 50.0,
    dot: int = 2,
    rank: NDArray[np.floating] | None = None,
) -> Pixels:
    """Draws the scan from above, with the driving direction up and rings every 10 m.

    Args:
        xyz: (N, 3) metres, in the frame of `sensor`.
        sensor: the LiDAR that took the scan.
        rgb: (N, 3) uint8 colours of the points.
        size: edge of the image, pixels.
        reach: distance from the sensor to each edge of the image, metres.
        dot: edge of a point, pixels.
        rank: (N,) numbers; a point hides those of lower rank, however high they are. None: all are equal.

    Returns:
        (size, size, 3) uint8 RGB. Of several points in a pixel the highest is visible, but red errors are never hidden.
    """
    scale = size / (2 * reach)
    away = np.abs(np.arange(size) + 0.5 - size / 2) / scale
    distance = np.hypot(away[:, None], away[None, :])
    canvas = np.full((size, size, 3), BACKGROUND, dtype=np.uint8)
    near_ring = np.abs((distance + 5) % 10 - 5) < 0.5 / scale
    canvas[near_ring & (distance > 5) & (distance < reach)] = RING

    on_top = (rgb == WRONG).all(axis=1) if rank is None else rank
    order = np.lexsort((xyz[:, 2], on_top))
    ahead, left = sensor.ahead_and_left(xyz[order])
    rows = np.floor((reach - ahead) * scale)
    columns = np.floor((reach - left) * scale)
    return _splat(canvas, rows, columns, rgb[order], dot)


def range_view(
    xyz: NDArray[np.float32], sensor: Sensor, rgb: NDArray[np.uint8], columns: int = RANGE_COLUMNS
) -> Pixels:
    """Draws the range image of a scan: azimuth from left to right, driving direction in the middle, elevation downward.

    Args:
        xyz: (N, 3) metres, in the frame of `sensor`.
        sensor: the LiDAR that took the scan.
        rgb: (N, 3) uint8 colours of the points.
        columns: pixels of a whole turn.

    Returns:
        (beams, columns, 3) uint8 RGB. Of several points in a pixel the nearest is visible; points above or below the
        field of view are left out.
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
    """Draws the points over the darkened camera image.

    Args:
        camera: the image and the pixels of the points.
        rgb: (N, 3) uint8 colours of the points.
        width: width of the result, pixels; the aspect ratio of the image is kept.
        dot: edge of a point, pixels.

    Returns:
        (H * width / W, width, 3) uint8 RGB.
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
    """Draws a square of `dot` x `dot` pixels per point on `canvas`, in place; later points cover earlier ones."""
    height, width = canvas.shape[:2]
    offset = (dot - 1) // 2
    for down in range(dot):
        for right in range(dot):
            row, column = rows + down - offset, columns + right - offset
            on = (row >= 0) & (row < height) & (column >= 0) & (column < width)
            canvas[row[on].astype(int), column[on].astype(int)] = rgb[on]
    return canvas
