"""Footprints of objects: upright boxes seen from above, and the ground around them.

A box is five numbers: x and y of its centre, half its length, half its width (metres), and the angle of its length
from the x axis (radians).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BOX = 5
_ANGLES = np.radians(np.arange(0, 90, 3))
_AROUND = 0.75  # metres: so far around a box its ground is looked for
_ENOUGH = 8  # points of ground that tell its height
_LATTICE = 0.125  # metres between the points that stand for a box

Box = NDArray[np.floating]


@dataclass(frozen=True)
class Ground:
    """A frozen record of the ground around a box.

    Attributes:
        height: median of z, metres.
        roughness: standard deviation of z, metres.
        surface: the learning id that most of its points have.
    """

    height: float
    roughness: float
    surface: int


def box_around(xy: NDArray[np.float32]) -> NDArray[np.float32]:
    """Returns the upright box of the smallest area around (N, 2) points, to three degrees."""
    cos, sin = np.cos(_ANGLES), np.sin(_ANGLES)
    middle = xy.mean(axis=0, dtype=np.float64)
    x, y = (xy - middle).T
    along, across = np.outer(cos, x) + np.outer(sin, y), np.outer(cos, y) - np.outer(sin, x)
    edges = [(axis.min(axis=1), axis.max(axis=1)) for axis in (along, across)]
    best = int(np.argmin(np.prod([high - low for low, high in edges], axis=0)))
    (low_u, high_u), (low_v, high_v) = [(low[best], high[best]) for low, high in edges]
    u, v, c, s = (low_u + high_u) / 2, (low_v + high_v) / 2, cos[best], sin[best]
    centre = middle[0] + c * u - s * v, middle[1] + s * u + c * v
    return np.array([*centre, (high_u - low_u) / 2, (high_v - low_v) / 2, _ANGLES[best]], dtype=np.float32)


def inside(box: Box, xy: NDArray[np.floating], margin: float = 0.0) -> NDArray[np.bool_]:
    """Tells, (N,) bool, which of (N, 2) points lie in a box that is larger by a margin (metres) on all sides."""
    x, y = (xy - box[:2]).T
    c, s = np.cos(box[4]), np.sin(box[4])
    return (np.abs(c * x + s * y) <= box[2] + margin) & (np.abs(c * y - s * x) <= box[3] + margin)


def turned_box(box: Box, angle: float) -> Box:
    """Returns a box that is turned about the z axis of the sensor by an angle, radians."""
    c, s = np.cos(angle), np.sin(angle)
    x, y = box[:2]
    return np.array([c * x - s * y, s * x + c * y, box[2], box[3], box[4] + angle])


def turned(points: NDArray[np.float64], angles: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns (M, 2) points as they are turned about the origin by each of T angles, radians: (T, M, 2)."""
    plane = np.ascontiguousarray(points).view(np.complex128)[:, 0] * np.exp(1j * angles)[:, None]
    return plane.view(np.float64).reshape(len(angles), len(points), 2)


def lattice(box: Box, margin: float = 0.0) -> NDArray[np.float64]:
    """Returns (M, 2) points of a box, 0.125 m or less apart, with a margin (metres) on all sides."""
    half = box[2:4] + margin
    axes = [np.linspace(-reach, reach, 2 + int(2 * reach / _LATTICE)) for reach in half.tolist()]
    u, v = (axis.ravel() for axis in np.meshgrid(*axes))
    c, s = np.cos(box[4]), np.sin(box[4])
    return np.column_stack([box[0] + c * u - s * v, box[1] + s * u + c * v])


def ground_of(box: Box, xyz: NDArray[np.float32], labels: NDArray[np.uint8]) -> Ground | None:
    """Measures the ground in a box and 0.75 m around it.

    Args:
        box: the footprint.
        xyz: (G, 3) points of ground, metres.
        labels: (G,) their learning ids.

    Returns:
        None where fewer than eight points of ground are there.
    """
    near = np.flatnonzero(inside(box, xyz[:, :2], _AROUND))
    if len(near) < _ENOUGH:
        return None
    z = xyz[near, 2]
    return Ground(float(np.median(z)), float(z.std()), int(np.bincount(labels[near]).argmax()))
