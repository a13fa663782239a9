"""Vehicles and people in the street, each built of a few primitives.

Every builder returns an array of dtype PRIMITIVE in the object's own frame: x forward, y left, z up from the ground it
stands on, in metres. `put` moves it into the world and gives it an instance id.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tools.demo_world.geometry.materials import Material
from tools.demo_world.geometry.raycast import PRIMITIVE, Pores, Shape

Array = NDArray[Any]
Rng = np.random.Generator
Triple = tuple[float, float, float]


class Kind(IntEnum):
    """The kind of object that a surface belongs to; a data set's writer turns it into the data set's own ids."""

    NOTHING = 0
    ROAD = 1
    LANE_MARK = 2
    PARKING = 3
    SIDEWALK = 4
    OTHER_GROUND = 5
    TERRAIN = 6
    BUILDING = 7
    FENCE = 8
    WALL = 9
    VEGETATION = 10
    TRUNK = 11
    POLE = 12
    TRAFFIC_SIGN = 13
    CAR = 14
    TRUCK = 15
    BUS = 16
    TRAILER = 17
    CONSTRUCTION_VEHICLE = 18
    BICYCLE = 19
    MOTORCYCLE = 20
    PERSON = 21
    BICYCLIST = 22
    MOTORCYCLIST = 23
    TRAFFIC_CONE = 24
    BARRIER = 25
    STREET_FURNITURE = 26
    CLUTTER = 27


PAINTS: tuple[Triple, ...] = (
    (0.75, 0.76, 0.78), (0.08, 0.08, 0.09), (0.35, 0.36, 0.38), (0.55, 0.07, 0.07), (0.08, 0.16, 0.42),
    (0.80, 0.80, 0.76), (0.10, 0.28, 0.20), (0.62, 0.55, 0.40), (0.20, 0.38, 0.60),
)  # fmt: skip
CLOTHES: tuple[Triple, ...] = (
    (0.60, 0.10, 0.10), (0.10, 0.15, 0.40), (0.75, 0.72, 0.62), (0.15, 0.35, 0.18), (0.75, 0.45, 0.10), (0.1, 0.1, 0.1),
    (0.45, 0.2, 0.45),
)  # fmt: skip
PLASTERS: tuple[Triple, ...] = (
    (0.78, 0.70, 0.55), (0.72, 0.55, 0.42), (0.80, 0.78, 0.72), (0.55, 0.25, 0.18), (0.60, 0.62, 0.58),
    (0.66, 0.36, 0.26), (0.70, 0.66, 0.40),
)  # fmt: skip


def part(
    kind: Kind, shape: Shape, centre: Triple, half: Triple, material: Material, colour: Triple = (0.5, 0.5, 0.5),
    pores: Pores = Pores.NONE, yaw: float = 0.0,
) -> Array:  # fmt: skip
    """Makes one primitive as a (1,) PRIMITIVE array."""
    one = np.zeros(1, PRIMITIVE)
    one["kind"], one["shape"], one["material"], one["pores"], one["yaw"] = kind, shape, material, pores, yaw
    one["centre"], one["half"], one["colour"] = centre, half, colour
    return one


def put(item: Array, place: Triple, yaw: float, instance: int = 0, moving: bool = False, seed: int = 0) -> Array:
    """Copies `item` to `place` (world, metres), turned by `yaw` radians."""
    moved = item.copy()
    cos, sin = np.cos(yaw), np.sin(yaw)
    x, y, z = item["centre"].T
    moved["centre"] = np.stack([cos * x - sin * y + place[0], sin * x + cos * y + place[1], z + place[2]], axis=1)
    moved["yaw"] += yaw
    moved["instance"], moved["moving"] = instance, moving
    moved["seed"] = seed * 64 + np.arange(len(item))
    return moved


def pick(rng: Rng, table: tuple[Triple, ...]) -> Triple:
    """Picks one of the colours, each with the same chance."""
    return table[int(rng.integers(len(table)))]


def _wheels(kind: Kind, axles: tuple[float, ...], track: float, radius: float) -> list[Array]:
    half = (radius, 0.13, radius)
    return [
        part(kind, Shape.BALL, (x, side * track, radius), half, Material.RUBBER) for x in axles for side in (-1.0, 1.0)
    ]


def car(rng: Rng) -> Array:
    """Builds a saloon or estate car, about 4.3 m long."""
    paint, estate = pick(rng, PAINTS), bool(rng.random() < 0.4)
    cabin, length = (-0.55 if estate else -0.2), (1.5 if estate else 1.25)
    return np.concatenate(
        [
            part(Kind.CAR, Shape.BOX, (0, 0, 0.58), (2.13, 0.88, 0.30), Material.CAR_BODY, paint),
            part(Kind.CAR, Shape.CABIN, (cabin, 0, 1.17), (length, 0.80, 0.30), Material.CAR_CABIN, paint),
            *_wheels(Kind.CAR, (-1.32, 1.34), 0.80, 0.33),
        ]
    )


def van(rng: Rng) -> Array:
    """Builds a delivery van, which the data sets label as a car."""
    paint = pick(rng, PAINTS)
    return np.concatenate(
        [
            part(Kind.CAR, Shape.BOX, (0, 0, 0.75), (2.45, 0.95, 0.40), Material.CAR_BODY, paint),
            part(Kind.CAR, Shape.CABIN, (-0.25, 0, 1.55), (2.2, 0.93, 0.42), Material.CAR_CABIN, paint),
            *_wheels(Kind.CAR, (-1.5, 1.6), 0.86, 0.35),
        ]
    )


def truck(rng: Rng) -> Array:
    """Builds a box lorry, about 7.5 m long."""
    paint, load = pick(rng, PAINTS), pick(rng, PLASTERS)
    return np.concatenate(
        [
            part(Kind.TRUCK, Shape.BOX, (2.9, 0, 1.35), (0.85, 1.10, 0.95), Material.TRUCK_CAB, paint),
            part(Kind.TRUCK, Shape.BOX, (-0.95, 0, 1.95), (2.85, 1.2, 1.25), Material.PANEL, load),
            part(Kind.TRUCK, Shape.BOX, (0, 0, 0.62), (3.6, 0.55, 0.12), Material.RUBBER),
            *_wheels(Kind.TRUCK, (-2.6, -1.6, 2.75), 1.02, 0.48),
        ]
    )


def bus(rng: Rng) -> Array:
    """Builds a city bus."""
    paint = pick(rng, PAINTS)
    return np.concatenate(
        [
            part(Kind.BUS, Shape.BOX, (0, 0, 1.65), (5.3, 1.22, 1.35), Material.BUS_BODY, paint),
            *_wheels(Kind.BUS, (-3.3, 3.4), 1.12, 0.46),
        ]
    )


def trailer(rng: Rng) -> Array:
    """Builds a caravan."""
    white = (0.82, 0.82, 0.78)
    return np.concatenate(
        [
            part(Kind.TRAILER, Shape.CABIN, (0, 0, 1.4), (2.3, 1.05, 1.0), Material.CAR_CABIN, white),
            part(Kind.TRAILER, Shape.BOX, (2.6, 0, 0.45), (0.7, 0.06, 0.05), Material.METAL),
            *_wheels(Kind.TRAILER, (-0.1,), 0.95, 0.33),
        ]
    )


def excavator(rng: Rng) -> Array:
    """Builds an excavator."""
    kind, yellow = Kind.CONSTRUCTION_VEHICLE, (0.80, 0.55, 0.05)
    return np.concatenate(
        [
            *[part(kind, Shape.BOX, (0, s * 0.9, 0.35), (1.5, 0.25, 0.35), Material.RUBBER) for s in (-1.0, 1.0)],
            part(kind, Shape.BOX, (-0.4, 0, 1.15), (1.2, 1.0, 0.45), Material.PANEL, yellow),
            part(kind, Shape.CABIN, (0.2, 0.45, 2.0), (0.6, 0.45, 0.6), Material.CAR_CABIN, yellow),
            part(kind, Shape.BOX, (1.6, -0.4, 2.1), (1.0, 0.14, 0.16), Material.PANEL, yellow),
            part(kind, Shape.BOX, (2.55, -0.4, 1.3), (0.14, 0.14, 0.8), Material.PANEL, yellow),
            part(kind, Shape.BOX, (2.7, -0.4, 0.4), (0.3, 0.4, 0.3), Material.METAL),
        ]
    )


def bicycle(rng: Rng, kind: Kind = Kind.BICYCLE) -> Array:
    """Builds a bicycle without its rider."""
    paint = pick(rng, PAINTS)
    frame: tuple[tuple[Triple, Triple], ...] = (
        ((0.0, 0, 0.80), (0.36, 0.035, 0.035)),
        ((-0.20, 0, 0.68), (0.035, 0.035, 0.30)),
        ((0.44, 0, 0.68), (0.035, 0.035, 0.34)),
        ((0.0, 0, 0.42), (0.36, 0.035, 0.03)),
        ((0.42, 0, 1.03), (0.03, 0.28, 0.03)),
        ((-0.22, 0, 1.0), (0.13, 0.07, 0.03)),
    )
    return np.concatenate(
        [
            *[part(kind, Shape.BALL, (x, 0, 0.34), (0.34, 0.04, 0.34), Material.SPOKES) for x in (-0.53, 0.53)],
            *[part(kind, Shape.BOX, centre, half, Material.PAINTED, paint) for centre, half in frame],
        ]
    )


def motorcycle(rng: Rng, kind: Kind = Kind.MOTORCYCLE) -> Array:
    """Builds a motorcycle without its rider."""
    paint = pick(rng, PAINTS)
    return np.concatenate(
        [
            *[part(kind, Shape.BALL, (x, 0, 0.32), (0.32, 0.09, 0.32), Material.SPOKES) for x in (-0.7, 0.7)],
            part(kind, Shape.BOX, (0, 0, 0.50), (0.45, 0.17, 0.18), Material.METAL),
            part(kind, Shape.BALL, (0.18, 0, 0.82), (0.34, 0.19, 0.18), Material.PAINTED, paint),
            part(kind, Shape.BOX, (-0.45, 0, 0.80), (0.38, 0.15, 0.07), Material.RUBBER),
            part(kind, Shape.BOX, (0.55, 0, 0.75), (0.06, 0.10, 0.35), Material.METAL),
            part(kind, Shape.BOX, (0.48, 0, 1.08), (0.04, 0.38, 0.04), Material.METAL),
        ]
    )


def person(rng: Rng, kind: Kind = Kind.PERSON, stride: float = 0.12) -> Array:
    """Builds somebody standing (stride 0) or walking, 1.55 to 1.9 m tall."""
    coat, trousers = pick(rng, CLOTHES), pick(rng, CLOTHES)
    skin: Triple = (0.62, 0.42, 0.32) if rng.random() < 0.6 else (0.32, 0.2, 0.14)
    body = np.concatenate(
        [
            *[
                part(kind, Shape.COLUMN, (s * stride, s * 0.10, 0.43), (0.09, 0.085, 0.43), Material.CLOTH, trousers)
                for s in (-1.0, 1.0)
            ],
            part(kind, Shape.COLUMN, (0, 0, 1.15), (0.14, 0.21, 0.32), Material.CLOTH, coat),
            *[
                part(kind, Shape.COLUMN, (-s * stride / 2, s * 0.27, 1.12), (0.06, 0.06, 0.31), Material.CLOTH, coat)
                for s in (-1.0, 1.0)
            ],
            part(kind, Shape.BALL, (0, 0, 1.62), (0.11, 0.10, 0.14), Material.CLOTH, skin),
            part(kind, Shape.BALL, (-0.02, 0, 1.68), (0.11, 0.11, 0.11), Material.CLOTH, (0.12, 0.08, 0.05)),
        ]
    )
    scale = rng.uniform(0.88, 1.07)
    body["centre"] *= scale
    body["half"] *= scale
    return body


def _rider(rng: Rng, kind: Kind, seat: float) -> Array:
    coat, trousers = pick(rng, CLOTHES), pick(rng, CLOTHES)
    return np.concatenate(
        [
            part(kind, Shape.BALL, (-0.10, 0, seat + 0.33), (0.19, 0.22, 0.38), Material.CLOTH, coat),
            *[
                part(kind, Shape.COLUMN, (0.08, s * 0.13, seat - 0.28), (0.09, 0.08, 0.34), Material.CLOTH, trousers)
                for s in (-1.0, 1.0)
            ],
            *[
                part(kind, Shape.BOX, (0.20, s * 0.22, seat + 0.33), (0.26, 0.06, 0.06), Material.CLOTH, coat)
                for s in (-1.0, 1.0)
            ],
            part(kind, Shape.BALL, (0.0, 0, seat + 0.84), (0.14, 0.12, 0.15), Material.PAINTED, pick(rng, CLOTHES)),
        ]
    )


def bicyclist(rng: Rng) -> Array:
    """Builds rider and bicycle; the data sets label both as the rider."""
    return np.concatenate([bicycle(rng, Kind.BICYCLIST), _rider(rng, Kind.BICYCLIST, 1.0)])


def motorcyclist(rng: Rng) -> Array:
    """Builds rider and motorcycle; the data sets label both as the rider."""
    return np.concatenate([motorcycle(rng, Kind.MOTORCYCLIST), _rider(rng, Kind.MOTORCYCLIST, 0.85)])
