"""Things that stand beside the street: houses, trees, hedges, fences, poles, signs and furniture (see objects.py)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tools.demo_world.geometry.materials import Material
from tools.demo_world.geometry.raycast import Pores, Shape
from tools.demo_world.street.objects import PLASTERS, Kind, Rng, Triple, part, pick

Array = NDArray[Any]


def house(rng: Rng, width: float, depth: float) -> Array:
    """Builds a house `width` metres along x and `depth` along y, with a gable or a flat roof; its door side is free."""
    storeys, wall = int(rng.integers(2, 5)), pick(rng, PLASTERS)
    height = 3.0 * storeys + 0.4
    parts = [
        part(Kind.BUILDING, Shape.BOX, (0, 0, height / 2), (width / 2, depth / 2, height / 2), Material.FACADE, wall)
    ]
    if rng.random() < 0.65:
        tiles = ((0.45, 0.20, 0.13), (0.30, 0.22, 0.20), (0.24, 0.25, 0.28))[int(rng.integers(3))]
        half = (width / 2 + 0.15, depth / 2 + 0.35, 1.5)
        parts.append(part(Kind.BUILDING, Shape.GABLE, (0, 0, height + 1.5), half, Material.ROOF, tiles))
        chimney = (float(rng.uniform(-0.3, 0.3)) * width, depth * 0.15, height + 2.2)
        parts.append(part(Kind.BUILDING, Shape.BOX, chimney, (0.35, 0.35, 1.2), Material.ROOF, (0.42, 0.2, 0.15)))
    else:
        edge = (width / 2 + 0.12, depth / 2 + 0.12, 0.2)
        parts.append(part(Kind.BUILDING, Shape.BOX, (0, 0, height + 0.2), edge, Material.CONCRETE, (0.6, 0.6, 0.58)))
    return np.concatenate(parts)


def tree(rng: Rng) -> Array:
    """Builds a street tree, 5 to 8 m tall."""
    trunk = float(rng.uniform(2.0, 2.8))
    green: Triple = (float(rng.uniform(0.16, 0.28)), float(rng.uniform(0.30, 0.42)), float(rng.uniform(0.07, 0.14)))
    thick = float(rng.uniform(0.14, 0.24))
    parts = [
        part(Kind.TRUNK, Shape.COLUMN, (0, 0, trunk * 0.65), (thick, thick, trunk * 0.65), Material.BARK),
    ]
    for number in range(5):
        angle = 2 * np.pi * number / 4 + rng.uniform(0, 0.8)
        out = 0.0 if number == 4 else float(rng.uniform(0.6, 0.95))
        radius = float(rng.uniform(1.1, 1.6))
        top = trunk + 0.7 + float(rng.uniform(0, 1.0)) + (1.3 if number == 4 else 0)
        centre = (out * float(np.cos(angle)), out * float(np.sin(angle)), top)
        half = (radius, radius, radius * 0.85)
        parts.append(part(Kind.VEGETATION, Shape.BALL, centre, half, Material.LEAVES, green, Pores.LEAVES))
    return np.concatenate(parts)


def bush(rng: Rng) -> Array:
    """Builds a bush."""
    green: Triple = (0.2, float(rng.uniform(0.30, 0.40)), 0.12)
    halves = [(float(rng.uniform(0.5, 0.8)), float(rng.uniform(0.5, 0.8)), float(rng.uniform(0.4, 0.7))) for _ in "ab"]
    return np.concatenate(
        [
            part(Kind.VEGETATION, Shape.BALL, (x, 0, half[2] * 0.8), half, Material.LEAVES, green, Pores.LEAVES)
            for x, half in zip((-0.5, 0.5), halves, strict=True)
        ]
    )


def hedge(rng: Rng, length: float) -> Array:
    """Builds a hedge `length` metres along x."""
    height = float(rng.uniform(0.6, 0.95))
    half = (length / 2, 0.45, height)
    return part(Kind.VEGETATION, Shape.BOX, (0, 0, height), half, Material.LEAVES, (0.16, 0.32, 0.10), Pores.LEAVES)


def fence(rng: Rng, length: float) -> Array:
    """Builds a picket fence one can look through."""
    colour: Triple = ((0.46, 0.32, 0.2), (0.75, 0.74, 0.7), (0.3, 0.2, 0.14))[int(rng.integers(3))]
    height = float(rng.uniform(0.55, 0.8))
    return part(Kind.FENCE, Shape.BOX, (0, 0, height), (length / 2, 0.04, height), Material.WOOD, colour, Pores.PICKETS)


def wall(rng: Rng, length: float) -> Array:
    """Builds a low stone wall `length` metres along x, 0.9 m tall."""
    return part(Kind.WALL, Shape.BOX, (0, 0, 0.45), (length / 2, 0.15, 0.45), Material.STONE, (0.5, 0.47, 0.42))


def lamp(rng: Rng) -> Array:
    """Builds a street lamp whose arm reaches to +y."""
    return np.concatenate(
        [
            part(Kind.POLE, Shape.COLUMN, (0, 0, 3.2), (0.09, 0.09, 3.2), Material.METAL),
            part(Kind.POLE, Shape.BOX, (0, 0.7, 6.3), (0.05, 0.8, 0.05), Material.METAL),
            part(Kind.POLE, Shape.BOX, (0, 1.4, 6.25), (0.14, 0.35, 0.08), Material.CONCRETE, (0.8, 0.8, 0.75)),
        ]
    )


def sign(rng: Rng) -> Array:
    """Builds a traffic sign whose face looks to -x, at the driver."""
    height = float(rng.uniform(2.0, 2.4))
    shape = Shape.BALL if rng.random() < 0.6 else Shape.BOX
    colour: Triple = (0.75, 0.05, 0.05) if shape == Shape.BALL else (0.05, 0.2, 0.6)
    return np.concatenate(
        [
            part(Kind.POLE, Shape.COLUMN, (0, 0, height / 2 + 0.15), (0.05, 0.05, height / 2 + 0.15), Material.METAL),
            part(Kind.TRAFFIC_SIGN, shape, (-0.08, 0, height), (0.03, 0.42, 0.42), Material.SIGN, colour),
            part(Kind.TRAFFIC_SIGN, Shape.BOX, (-0.08, 0, height - 0.62), (0.02, 0.35, 0.13), Material.CONCRETE),
        ]
    )


def bollard(rng: Rng) -> Array:
    """Builds a bollard, 1 m tall."""
    return part(Kind.POLE, Shape.COLUMN, (0, 0, 0.5), (0.09, 0.09, 0.5), Material.METAL)


def bin_(rng: Rng) -> Array:
    """Builds a rubbish bin, 1.1 m tall."""
    green: Triple = ((0.10, 0.25, 0.14), (0.15, 0.15, 0.17), (0.5, 0.4, 0.05))[int(rng.integers(3))]
    return part(Kind.STREET_FURNITURE, Shape.BOX, (0, 0, 0.55), (0.3, 0.3, 0.55), Material.PAINTED, green)


def shelter(rng: Rng) -> Array:
    """Builds a bus shelter, open towards +y."""
    glass: Triple = (0.35, 0.45, 0.48)
    return np.concatenate(
        [
            part(Kind.WALL, Shape.BOX, (0, 0, 2.45), (1.9, 0.75, 0.07), Material.CONCRETE, (0.3, 0.32, 0.34)),
            part(Kind.WALL, Shape.BOX, (0, -0.7, 1.35), (1.8, 0.04, 0.95), Material.PANEL, glass),
            *[part(Kind.WALL, Shape.BOX, (s * 1.8, -0.6, 1.2), (0.05, 0.05, 1.2), Material.METAL) for s in (-1.0, 1.0)],
            part(Kind.STREET_FURNITURE, Shape.BOX, (0, -0.4, 0.45), (1.2, 0.2, 0.05), Material.WOOD, (0.45, 0.3, 0.18)),
        ]
    )


def cone(rng: Rng) -> Array:
    """Builds a traffic cone."""
    orange: Triple = (0.85, 0.25, 0.03)
    return np.concatenate(
        [
            part(Kind.TRAFFIC_CONE, Shape.BOX, (0, 0, 0.03), (0.2, 0.2, 0.03), Material.RUBBER),
            part(Kind.TRAFFIC_CONE, Shape.CABIN, (0, 0, 0.2), (0.15, 0.15, 0.17), Material.STRIPES, orange),
            part(Kind.TRAFFIC_CONE, Shape.COLUMN, (0, 0, 0.5), (0.07, 0.07, 0.17), Material.STRIPES, orange),
        ]
    )


def barrier(rng: Rng) -> Array:
    """Builds a red and white road-work barrier along x."""
    kind, foot = Kind.BARRIER, (0.05, 0.2, 0.35)
    return np.concatenate(
        [
            part(kind, Shape.BOX, (0, 0, 0.85), (0.95, 0.05, 0.17), Material.STRIPES, (0.8, 0.1, 0.05)),
            *[part(kind, Shape.BOX, (s * 0.8, 0, 0.35), foot, Material.METAL) for s in (-1.0, 1.0)],
        ]
    )


def clutter(rng: Rng) -> Array:
    """Builds a heap that belongs to no class."""
    half = (float(rng.uniform(0.4, 0.8)), float(rng.uniform(0.4, 0.7)), 0.45)
    return part(Kind.CLUTTER, Shape.BALL, (0, 0, 0.2), half, Material.STONE, (0.4, 0.34, 0.28))
