"""Intersection of rays with convex primitives and the street's ground, for LiDAR, camera and sun alike.

A primitive is a unit shape (box, gable roof, car cabin, ball or column: each within -1..1) stretched by its half sizes,
turned about the vertical and moved. A ray brought into the unit frame keeps its parameter t, so one intersection
routine per unit shape serves every size. A sensor passes windows (which rows and columns of its ray grid a primitive
can reach), so that a far bollard costs a few rays and not a whole image.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tools.demo_world.geometry.ground import Street, Zone
from tools.demo_world.geometry.noise import hash01

Array = NDArray[Any]

NEAR = 1e-3  # metres; a surface nearer than this, or one the origin lies in, is not seen
LEAF_CELL = 0.24  # metres; foliage is a random subset of such cells
LEAF_DENSITY = 0.3
LEAF_STEPS = 5
PICKET = 0.16  # metres from one picket of a fence to the next


class Shape(IntEnum):
    """The shape of a primitive."""

    GROUND = 0
    BOX = 1
    GABLE = 2
    CABIN = 3
    BALL = 4
    COLUMN = 5


class Pores(IntEnum):
    """The gaps of a primitive that let some rays through."""

    NONE = 0
    LEAVES = 1
    PICKETS = 2


PRIMITIVE = np.dtype(
    [
        ("shape", "u1"),
        ("pores", "u1"),
        ("material", "u1"),
        ("kind", "u1"),
        ("moving", "?"),
        ("instance", "u2"),
        ("seed", "u4"),
        ("yaw", "f8"),
        ("centre", "f8", 3),
        ("half", "f8", 3),
        ("colour", "f4", 3),
    ]
)

# Half-spaces n·p <= offset of the convex shapes, as rows (nx, ny, nz, offset) in the unit frame.
PLANES: dict[int, Array] = {
    Shape.BOX: np.array(
        [[1, 0, 0, 1], [-1, 0, 0, 1], [0, 1, 0, 1], [0, -1, 0, 1], [0, 0, 1, 1], [0, 0, -1, 1]], np.float32
    ),
    Shape.GABLE: np.array(
        [[1, 0, 0, 1], [-1, 0, 0, 1], [0, 1, 0.5, 0.5], [0, -1, 0.5, 0.5], [0, 0, -1, 1]], np.float32
    ),
    Shape.CABIN: np.array(
        [
            [1, 0, 0.16, 0.84],
            [-1, 0, 0.16, 0.84],
            [0, 1, 0.08, 0.92],
            [0, -1, 0.08, 0.92],
            [0, 0, 1, 1],
            [0, 0, -1, 1],
        ],
        np.float32,
    ),
}


@dataclass(frozen=True)
class Scene:
    """Everything there is to see at one moment.

    Attributes:
        primitives: (M,) of dtype PRIMITIVE. Row z < len(Zone) holds the attributes of ground zone z (row 0: the sky);
            a hit's `primitive` is a row of this table, whatever was hit.
        street: the ground's geometry; None for a scene without ground.
        sun: (3,) float64 unit vector towards the sun.
    """

    primitives: Array
    street: Street | None
    sun: Array


@dataclass(frozen=True)
class Hits:
    """The nearest surface along each ray of an (H, W) grid.

    Attributes:
        distance: (H, W) float32 metres along the ray (directions have length 1); inf where there is nothing.
        primitive: (H, W) int32 row of `Scene.primitives`; 0 where there is nothing.
    """

    distance: Array
    primitive: Array


def corners(primitives: Array) -> Array:
    """Computes the corners of each primitive's box, (M, 8, 3) float64, world frame."""
    signs = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], np.float64)
    local = signs[None] * primitives["half"][:, None]
    cos, sin = np.cos(primitives["yaw"])[:, None], np.sin(primitives["yaw"])[:, None]
    x, y = local[..., 0], local[..., 1]
    turned = np.stack([cos * x - sin * y, sin * x + cos * y, local[..., 2]], axis=-1)
    return turned + primitives["centre"][:, None]


def cast(origin: Array, directions: Array, scene: Scene, windows: Array | None = None, ground: bool = True) -> Hits:
    """Finds the nearest surface along each ray.

    Args:
        origin: (3,) or (H, W, 3), metres, world frame.
        directions: (H, W, 3) float32 unit vectors, world frame.
        scene: the surfaces to hit.
        windows: (n, 5) int rows (primitive, row0, row1, col0, col1): the half-open part of the grid where a primitive
            can appear; None tries every primitive on every ray.
        ground: whether the street's ground can be hit.
    """
    rays = tuple(np.ascontiguousarray(directions[..., axis], np.float32) for axis in range(3))
    height, width = rays[0].shape
    distance = np.full((height, width), np.inf, np.float32)
    primitive = np.zeros((height, width), np.int32)
    if ground and scene.street is not None:
        distance, zone = scene.street.cast(np.asarray(origin, np.float64), rays)
        primitive = zone.astype(np.int32)
    if windows is None:
        numbers = np.arange(len(Zone), len(scene.primitives))
        windows = np.stack([numbers, 0 * numbers, 0 * numbers + height, 0 * numbers, 0 * numbers + width], axis=1)
    for number, row0, row1, col0, col1 in windows.tolist():
        part = (slice(row0, row1), slice(col0, col1))
        start = origin if np.ndim(origin) == 1 else origin[part]
        found = _nearest(scene.primitives[number], start, tuple(axis[part] for axis in rays), distance[part])
        if found is not None:
            inside, reached = found
            np.copyto(distance[part], reached, where=inside)
            primitive[part][inside] = number
    return Hits(distance, primitive)


def _nearest(item: Any, origin: Array, rays: tuple[Array, ...], limit: Array) -> tuple[Array, Array] | None:
    """Finds the rays that meet primitive `item` nearer than `limit`, and the distances along them; None if no ray
    does."""
    half = [float(h) for h in item["half"]]
    cos, sin = float(np.cos(item["yaw"])), float(np.sin(item["yaw"]))
    shift = np.asarray(origin, np.float64) - item["centre"]
    east, north, up = (_plain(shift[..., axis]) for axis in range(3))
    start = ((cos * east + sin * north) / half[0], (cos * north - sin * east) / half[1], up / half[2])
    dx, dy, dz = rays
    ray = (
        (cos / half[0]) * dx + (sin / half[0]) * dy,
        (cos / half[1]) * dy - (sin / half[1]) * dx,
        (1 / half[2]) * dz,
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        enter, leave = _interval(int(item["shape"]), start, ray)
        inside = (enter <= leave) & (enter > NEAR) & (enter < limit)
    if not inside.any():
        return None
    if item["pores"] != Pores.NONE:
        _let_through(item, inside, enter, leave, start, ray)
        inside &= enter < limit
    return inside, enter


def _plain(value: Array) -> Any:
    """Converts to a Python float (which never promotes float32 arrays, under numpy 1 and 2) or to a float32 array."""
    return float(value) if np.ndim(value) == 0 else value.astype(np.float32)


def _interval(shape: int, start: tuple[Any, ...], ray: tuple[Array, ...]) -> tuple[Array, Array]:
    """Finds the two points along the rays where they enter and leave a unit shape (float32); enter > leave, or NaN, for
    a miss."""
    if shape in PLANES:
        return _convex_interval(shape, start, ray)
    axes = 3 if shape == Shape.BALL else 2
    a = sum(ray[i] * ray[i] for i in range(axes))
    # By way of the point closest to the centre: b² - ac would lose all digits of a small ball far away.
    closest = -sum(start[i] * ray[i] for i in range(axes)) / a
    aside = sum((start[i] + closest * ray[i]) ** 2 for i in range(axes))
    root = np.sqrt((1.0 - aside) / a)  # NaN: missed
    enter, leave = closest - root, closest + root
    if shape == Shape.COLUMN:
        first, second = (-1 - start[2]) / ray[2], (1 - start[2]) / ray[2]
        enter = np.maximum(enter, np.minimum(first, second))
        leave = np.minimum(leave, np.maximum(first, second))
    return enter, leave


def _convex_interval(shape: int, start: tuple[Any, ...], ray: tuple[Array, ...]) -> tuple[Array, Array]:
    if shape == Shape.BOX:  # three slabs, in half the operations of six half-spaces
        pairs = [((-1 - o) / d, (1 - o) / d) for o, d in zip(start, ray, strict=True)]
        lows, highs = [np.minimum(*p) for p in pairs], [np.maximum(*p) for p in pairs]
        return np.maximum(np.maximum(*lows[:2]), lows[2]), np.minimum(np.minimum(*highs[:2]), highs[2])
    enter: Array = np.full(ray[0].shape, -np.inf, np.float32)
    leave: Array = np.full(ray[0].shape, np.inf, np.float32)
    for *normal, offset in PLANES[shape].tolist():
        towards = sum(n * d for n, d in zip(normal, ray, strict=True) if n)
        reached = (offset - sum(n * o for n, o in zip(normal, start, strict=True) if n)) / towards
        enter = np.where(towards < 0, np.maximum(enter, reached), enter)
        leave = np.where(towards > 0, np.minimum(leave, reached), leave)
    return enter, leave


def _let_through(item: Any, inside: Array, enter: Array, leave: Array, start: tuple, ray: tuple) -> None:
    """Moves `enter` on to the first leaf, or clears `inside` where a ray passes between leaves or pickets."""
    begin, end = enter[inside], leave[inside]
    o = [s if np.ndim(s) == 0 else s[inside] for s in start]
    d = [axis[inside] for axis in ray]
    half = [float(h) for h in item["half"]]

    def at(t: Array, axis: int) -> Array:
        return (o[axis] + d[axis] * t) * half[axis]

    if item["pores"] == Pores.PICKETS:
        along, up = at(begin, 0) / PICKET, at(begin, 2)
        rail = np.abs(np.abs(up) - 0.55 * half[2]) < 0.06
        inside[inside] = (along - np.floor(along) < 0.62) | rail
        return
    reached = np.full(begin.shape, np.inf, np.float32)
    for step in range(LEAF_STEPS):
        t = begin + np.float32(0.02 + 0.3 * step)
        cells = [np.floor(at(t, axis) / LEAF_CELL).astype(np.int32) for axis in range(3)]
        leaf = (hash01(int(item["seed"]), *cells) < LEAF_DENSITY) & (t < end)
        np.minimum(reached, t, out=reached, where=leaf)
    enter[inside] = reached
    inside[inside] = np.isfinite(reached)
