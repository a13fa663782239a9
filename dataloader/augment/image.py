"""Augmentation of a camera image together with the pixels of the points: crop, colour jitter and flip."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from utils.scan.records import Scan

_BRIGHTNESS, _CONTRAST = 0, 1  # positions in `strength` of `color_jitter`; saturation is the third


def _image_of(scan: Scan) -> NDArray[np.uint8]:
    if scan.image is None:
        raise ValueError(f"{scan.frame.path}: this scan was read without its image")
    return scan.image


def bottom_crop(scan: Scan, size: tuple[int, int], left: int) -> Scan:
    """Crops the image to its bottom rows, from column `left` on, and adapts the pixels of the points.

    An image smaller than the crop is padded with black on the right and at the top, so that the bottom rows stay the
    bottom rows; the pixels move with them.

    Args:
        scan: a scan with its image (H, W, 3).
        size: (width, height) of the crop.
        left: first column of the crop.

    Returns:
        The scan with an image (height, width, 3) and pixels (row, column) in it; NaN for points outside the crop.

    Raises:
        ValueError: the scan was read without its image.
    """
    image = _image_of(scan)
    width, height = size
    top = len(image) - height  # negative: rows of padding
    part = image[max(top, 0) :, left : left + width]
    part = np.pad(part, ((height - part.shape[0], 0), (0, width - part.shape[1]), (0, 0)))
    seen = np.flatnonzero(scan.pixels[:, 0] >= 0)  # seen by the camera: not NaN
    row, col = (scan.pixels[seen, axis] - np.float32(start) for axis, start in enumerate((top, left)))
    kept = (row >= 0) & (row < np.float32(height)) & (col >= 0) & (col < np.float32(width))
    pixels = np.full_like(scan.pixels, np.nan)
    pixels[seen[kept], 0], pixels[seen[kept], 1] = row[kept], col[kept]
    return replace(scan, image=part, pixels=pixels)


def random_left(image_width: int, crop_width: int, rng: np.random.Generator) -> int:
    """Draws the left edge of a crop, pixels, every position with equal chance; 0 if the image is not wider."""
    return int(rng.random() * max(image_width + 1 - crop_width, 1))


def flip_horizontally(scan: Scan) -> Scan:
    """Exchanges left and right of the image: column c becomes width - 1 - c.

    The pixels become whole numbers first: 10.7 lies in pixel 10, which must become pixel width - 11.

    Raises:
        ValueError: the scan was read without its image.
    """
    image = _image_of(scan)
    pixels = np.floor(scan.pixels)
    pixels[:, 1] = image.shape[1] - 1 - pixels[:, 1]
    return replace(scan, image=_tensor(image).flip(1).numpy(), pixels=pixels)  # numpy takes ten times as long


def color_jitter(
    image: NDArray[np.uint8], strength: tuple[float, float, float], rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Changes brightness, contrast and saturation, in random order, by factors U(1 - s, 1 + s).

    Args:
        image: (H, W, 3) uint8 RGB.
        strength: s for brightness, contrast and saturation; a factor is never below 0.
        rng: source of the factors and of their order.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    factors = [rng.uniform(max(0.0, 1.0 - s), 1.0 + s) for s in strength]
    # One plane per channel is three times as fast as Pillow on the image. Torch only compares here: its sums and
    # products may depend on the number of threads, and a training item must not.
    planes = image.transpose(2, 0, 1).astype(np.float32, order="C")
    for kind in rng.permutation(len(factors)):
        factor = np.float32(factors[kind])
        if kind == _BRIGHTNESS:
            planes *= factor
        elif kind == _CONTRAST:  # away from the mean grey of the image, or towards it
            mean = _grey(planes).mean(dtype=np.float64)
            planes *= factor
            planes += np.float32((1 - factor) * mean)
        else:  # saturation: away from the grey of each pixel, or towards it
            grey = _grey(planes)
            planes *= factor
            planes += (1 - factor) * grey
        torch.from_numpy(planes).clamp_(0, 255)
    planes += np.float32(0.5)
    return planes.astype(np.uint8).transpose(1, 2, 0)


def _grey(planes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Computes the (H, W) luma of (3, H, W) RGB planes (ITU-R BT.601)."""
    red, green, blue = planes
    grey = np.float32(0.299) * red
    grey += np.float32(0.587) * green
    grey += np.float32(0.114) * blue
    return grey


def _tensor(image: NDArray[np.uint8]) -> Tensor:
    """Returns the image as a tensor in the same memory; a read-only image is copied, or torch would warn."""
    return torch.from_numpy(np.require(image, requirements="W"))
