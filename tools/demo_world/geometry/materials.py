"""Materials of surfaces: the share of the laser's light that they send back."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray


class Material(IntEnum):
    """The material of a surface."""

    SKY = 0
    ASPHALT = 1
    ROAD_PAINT = 2
    BRICK_PAVING = 3
    PAVERS = 4
    CURBSTONE = 5
    GRASS = 6
    GRAVEL = 7
    FACADE = 8
    ROOF = 9
    CONCRETE = 10
    WOOD = 11
    STONE = 12
    LEAVES = 13
    BARK = 14
    METAL = 15
    SIGN = 16
    CAR_BODY = 17
    CAR_CABIN = 18
    TRUCK_CAB = 19
    BUS_BODY = 20
    PANEL = 21
    RUBBER = 22
    SPOKES = 23
    PAINTED = 24
    CLOTH = 25
    STRIPES = 26


REFLECTANCE = {
    Material.ASPHALT: 0.22, Material.ROAD_PAINT: 0.62, Material.BRICK_PAVING: 0.33, Material.PAVERS: 0.38,
    Material.CURBSTONE: 0.42, Material.GRASS: 0.30, Material.GRAVEL: 0.27, Material.FACADE: 0.36, Material.ROOF: 0.25,
    Material.CONCRETE: 0.45, Material.WOOD: 0.31, Material.STONE: 0.34, Material.LEAVES: 0.24, Material.BARK: 0.26,
    Material.METAL: 0.40, Material.SIGN: 0.95, Material.CAR_BODY: 0.45, Material.CAR_CABIN: 0.18,
    Material.TRUCK_CAB: 0.35, Material.BUS_BODY: 0.35, Material.PANEL: 0.42, Material.RUBBER: 0.06,
    Material.SPOKES: 0.15, Material.PAINTED: 0.40, Material.CLOTH: 0.30, Material.STRIPES: 0.70,
}  # fmt: skip

"""The share of laser light sent back at normal incidence; the sky sends none back."""


def reflectance_table(changes: Mapping[str, float]) -> NDArray[Any]:
    """Returns `REFLECTANCE` as (materials,) float32, with other values for the materials named in `changes`."""
    values = {material.name: value for material, value in REFLECTANCE.items()} | dict(changes)
    return np.array([values.get(material.name, 0.0) for material in Material], np.float32)
