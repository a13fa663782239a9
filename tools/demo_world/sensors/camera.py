"""A colour camera that sees the surfaces the LiDAR sees: poses and intrinsics in, pictures out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tools.demo_world.geometry import raycast
from tools.demo_world.geometry.raycast import Scene
from tools.demo_world.geometry.surfaces import surfaces
from tools.demo_world.street import textures

Array = NDArray[Any]

NEAR_PLANE = 0.05  # metres
SUNLIGHT = np.array([1.75, 1.62, 1.38], np.float32)
SKYLIGHT = np.array([0.42, 0.48, 0.58], np.float32)
HAZE = np.array([0.70, 0.77, 0.84], np.float32)
VISIBILITY = 420.0  # metres


@dataclass(frozen=True)
class Picture:
    """A picture with the depth and the primitive of each pixel.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        depth: (H, W) float32, metres along the optical axis; inf where there is only sky.
        primitive: (H, W) int32 row of `Scene.primitives`; 0 for the sky.
    """

    image: Array
    depth: Array
    primitive: Array


@dataclass(frozen=True)
class Shadows:
    """The scene as the sun sees it, one texel per beam of sunlight.

    Attributes:
        axes: (3, 3) float64 rows: two axes across the sunlight, and the direction to the sun.
        corner: (2,) float64 position of texel (0, 0) along the first two axes, metres.
        texel: edge length, metres.
        height: (H, W) float32 position along the third axis of what the beam meets first; -inf for the ground.
    """

    axes: Array
    corner: Array
    texel: float
    height: Array

    def lit(self, point: Array, normal: Array) -> Array:
        """Returns the share of sunlight (0..1) that reaches `point` (n, 3), as (n,) float32; 1 outside the map."""
        lifted = point + 0.06 * normal
        u, v, w = np.einsum("ni,ai->an", lifted, self.axes.astype(np.float32))
        column = (u - np.float32(self.corner[0])) / np.float32(self.texel) - 0.5
        row = (v - np.float32(self.corner[1])) / np.float32(self.texel) - 0.5
        c0, r0 = np.floor(column), np.floor(row)
        fc, fr = column - c0, row - r0
        total = np.zeros(len(point), np.float32)
        for dr, dc in ((0, 0), (0, 1), (1, 0), (1, 1)):
            weight = (fr if dr else 1 - fr) * (fc if dc else 1 - fc)
            r = np.clip(r0 + dr, 0, self.height.shape[0] - 1).astype(np.int32)
            c = np.clip(c0 + dc, 0, self.height.shape[1] - 1).astype(np.int32)
            total += weight * (w > self.height[r, c] - 0.15)
        outside = (r0 < 0) | (c0 < 0) | (r0 >= self.height.shape[0] - 1) | (c0 >= self.height.shape[1] - 1)
        return np.where(outside, np.float32(1), total)


def cast_shadows(scene: Scene, centre: Array, reach: float = 34.0, texel: float = 0.12) -> Shadows:
    """Makes the shadow map of the square of sunlight that reaches `reach` metres to each side of `centre` ((3,), world
    frame)."""
    sun = scene.sun
    across = np.cross(np.array([0.0, 0.0, 1.0]), sun)
    across /= np.linalg.norm(across)
    axes = np.stack([across, np.cross(sun, across), sun])
    size = int(2 * reach / texel)
    corner = np.floor((axes[:2] @ np.asarray(centre, np.float64) - reach) / texel) * texel
    grid = corner[0] + (np.arange(size) + 0.5) * texel, corner[1] + (np.arange(size) + 0.5) * texel
    top = float(axes[2] @ centre) + 200.0
    origin = grid[0][None, :, None] * axes[0] + grid[1][:, None, None] * axes[1] + top * axes[2]
    directions = np.broadcast_to((-sun).astype(np.float32), origin.shape)
    seen = np.einsum("mki,ai->mka", raycast.corners(scene.primitives), axes[:2])
    hits = raycast.cast(origin, directions, scene, _boxes((seen - corner) / texel, scene, size, size), ground=False)
    return Shadows(axes, corner, texel, (top - hits.distance).astype(np.float32))


def render(
    scene: Scene,
    pose: Array,
    intrinsics: Array,
    size: tuple[int, int],
    rng: np.random.Generator,
    shadows: Shadows | None = None,
) -> Picture:
    """Renders the picture of a pinhole camera.

    A point (x, y, z) of the camera frame (x right, y down, z forward) appears at column (fx x + cx z) / z and the row
    alike; pixel (r, c) looks through (c + 0.5, r + 0.5).

    Args:
        scene: the surfaces to see.
        pose: (4, 4) float64, camera to world.
        intrinsics: (3, 3), pixels; no skew.
        size: width, height in pixels.
        rng: source of image noise.
        shadows: see `cast_shadows`; None leaves shadows out.
    """
    width, height = size
    fx, fy, cx, cy = (float(intrinsics[i, j]) for i, j in ((0, 0), (1, 1), (0, 2), (1, 2)))
    right = (np.arange(width) + 0.5 - cx) / fx
    down = (np.arange(height) + 0.5 - cy) / fy
    plane = np.stack(np.broadcast_arrays(right[None], down[:, None], 1.0), axis=-1).astype(np.float32)
    lengths = np.linalg.norm(plane, axis=-1)
    rays = np.einsum("hwj,ij->hwi", plane / lengths[..., None], pose[:3, :3].astype(np.float32))
    hits = raycast.cast(pose[:3, 3], rays, scene, _windows(scene, pose, intrinsics, size))
    image = _shade(scene, pose, rays, hits, shadows)
    image = image * np.float32(rng.uniform(0.92, 1.08))  # exposure varies a little
    image = image ** np.float32(1 / 2.2) + rng.normal(0, 0.008, image.shape).astype(np.float32)
    return Picture((np.clip(image, 0, 1) * 255).astype(np.uint8), hits.distance / lengths, hits.primitive)


def _shade(scene: Scene, pose: Array, rays: Array, hits: raycast.Hits, shadows: Shadows | None) -> Array:
    """Computes linear light, (H, W, 3) float32: Lambert under sun and sky, fading into haze."""
    image = textures.sky(rays.reshape(-1, 3), scene.sun).reshape(rays.shape)
    seen = hits.primitive > 0
    found = surfaces(pose[:3, 3], rays, scene, hits)
    distance = hits.distance[seen]
    albedo = textures.albedo(scene.primitives, hits.primitive[seen], found, distance)
    # Foliage scatters light: no side of it is as dark as a wall's.
    leaves = scene.primitives["pores"][hits.primitive[seen]] == raycast.Pores.LEAVES
    direct = np.maximum(np.einsum("ni,i->n", found.normal, scene.sun.astype(np.float32)), 0)
    direct = np.where(leaves, 0.35 + 0.45 * direct, direct)
    if shadows is not None:
        near = distance < 75
        direct[near] *= shadows.lit(found.point[near], found.normal[near])
    sky = 0.55 + 0.45 * found.normal[:, 2]
    light = direct[:, None] * SUNLIGHT + sky[:, None] * SKYLIGHT
    clear = np.exp(-distance / np.float32(VISIBILITY))[:, None]
    image[seen] = albedo * light * clear + HAZE * (1 - clear)
    return np.maximum(image, 0)


def _windows(scene: Scene, pose: Array, intrinsics: Array, size: tuple[int, int]) -> Array:
    """Finds the pixels that can show each primitive, (n, 5): bounds of its box's edges, cut off at the near plane."""
    local = np.einsum("mkj,ji->mki", raycast.corners(scene.primitives) - pose[:3, 3], pose[:3, :3])
    pairs = [(i, i ^ bit) for i in range(8) for bit in (1, 2, 4) if not i & bit]
    first, second = local[:, [i for i, _ in pairs]], local[:, [j for _, j in pairs]]
    with np.errstate(divide="ignore", invalid="ignore"):
        share = (NEAR_PLANE - first[..., 2]) / (second[..., 2] - first[..., 2])
    cut = first + np.where(np.isfinite(share), share, 0)[..., None] * (second - first)
    behind = first[..., 2] < NEAR_PLANE, second[..., 2] < NEAR_PLANE
    ends = [np.where(hidden[..., None], cut, end) for hidden, end in zip(behind, (first, second), strict=True)]
    ends = np.concatenate(ends, axis=1)
    gone = np.concatenate([behind[0] & behind[1]] * 2, axis=1)
    depth = np.maximum(ends[..., 2], NEAR_PLANE)
    u = intrinsics[0, 0] * ends[..., 0] / depth + intrinsics[0, 2]
    v = intrinsics[1, 1] * ends[..., 1] / depth + intrinsics[1, 2]
    u[gone], v[gone] = np.nan, np.nan
    return _boxes(np.stack([u, v], axis=-1), scene, *size)


def _boxes(spots: Array, scene: Scene, width: int, height: int) -> Array:
    """Makes windows, (n, 5), around (M, k, 2) positions (column, row) in the grid; NaN positions are left out."""
    infinite = np.isnan(spots)
    low = np.where(infinite, np.inf, spots).min(axis=1)
    high = np.where(infinite, -np.inf, spots).max(axis=1)
    limits = np.array([width, height])
    first = np.clip(np.ceil(low - 0.5 - 1e-3), 0, limits).astype(np.int64)
    last = np.clip(np.floor(high - 0.5 + 1e-3) + 1, 0, limits).astype(np.int64)
    some = (first < last).all(axis=1) & (scene.primitives["shape"] != raycast.Shape.GROUND)
    numbers = np.flatnonzero(some)
    return np.stack([numbers, first[some, 1], last[some, 1], first[some, 0], last[some, 0]], axis=1)
