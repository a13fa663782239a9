"""Textures of surfaces: a colour for every position on every material, so that a camera can tell them apart.

Each painter takes the positions that show its material, in the frame of what they lie on, and returns (n, 3) float32
colours as the eye sees them (0..1); `albedo` turns them into shares of reflected light.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tools.demo_world.geometry.materials import Material
from tools.demo_world.geometry.noise import hash01, value_noise
from tools.demo_world.geometry.surfaces import Surfaces

Array = NDArray[Any]


@dataclass(frozen=True)
class Spots:
    """Positions on surfaces of one material, n of them (see raycast.Surfaces)."""

    local: Array
    facing: Array
    half: Array
    colour: Array
    seed: Array
    distance: Array


def albedo(primitives: Array, number: Array, found: Surfaces, distance: Array) -> Array:
    """Computes the share of red, green and blue light that hits send back, (n, 3) float32.

    Args:
        primitives: the scene's table. number: (n,) its rows that were hit. found: positions and normals of the hits.
            distance: (n,) metres.
    """
    colours = np.zeros((len(number), 3), np.float32)
    material = primitives["material"][number]
    for code in np.unique(material).tolist():
        rows = np.flatnonzero(material == code)
        own = primitives[number[rows]]
        spots = Spots(
            found.local[rows],
            found.facing[rows],
            own["half"].astype(np.float32),
            own["colour"],
            own["seed"],
            distance[rows],
        )
        colours[rows] = PAINTERS[Material(code)](spots)
    return np.clip(colours, 0, 1) ** np.float32(2.2)


def sky(direction: Array, sun: Array) -> Array:
    """Computes the linear light from the sky along (n, 3) directions, (n, 3) float32: haze, clouds, a bright sun."""
    up = np.clip(direction[:, 2], 0, 1)[:, None]
    colour = np.array([0.66, 0.77, 0.90]) * (1 - up) ** 4 + np.array([0.16, 0.36, 0.72]) * (1 - (1 - up) ** 4)
    spread = 1.6 / (up[:, 0] + 0.12)
    x, y = direction[:, 0] * spread, direction[:, 1] * spread
    puffs = 0.6 * value_noise(7, x, y) + 0.3 * value_noise(8, 2.3 * x, 2.3 * y) + 0.1 * value_noise(9, 6 * x, 6 * y)
    cloud = np.clip((puffs - 0.48) * 3.2, 0, 1)[:, None] * 0.85
    glow = np.clip(direction @ sun.astype(np.float32), 0, 1)[:, None] ** 24
    return (colour * (1 - cloud) + 0.95 * cloud + 0.35 * glow).astype(np.float32)


def _grey(value: Array) -> Array:
    return np.repeat(value[:, None], 3, axis=1)


def _tint(value: Array, red: float, green: float, blue: float) -> Array:
    return value[:, None] * np.array([red, green, blue], np.float32)


def _grain(spots: Spots, cell: float) -> Array:
    """Makes noise with a lattice of `cell` metres, -0.5..0.5, fading where a cell gets smaller than a pixel."""
    cells = [np.floor(spots.local[:, axis] / cell).astype(np.int32) for axis in range(3)]
    return (hash01(spots.seed, *cells) - 0.5) / (1 + spots.distance * (0.05 / cell) * 0.05)


def _patches(spots: Spots, cell: float) -> Array:
    """Makes smooth noise over the ground, -0.5..0.5."""
    return value_noise(11, spots.local[:, 0] / cell, spots.local[:, 1] / cell) - 0.5


def _wall_position(spots: Spots) -> tuple[Array, Array, Array]:
    """Finds the positions along and up an upright face (metres, from its left and bottom), and whether the face is
    upright."""
    sideways = np.abs(spots.facing[:, 0]) > np.abs(spots.facing[:, 1])
    along = np.where(sideways, spots.local[:, 1] + spots.half[:, 1], spots.local[:, 0] + spots.half[:, 0])
    return along, spots.local[:, 2] + spots.half[:, 2], np.abs(spots.facing[:, 2]) < 0.7


def _joints(x: Array, y: Array, width: float, height: float, gap: float) -> tuple[Array, Array]:
    """Lays bricks in bond; returns whether a position lies in a joint, and a number in [0, 1) for its brick."""
    row = np.floor(y / height)
    shifted = x / width + 0.5 * (row % 2)
    column = np.floor(shifted)
    joint = ((shifted - column) * width < gap) | ((y / height - row) * height < gap)
    return joint, hash01(3, column.astype(np.int32), row.astype(np.int32))


def _asphalt(spots: Spots) -> Array:
    worn = 0.03 * np.exp(-(((np.abs(np.abs(spots.local[:, 1]) - 1.8) - 0.8) / 0.3) ** 2))
    value = 0.37 + 0.10 * _grain(spots, 0.03) + 0.07 * _patches(spots, 2.3) + 0.05 * _patches(spots, 0.4) + worn
    return _tint(value, 1.0, 1.0, 1.04)


def _road_paint(spots: Spots) -> Array:
    worn = np.clip(_patches(spots, 0.25) + 0.15 * _grain(spots, 0.03), 0, 1)
    return _grey(0.90 - 0.55 * worn)


def _brick_paving(spots: Spots) -> Array:
    joint, tone = _joints(spots.local[:, 0], spots.local[:, 1], 0.22, 0.11, 0.012)
    fade = 1 / (1 + spots.distance * 0.06)
    value = 0.50 + (0.14 * (tone - 0.5) - 0.16 * joint) * fade + 0.06 * _patches(spots, 1.7)
    return _tint(value, 1.06, 0.84, 0.76)


def _pavers(spots: Spots) -> Array:
    joint, tone = _joints(spots.local[:, 0], spots.local[:, 1], 0.6, 0.6, 0.03)
    fade = 1 / (1 + spots.distance * 0.02)
    value = 0.62 + (0.10 * (tone - 0.5) - 0.18 * joint) * fade + 0.05 * _patches(spots, 2.0)
    return _tint(value + 0.04 * _grain(spots, 0.04), 1.03, 1.0, 0.95)


def _curbstone(spots: Spots) -> Array:
    joint = spots.local[:, 0] % 1.0 < 0.03
    return _grey(0.66 - 0.2 * joint + 0.05 * _grain(spots, 0.05))


def _grass(spots: Spots) -> Array:
    blades = 0.30 * _grain(spots, 0.05) + 0.14 * _patches(spots, 0.35)
    dry = np.clip(0.35 + 1.1 * _patches(spots, 3.1), 0, 1)
    return _tint(0.42 + blades, 0.72, 1.0, 0.36) + _tint(dry * 0.16, 1.0, 0.55, 0.15)


def _gravel(spots: Spots) -> Array:
    return _tint(0.60 + 0.30 * _grain(spots, 0.06) + 0.12 * _patches(spots, 0.8), 1.06, 0.95, 0.78)


def _facade(spots: Spots) -> Array:
    along, up, upright = _wall_position(spots)
    house = (spots.seed // 64).astype(np.int32)
    bricked = hash01(17, house) < 0.45
    joint, tone = _joints(along, up, 0.25, 0.09, 0.014)
    fade = 1 / (1 + spots.distance * 0.08)
    texture = np.where(bricked, (0.22 * (tone - 0.5) - 0.10 * joint) * fade, 0.04 * _grain(spots, 0.05))
    wall = spots.colour * (1 + texture + 0.10 * (value_noise(house, along / 2, up / 2) - 0.5))[:, None]
    wall = np.where((up < 0.6)[:, None], wall * 0.62, wall)  # the plinth
    storey, bay = np.floor((up - 0.4) / 3.0), np.floor(along / 2.3)
    x, y = along / 2.3 - bay, (up - 0.4) - 3.0 * storey
    door = (storey == 0) & (bay == np.floor(hash01(23, house) * 4))
    window = (x > 0.27) & (x < 0.75) & (y > 0.9) & (y < 2.4) & ~door
    frame = (x > 0.22) & (x < 0.80) & (y > 0.78) & (y < 2.5) & ~door & ~window
    bar = window & ((np.abs(x - 0.51) < 0.02) | (np.abs(y - 1.8) < 0.04))
    lit = hash01(29, house, bay.astype(np.int32), storey.astype(np.int32))
    glass = np.array([0.16, 0.21, 0.27], np.float32) * (0.7 + 0.9 * lit + 0.4 * (y / 2.4))[:, None]
    colour = np.where((window & upright)[:, None], glass, wall)
    colour = np.where(((frame | bar) & upright)[:, None], np.float32(0.84), colour)
    opening = door & (x > 0.3) & (x < 0.75) & (y < 2.15) & upright
    return np.where(opening[:, None], np.array([0.28, 0.16, 0.10], np.float32), colour)


def _roof(spots: Spots) -> Array:
    joint, tone = _joints(spots.local[:, 0], spots.local[:, 2] * 1.6, 0.3, 0.35, 0.05)
    fade = 1 / (1 + spots.distance * 0.04)
    return spots.colour * (1.25 + (0.35 * (tone - 0.5) - 0.35 * joint) * fade)[:, None]


def _concrete(spots: Spots) -> Array:
    return spots.colour * (1 + 0.14 * _grain(spots, 0.06))[:, None]


def _wood(spots: Spots) -> Array:
    along = np.floor(spots.local[:, 0] / 0.16).astype(np.int32)
    grain = 0.3 * (hash01(spots.seed, along) - 0.5) + 0.15 * _grain(spots, 0.03)
    return spots.colour * (1.1 + grain)[:, None]


def _stone(spots: Spots) -> Array:
    along, up, _ = _wall_position(spots)
    joint, tone = _joints(along, up, 0.45, 0.22, 0.03)
    return spots.colour * (1.05 + 0.5 * (tone - 0.5) - 0.4 * joint + 0.2 * _grain(spots, 0.05))[:, None]


def _leaves(spots: Spots) -> Array:
    shade = 0.75 * _grain(spots, 0.07) + 0.55 * _grain(spots, 0.24) + 0.3 * spots.local[:, 2] / spots.half[:, 2]
    warm = 0.10 * _grain(spots, 0.15)[:, None] * np.array([1.0, 0.6, 0.1], np.float32)
    return spots.colour * (1.15 + shade)[:, None] + warm


def _bark(spots: Spots) -> Array:
    angle = np.floor(np.arctan2(spots.local[:, 1], spots.local[:, 0]) * 5).astype(np.int32)
    streak = hash01(spots.seed, angle, np.floor(spots.local[:, 2] * 4).astype(np.int32)) - 0.5
    return _tint(0.36 + 0.22 * streak + 0.1 * _grain(spots, 0.04), 1.0, 0.82, 0.66)


def _metal(spots: Spots) -> Array:
    return _tint(0.52 + 0.06 * _grain(spots, 0.2), 0.98, 1.0, 1.02)


def _sign(spots: Spots) -> Array:
    radius = np.hypot(spots.local[:, 1] / spots.half[:, 1], spots.local[:, 2] / spots.half[:, 2])
    front = spots.facing[:, 0] < -0.5
    round_ = spots.colour[:, 0] > 0.5
    white = np.where(round_, (radius < 0.68) & ~(np.abs(spots.local[:, 2]) < 0.05), np.abs(radius - 0.5) < 0.16)
    face = np.where(white[:, None], np.float32(0.93), spots.colour * 1.15)
    return np.where(front[:, None], face, np.float32(0.5))


def _gloss(spots: Spots) -> Array:
    """Colours painted sheet metal, which mirrors some sky where it looks up."""
    return spots.colour * 0.95 + 0.10 + 0.16 * np.clip(spots.facing[:, 2:], 0, 1)


def _car_body(spots: Spots) -> Array:
    x, y, z = (spots.local / spots.half).T
    lamps = (np.abs(spots.facing[:, 0]) > 0.7) & (np.abs(y) > 0.62) & (z > 0.05) & (z < 0.65)
    plate = (np.abs(spots.facing[:, 0]) > 0.7) & (np.abs(y) < 0.3) & (np.abs(z + 0.3) < 0.22)
    lamp = np.where((x > 0)[:, None], np.array([0.95, 0.95, 0.88]), np.array([0.75, 0.06, 0.05]))
    arch = (np.abs(spots.facing[:, 1]) > 0.7) & (np.hypot((np.abs(x) - 0.62) * 2.1, (z + 1) * 0.30) < 0.42)
    seam = (np.abs(spots.facing[:, 1]) > 0.7) & ((np.abs(x - 0.28) < 0.006) | (np.abs(x + 0.25) < 0.006))
    colour = np.where((z < -0.72)[:, None] | arch[:, None] | seam[:, None], np.float32(0.12), _gloss(spots))
    colour = np.where(lamps[:, None], lamp, colour)
    return np.where(plate[:, None], np.float32(0.85), colour)


def _glazed(spots: Spots, low: float, high: float, pillar: float) -> Array:
    """Colours a painted body with a band of windows from `low` to `high` of its height, pillars every `pillar`
    metres."""
    along, _, upright = _wall_position(spots)
    z = spots.local[:, 2] / spots.half[:, 2]
    across = along / pillar - np.floor(along / pillar)
    sides = np.abs(spots.facing[:, 1]) > 0.7
    window = (z > low) & (z < high) & upright & ~(sides & (across < 0.07))
    reflection = 0.17 + 0.12 * (z - low) + 0.10 * np.abs(spots.facing[:, 0])
    return np.where(window[:, None], _tint(reflection, 0.85, 1.0, 1.15), _gloss(spots))


def _car_cabin(spots: Spots) -> Array:
    return _glazed(spots, -0.9, 0.72, 0.95)


def _truck_cab(spots: Spots) -> Array:
    return _glazed(spots, 0.05, 0.75, 1.3)


def _bus_body(spots: Spots) -> Array:
    return _glazed(spots, -0.1, 0.62, 1.5)


def _panel(spots: Spots) -> Array:
    ribs = np.abs((spots.local[:, 0] / 0.9) % 1.0 - 0.5) > 0.485
    return spots.colour * (1.05 - 0.3 * ribs + 0.05 * _grain(spots, 0.3))[:, None]


def _rubber(spots: Spots) -> Array:
    hub = np.hypot(spots.local[:, 0], spots.local[:, 2]) < 0.55 * spots.half[:, 2]
    return _grey(np.where(hub & (np.abs(spots.facing[:, 1]) > 0.6), 0.55, 0.10))


def _spokes(spots: Spots) -> Array:
    radius = np.hypot(spots.local[:, 0], spots.local[:, 2]) / spots.half[:, 2]
    turn = np.arctan2(spots.local[:, 2], spots.local[:, 0]) * (12 / np.pi)
    spoke = (np.abs(turn - np.round(turn)) < 0.12) | (radius < 0.12)
    return _grey(np.where(radius > 0.8, 0.10, np.where(spoke, 0.6, 0.30)))


def _cloth(spots: Spots) -> Array:
    return spots.colour * (1.05 + 0.3 * _grain(spots, 0.08))[:, None] + 0.04


def _stripes(spots: Spots) -> Array:
    wide = spots.half[:, 0] > 0.5
    phase = np.where(wide, spots.local[:, 0] * 2.2 + spots.local[:, 2] * 2, spots.local[:, 2] * 5 + 0.25) % 1.0
    return np.where((phase < 0.5)[:, None], spots.colour, np.float32(0.9))


def _painted(spots: Spots) -> Array:
    return _gloss(spots)


PAINTERS: dict[Material, Callable[[Spots], Array]] = {
    Material.ASPHALT: _asphalt,
    Material.ROAD_PAINT: _road_paint,
    Material.BRICK_PAVING: _brick_paving,
    Material.PAVERS: _pavers,
    Material.CURBSTONE: _curbstone,
    Material.GRASS: _grass,
    Material.GRAVEL: _gravel,
    Material.FACADE: _facade,
    Material.ROOF: _roof,
    Material.CONCRETE: _concrete,
    Material.WOOD: _wood,
    Material.STONE: _stone,
    Material.LEAVES: _leaves,
    Material.BARK: _bark,
    Material.METAL: _metal,
    Material.SIGN: _sign,
    Material.CAR_BODY: _car_body,
    Material.CAR_CABIN: _car_cabin,
    Material.TRUCK_CAB: _truck_cab,
    Material.BUS_BODY: _bus_body,
    Material.PANEL: _panel,
    Material.RUBBER: _rubber,
    Material.SPOKES: _spokes,
    Material.PAINTED: _painted,
    Material.CLOTH: _cloth,
    Material.STRIPES: _stripes,
}
