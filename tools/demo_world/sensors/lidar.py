"""A spinning LiDAR: poses and beams in, points out."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tools.demo_world.geometry import raycast
from tools.demo_world.geometry.materials import reflectance_table
from tools.demo_world.geometry.raycast import Scene
from tools.demo_world.geometry.surfaces import surfaces

Array = NDArray[Any]

NEAREST = 0.9  # metres; what is nearer is the car itself


@dataclass(frozen=True)
class LidarSpec:
    """A sensor's data sheet.

    Attributes:
        beams: lasers, evenly spaced in elevation.
        azimuth_steps: measurements of each laser in a turn.
        top, bottom: elevation of the first and the last laser, degrees (those of the HDL-64E by default).
        reach: metres; nothing farther is measured.
        range_noise: standard deviation of a measured range, metres.
        dropout: share of the measurements that are lost, whatever they hit.
        ghosts: share of the measurements that report a range between sensor and surface (dust, rain, cross-talk).
        reflectance: (name, share) of materials that send back another share of the light than usual.
    """

    beams: int = 32
    azimuth_steps: int = 1024
    top: float = 2.0
    bottom: float = -24.8
    reach: float = 80.0
    range_noise: float = 0.02
    dropout: float = 0.02
    ghosts: float = 0.0003
    reflectance: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class Sweep:
    """One turn of the sensor; row i of every column is the same point, beam by beam from the top.

    Attributes:
        xyz: (N, 3) float32, metres, sensor frame (x forward, y left, z up).
        reflectance: (N,) float32, 0..1.
        primitive: (N,) int32 row of `Scene.primitives` that was hit; 0 for a ghost.
        beam: (N,) int32, counted from the top.
    """

    xyz: Array
    reflectance: Array
    primitive: Array
    beam: Array

    def ordered(self, order: Array) -> Sweep:
        """Returns the same points, row `order[i]` as row i."""
        return Sweep(self.xyz[order], self.reflectance[order], self.primitive[order], self.beam[order])


def sweep(scene: Scene, pose: Array, spec: LidarSpec, rng: np.random.Generator) -> Sweep:
    """Measures a turn of the sensor.

    Args:
        scene: the surfaces to see.
        pose: (4, 4) float64, sensor to world. The street's ground has to be below the sensor.
        spec: the sensor.
        rng: source of noise.
    """
    directions = beam_directions(spec.beams, spec.azimuth_steps, spec.top, spec.bottom)
    turned = np.einsum("hwj,ij->hwi", directions, pose[:3, :3].astype(np.float32))
    hits = raycast.cast(pose[:3, 3], turned, scene, _windows(scene, pose, spec))
    seen = (hits.primitive > 0) & (hits.distance < spec.reach)
    found = surfaces(pose[:3, 3], turned, scene, raycast.Hits(hits.distance, np.where(seen, hits.primitive, 0)))
    primitive, distance = hits.primitive[seen], hits.distance[seen]
    cosine = np.abs(np.einsum("ni,ni->n", found.normal, turned[seen]))
    material = scene.primitives["material"][primitive]
    reflectance = reflectance_table(dict(spec.reflectance))[material] * (0.55 + 0.45 * cosine)
    reflectance = reflectance + rng.normal(0, 0.03, len(distance))
    ghost = rng.random(len(distance)) < spec.ghosts
    distance = distance + rng.normal(0, spec.range_noise, len(distance))
    distance = np.where(ghost, rng.uniform(2, 15, len(distance)).clip(None, distance), distance)
    # Little light comes back from dark, far surfaces: the chance of a measurement falls off over the last third.
    faint = np.clip((distance / spec.reach - 0.65) / 0.35, 0, 1) * (1 - np.clip(reflectance, 0, 1))
    kept = rng.random(len(distance)) >= spec.dropout + (1 - spec.dropout) * 0.8 * faint
    kept &= (distance > NEAREST) & (distance < spec.reach)
    return Sweep(
        xyz=(directions[seen] * distance[:, None])[kept].astype(np.float32),
        reflectance=(np.round(reflectance.clip(0, 0.99) * 100) / 100)[kept].astype(np.float32),
        primitive=np.where(ghost, 0, primitive)[kept].astype(np.int32),
        beam=np.nonzero(seen)[0][kept].astype(np.int32),
    )


@lru_cache(maxsize=4)
def beam_directions(beams: int, azimuth_steps: int, top: float, bottom: float) -> Array:
    """Returns unit vectors (beams, azimuth_steps, 3) float32, sensor frame; columns turn clockwise from behind."""
    elevation = np.radians(np.linspace(top, bottom, beams))[:, None]
    azimuth = (np.pi - (np.arange(azimuth_steps) + 0.5) * (2 * np.pi / azimuth_steps))[None]
    flat = np.cos(elevation)
    parts = np.broadcast_arrays(flat * np.cos(azimuth), flat * np.sin(azimuth), np.sin(elevation))
    return np.stack(parts, axis=-1).astype(np.float32)


def _windows(scene: Scene, pose: Array, spec: LidarSpec) -> Array:
    """Finds the beams and azimuth steps that can reach each primitive, (n, 5): bounds from the corners of its box."""
    items = scene.primitives
    relative = raycast.corners(items) - pose[:3, 3]
    local = np.einsum("mkj,ji->mki", relative, pose[:3, :3])
    row0, row1 = _row_bounds(items, relative, local, pose, spec)
    col0, col1 = _column_bounds(local, spec.azimuth_steps)
    numbers = np.flatnonzero((items["shape"] != raycast.Shape.GROUND) & (row0 < row1) & (col0 < col1))
    rows = []
    for number in numbers.tolist():
        first, last, steps = int(col0[number]), int(col1[number]), spec.azimuth_steps
        spans = [(first, last)]
        if first < 0:
            spans = [(0, last), (first + steps, steps)]
        elif last > steps:
            spans = [(first, steps), (0, last - steps)]
        rows += [(number, row0[number], row1[number], *span) for span in spans]
    return np.array(rows, np.int64).reshape(-1, 5)


def _row_bounds(items: Array, relative: Array, local: Array, pose: Array, spec: LidarSpec) -> tuple[Array, Array]:
    """Finds the first and past-the-last beam, (M,). The sine of an elevation is height over range; both are bounded by
    the box."""
    cos, sin = np.cos(items["yaw"]), np.sin(items["yaw"])
    east, north, up = (pose[:3, 3] - items["centre"]).T
    own = np.stack([cos * east + sin * north, cos * north - sin * east, up], axis=1)
    near = np.linalg.norm(np.maximum(np.abs(own) - items["half"], 0), axis=1).clip(1e-3)
    far = np.linalg.norm(relative, axis=2).max(axis=1)
    low, high = local[..., 2].min(axis=1), local[..., 2].max(axis=1)
    top = np.arcsin(np.clip(high / np.where(high > 0, near, far), -1, 1))
    bottom = np.arcsin(np.clip(low / np.where(low > 0, far, near), -1, 1))
    step = np.radians(spec.top - spec.bottom) / max(spec.beams - 1, 1)
    first = np.ceil((np.radians(spec.top) - top) / step - 1e-3)
    last = np.floor((np.radians(spec.top) - bottom) / step + 1e-3) + 1
    first, last = (np.clip(edge, 0, spec.beams).astype(np.int64) for edge in (first, last))
    return np.where(near > spec.reach, 0, first), np.where(near > spec.reach, 0, last)


def _column_bounds(local: Array, steps: int) -> tuple[Array, Array]:
    """Finds the first and past-the-last azimuth step, (M,); the first may be negative or the last beyond `steps`
    (wrapped)."""
    azimuth = np.arctan2(local[..., 1], local[..., 0])
    middle = np.arctan2(local[..., 1].mean(axis=1), local[..., 0].mean(axis=1))
    turn = (azimuth - middle[:, None] + np.pi) % (2 * np.pi) - np.pi
    left, right = turn.max(axis=1), turn.min(axis=1)
    around = left - right >= np.pi  # the sensor's axis goes through the box
    scale = steps / (2 * np.pi)
    first = np.ceil((np.pi - middle - left) * scale - 0.5 - 1e-3).astype(np.int64)
    last = np.floor((np.pi - middle - right) * scale - 0.5 + 1e-3).astype(np.int64) + 1
    return np.where(around, 0, first), np.where(around, steps, np.minimum(last, first + steps))
