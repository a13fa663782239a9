"""The camera: where a point falls in the image, and crop, jitter and flip of an image together with its pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import PIL.Image
from numpy.typing import NDArray
from PIL import ImageEnhance

from utils.errors import UserError
from utils.structures import Scan

Normalizer = tuple[Sequence[float], Sequence[float]]
"""Mean and standard deviation of R, G and B, for values 0..1."""

_ENHANCERS = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)


def read_image(path: str | Path, size: tuple[int, int] | None = None) -> NDArray[np.uint8]:
    """An image file as (H, W, 3) uint8 RGB.

    Args:
        path: the file.
        size: (width, height) in pixels to bring the image to, whatever its proportions (bilinear, smoothed when it
            shrinks); None leaves it as it is. A JPEG is decoded at half its size, or a quarter or an eighth, where
            that is still not below `size`.

    Raises:
        UserError: the file is missing, truncated or not an image.
    """
    try:
        with PIL.Image.open(path) as image:
            if size is None:
                return np.asarray(image.convert("RGB"))
            drafted = image.draft("RGB", size)  # only JPEG has drafts
            # The part of the draft that the image covers: its last column and row may be cut by the edge.
            box = None if drafted is None else drafted[1]
            return np.asarray(image.convert("RGB").resize(size, PIL.Image.Resampling.BILINEAR, box))
    except FileNotFoundError as error:
        raise UserError(f"{path}: the image is missing; unpack the images there") from error
    except (OSError, SyntaxError, ValueError) as error:
        raise UserError(f"{path}: cannot read the image (truncated or not an image); unpack it again") from error


def project(
    xyz: NDArray[np.float32],
    calibration: NDArray[np.float64],
    width: int,
    height: int,
    front: Literal["x", "depth"] = "x",
) -> NDArray[np.float32]:
    """Pixel of every point: (u, v, w) = calibration @ (x, y, z, 1), col = u / w, row = v / w.

    Computed in float64: float32 deviates by up to 0.05 px, enough to change a pixel.

    Args:
        xyz: (N, 3) float32, metres, sensor frame.
        calibration: (3, 4) float64, sensor frame to image.
        width, height: size of the image in pixels.
        front: which points may be seen: "x", those with x > 0, for a camera that looks forward as KITTI's;
            "depth", those with w > 0, for any camera whose w is the distance along its axis.

    Returns:
        (N, 2) float32 (row, col); NaN unless in front, 0 < col < width and 0 < row < height.
    """
    pixels = np.full((len(xyz), 2), np.nan, dtype=np.float32)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        distance = xyz[:, 0] if front == "x" else xyz.astype(np.float64) @ calibration[2, :3] + calibration[2, 3]
        rows = np.flatnonzero(distance > 0)
        uvw = xyz[rows].astype(np.float64) @ calibration[:, :3].T + calibration[:, 3]
        # The bounds are tested on what is kept: in float32 a column may round up to the width.
        row_col = (uvw[:, 1::-1] / uvw[:, 2:]).astype(np.float32)
    seen = (row_col > 0).all(axis=1) & (row_col < np.array([height, width], dtype=np.float32)).all(axis=1)
    pixels[rows[seen]] = row_col[seen]
    return pixels


def _image_of(scan: Scan) -> NDArray[np.uint8]:
    if scan.image is None:
        raise ValueError(f"{scan.frame.path}: this scan was read without its image")
    return scan.image


def bottom_crop(scan: Scan, size: tuple[int, int], left: int) -> Scan:
    """The bottom rows of the image, from column `left` on, and its pixels.

    An image smaller than the crop is padded with black on the right and at the top, so that the bottom rows stay the
    bottom rows; rows of the pixels move with them.

    Args:
        scan: with its image (H, W, 3).
        size: (width, height) of the crop.
        left: first column of the crop.

    Returns:
        The scan with an image (height, width, 3) and pixels (row, col) in it; a point outside of the crop has none.
    """
    image = _image_of(scan)
    width, height = size
    top = len(image) - height  # negative: rows of padding
    part = image[max(top, 0) :, left : left + width]
    pad_top, pad_right = height - part.shape[0], width - part.shape[1]
    if pad_top or pad_right:
        part = np.pad(part, ((pad_top, 0), (0, pad_right), (0, 0)))
    pixels = scan.pixels - np.array([top, left], dtype=np.float32)
    limit = np.array([height, width], dtype=np.float32)
    pixels[~((pixels >= 0) & (pixels < limit)).all(axis=1)] = np.nan
    return replace(scan, image=part, pixels=pixels)


def random_left(image_width: int, crop_width: int, rng: np.random.Generator) -> int:
    """Left edge of a crop, every position with equal chance; 0 when the image is not wider than the crop."""
    return int(rng.random() * max(image_width + 1 - crop_width, 1))


def flip_horizontally(scan: Scan) -> Scan:
    """Left and right of the image exchanged: col becomes width - 1 - col.

    The pixels come out as whole numbers: mirroring 10.7, which lies in pixel 10, must give pixel width - 11.
    """
    image = _image_of(scan)
    pixels = np.floor(scan.pixels)
    pixels[:, 1] = image.shape[1] - 1 - pixels[:, 1]
    return replace(scan, image=np.ascontiguousarray(image[:, ::-1]), pixels=pixels)


def color_jitter(
    image: NDArray[np.uint8], strength: tuple[float, float, float], rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Brightness, contrast and saturation changed, in random order, by factors U(1 - s, 1 + s).

    Args:
        image: (H, W, 3) uint8 RGB.
        strength: s of brightness, contrast and saturation; a factor is never below 0.
        rng: source of the factors and of their order.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    factors = [rng.uniform(max(0.0, 1.0 - s), 1.0 + s) for s in strength]
    picture = PIL.Image.fromarray(image)
    for number in rng.permutation(len(factors)):
        picture = _ENHANCERS[number](picture).enhance(factors[number])
    return np.asarray(picture)


def normalize(image: NDArray[np.uint8], normalizer: Normalizer | None) -> NDArray[np.float32]:
    """(H, W, 3) uint8 to float32: (image / 255 - mean) / std, or image / 255 without a normalizer."""
    scaled = image.astype(np.float32)
    scaled /= 255
    if normalizer is not None:
        mean, std = (np.asarray(values, dtype=np.float32) for values in normalizer)
        scaled -= mean
        scaled /= std
    return scaled
