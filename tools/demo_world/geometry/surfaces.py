"""Position and normal of the surfaces that rays hit, for shading and for textures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tools.demo_world.geometry.raycast import PLANES, Hits, Scene, Shape

Array = NDArray[Any]


@dataclass(frozen=True)
class Surfaces:
    """Positions and normals of the surfaces that were hit, for the n rays that hit something.

    Attributes:
        point: (n, 3) float32 world position, metres.
        normal: (n, 3) float32 unit normal in the world.
        local: (n, 3) float32 position in the primitive's own frame, metres; on the ground: along the street, across
            it (left is positive), height.
        facing: (n, 3) float32 unit normal in the primitive's own frame.
    """

    point: Array
    normal: Array
    local: Array
    facing: Array


def surfaces(origin: Array, directions: Array, scene: Scene, hits: Hits) -> Surfaces:
    """Finds position and normal of every hit, in row-major order of the grid.

    Args:
        origin: (3,), metres; directions: (H, W, 3); scene, hits: as given to and returned by `cast`.
    """
    seen = hits.primitive > 0
    ray = directions[seen].astype(np.float32)
    point = np.asarray(origin, np.float32) + ray * hits.distance[seen][:, None]
    number = hits.primitive[seen]
    table = scene.primitives
    half, centre = table["half"].astype(np.float32)[number], table["centre"].astype(np.float32)[number]
    cos, sin = np.cos(table["yaw"]).astype(np.float32)[number], np.sin(table["yaw"]).astype(np.float32)[number]
    shift = point - centre
    local = _turned(shift, cos, -sin)
    facing = _facing(table["shape"][number], local / half, half)
    normal = _turned(facing, cos, sin)
    floor = table["shape"][number] == Shape.GROUND
    if scene.street is not None and floor.any():
        local[floor], normal[floor] = scene.street.surface(point[floor], number[floor])
        facing[floor] = normal[floor]
    return Surfaces(point, normal, local, facing)


def _turned(vectors: Array, cos: Array, sin: Array) -> Array:
    """Turns each of (n, 3) vectors about the vertical by its own angle."""
    x, y, z = vectors.T
    return np.stack([cos * x - sin * y, sin * x + cos * y, z], axis=1)


def _facing(shape: Array, unit: Array, half: Array) -> Array:
    """Finds the unit normals in the primitives' frames, (n, 3) float32, for positions `unit` on the unit shapes."""
    normal = unit.copy()
    capped = (shape == Shape.COLUMN) & (np.abs(unit[:, 2]) > np.hypot(unit[:, 0], unit[:, 1]))
    normal[shape == Shape.COLUMN, 2] = 0
    normal[capped] = np.sign(unit[capped]) * np.array([0, 0, 1], np.float32)
    for kind, planes in PLANES.items():
        rows = np.flatnonzero(shape == kind)
        inner = np.einsum("ni,ki->nk", unit[rows], planes[:, :3]) - planes[:, 3]
        normal[rows] = planes[np.argmax(inner, axis=1), :3]
    normal /= half
    return normal / np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-9)
