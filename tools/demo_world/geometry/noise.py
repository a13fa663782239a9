"""Noise that is a pure function of position: the same wall looks the same from every frame and every sensor."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
_PRIMES = (np.uint32(0x8DA6B343), np.uint32(0xD8163841), np.uint32(0xCB1AB31F))


def hash01(seed: int | Array, *cells: Array) -> Array:
    """Draws a number in [0, 1) (float32) for each integer lattice cell; up to three int32 coordinates, any seed."""
    with np.errstate(over="ignore"):
        mixed = np.asarray(seed).astype(np.uint32) * np.uint32(0x9E3779B1)
        for prime, cell in zip(_PRIMES, cells, strict=False):
            mixed = mixed ^ (cell.astype(np.int32).view(np.uint32) * prime)
        mixed = (mixed ^ (mixed >> np.uint32(15))) * np.uint32(0x2C1B3C6D)
        mixed = (mixed ^ (mixed >> np.uint32(12))) * np.uint32(0x297A2D39)
        mixed = mixed ^ (mixed >> np.uint32(15))
    return (mixed >> np.uint32(8)).astype(np.float32) * np.float32(2.0**-24)


def value_noise(seed: int | Array, x: Array, y: Array) -> Array:
    """Makes smooth noise in [0, 1] (float32) with features one unit wide."""
    x0, y0 = np.floor(x), np.floor(y)
    fx, fy = x - x0, y - y0
    fx, fy = fx * fx * (3 - 2 * fx), fy * fy * (3 - 2 * fy)
    i, j = x0.astype(np.int32), y0.astype(np.int32)
    low = hash01(seed, i, j) * (1 - fx) + hash01(seed, i + 1, j) * fx
    high = hash01(seed, i, j + 1) * (1 - fx) + hash01(seed, i + 1, j + 1) * fx
    return (low * (1 - fy) + high * fy).astype(np.float32)
