"""Colours that can be seen on the ground of the page, dark or light."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from utils.pictures.raster import NOT_JUDGED, RIGHT, UNLABELLED, WRONG

CONTRAST = 2.2
"""The least contrast of a class with the ground, as WCAG 2 defines it (1: the same lightness, 21: black on white)."""

_RAMP = (
    (68, 1, 84), (71, 44, 122), (59, 81, 139), (44, 113, 142), (33, 144, 141),
    (39, 173, 129), (92, 200, 99), (170, 220, 50), (253, 231, 37),
)  # fmt: skip
"""Nine colours of matplotlib's viridis, from low to high."""

_ORIGINS = np.array([RIGHT, (255, 140, 0)], dtype=np.uint8)
"""Of points of the scan itself, and of another one."""


@dataclass(frozen=True)
class Ground:
    """A frozen record of a ground of the page, and of what is drawn on it beside the classes.

    Attributes:
        name: its name on the page.
        color: RGB of the page behind the points, as viser's themes have it.
        ring: RGB of the distance rings.
        faint: RGB of points that are not meant: without label where errors are shown, or beside a class that is looked
            at.
    """

    name: str
    color: tuple[int, int, int]
    ring: tuple[int, int, int]
    faint: tuple[int, int, int]


DARK = Ground("dark", (20, 20, 20), (78, 84, 94), NOT_JUDGED)
LIGHT = Ground("light", (255, 255, 255), (176, 180, 186), (204, 207, 212))
GROUNDS = {ground.name: ground for ground in (DARK, LIGHT)}


def luminance(rgb: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Computes the relative luminance of sRGB colours as WCAG 2 defines it, 0 (black) to 1 (white).

    Args:
        rgb: (..., 3) 0..255.
    """
    share = np.asarray(rgb, dtype=np.float64) / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    return (linear * np.array([0.2126, 0.7152, 0.0722])).sum(axis=-1)


def contrast(rgb: NDArray[np.uint8], ground: Ground) -> NDArray[np.float64]:
    """Computes the contrast of colours with a ground, 1 to 21.

    Args:
        rgb: (..., 3) uint8.
        ground: the ground behind them.
    """
    one, other = luminance(rgb), luminance(np.array(ground.color))
    return (np.maximum(one, other) + 0.05) / (np.minimum(one, other) + 0.05)


def seen_on(ground: Ground, colors: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Returns the colours, those without `CONTRAST` to the ground mixed with as much white or black as it takes.

    Args:
        ground: the ground behind them.
        colors: (K, 3) uint8 RGB.

    Returns:
        (K, 3) uint8 RGB. A colour that has the contrast is unchanged.
    """
    away = 255.0 if luminance(np.array(ground.color)) < 0.5 else 0.0
    seen = np.array(colors, dtype=np.uint8)
    for step in range(1, 51):
        weak = contrast(seen, ground) < CONTRAST
        if not weak.any():
            break
        share = step / 50
        seen[weak] = np.rint(colors[weak] * (1 - share) + away * share).astype(np.uint8)
    return seen


def class_colors(ground: Ground, colors: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Returns the (K, 3) uint8 RGB colours that the classes have on a ground; that of the ignored class 0 is grey."""
    table = seen_on(ground, colors)
    table[0] = UNLABELLED
    return table


def verdict_colors(ground: Ground) -> NDArray[np.uint8]:
    """Returns the (3, 3) uint8 RGB colours of right, wrong and not judged points."""
    return np.array([RIGHT, WRONG, ground.faint], dtype=np.uint8)


def origin_colors(ground: Ground) -> NDArray[np.uint8]:
    """Returns the (3, 3) uint8 RGB colours of points of the scan itself, of another one mixed in, and of past scans."""
    return np.array([*seen_on(ground, _ORIGINS), ground.faint], dtype=np.uint8)


def age_colors(ground: Ground) -> NDArray[np.uint8]:
    """Returns (256, 3) uint8 RGB colours from new to old; the newest stand out the most."""
    ramp = ramp_colors(ground)
    first, last = contrast(ramp[[0, -1]], ground)
    return ramp if first > last else ramp[::-1]


def ramp_colors(ground: Ground) -> NDArray[np.uint8]:
    """Returns (256, 3) uint8 RGB colours from low to high values."""
    stops = np.linspace(0, 255, len(_RAMP))
    channels = [np.interp(np.arange(256), stops, channel) for channel in zip(*_RAMP, strict=True)]
    return seen_on(ground, np.rint(np.stack(channels, axis=1)).astype(np.uint8))
