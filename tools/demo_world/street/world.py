"""An endless street laid out from a seed, and the traffic along it.

The street is cut into blocks of 12 m. On each side a block gets a verge (parked cars, trees, bicycles, ...) and a yard
(house, hedge, fence, gravel lot, ...). Eight of each are dealt like cards, so that every kind of object comes by within
a hundred metres with any seed, in a random order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tools.demo_world.geometry.ground import BLOCK, CURB, Street, Zone
from tools.demo_world.geometry.materials import Material
from tools.demo_world.geometry.raycast import PRIMITIVE, Scene, Shape
from tools.demo_world.street import objects
from tools.demo_world.street.layout import VERGES, YARDS, Builder
from tools.demo_world.street.objects import Kind, Rng

Array = NDArray[Any]

LANE = 1.8  # metres from the centre line to the middle of a lane; traffic keeps right
EGO_SPEED = 8.0  # m/s
PAUSE = 3.2  # seconds for which oncoming traffic goes, and then stands
FIRST_GO = 2.2  # of them before time 0, so that it stops a second after it
AHEAD, BEHIND = 150.0, 110.0  # metres of street beyond the ends of the drive

_GROUND = {
    Zone.ROAD: (Kind.ROAD, Material.ASPHALT),
    Zone.LANE_MARK: (Kind.LANE_MARK, Material.ROAD_PAINT),
    Zone.PARKING: (Kind.PARKING, Material.BRICK_PAVING),
    Zone.SIDEWALK: (Kind.SIDEWALK, Material.PAVERS),
    Zone.CURB: (Kind.SIDEWALK, Material.CURBSTONE),
    Zone.TERRAIN: (Kind.TERRAIN, Material.GRASS),
    Zone.GRAVEL: (Kind.OTHER_GROUND, Material.GRAVEL),
}


@dataclass(frozen=True)
class Actor:
    """An object that moves along the street, or stands in it.

    Attributes:
        item: its primitives in its own frame.
        start: s at time 0, metres. side: d, metres.
        heading: 1 along s, -1 against the ego car's direction.
        speed: m/s in that direction; 0 if it stands.
        pauses: it stops and goes, as all that pause do at the same times.
        height: metres of the ground under it.
        instance: its id, over the whole drive.
    """

    item: Array
    start: float
    side: float
    heading: int
    speed: float
    pauses: bool
    height: float
    instance: int

    def at(self, time: float) -> tuple[float, bool]:
        """Returns s, metres, at `time` (seconds), and whether it moves then."""
        driven, goes = _driven(time) if self.pauses else (time, True)
        return self.start + self.heading * self.speed * driven, goes and self.speed > 0


def _driven(time: float) -> tuple[float, bool]:
    """Returns for how long what pauses has moved from time 0 to `time` (seconds), and whether it moves then."""

    def moved_until(moment: float) -> float:
        turns, rest = divmod(moment, 2 * PAUSE)
        return turns * PAUSE + min(rest, PAUSE)

    return moved_until(time + FIRST_GO) - FIRST_GO, (time + FIRST_GO) % (2 * PAUSE) < PAUSE


@dataclass(frozen=True)
class World:
    """A street: `scene(time)` is everything to see at a moment, `ego(time)` the place of the ego car."""

    street: Street
    static: Array
    actors: Sequence[Actor]
    sun: Array

    def ego(self, time: float) -> tuple[float, float, float]:
        """Returns x, y (metres) and heading (radians) of the ego car at `time` (seconds), on the road at z = 0."""
        return self.street.place(EGO_SPEED * time, -LANE)

    def scene(self, time: float, reach: float = 170.0) -> Scene:
        """Collects everything within `reach` metres of the ego car at `time` (seconds)."""
        x, y, _ = self.ego(time)
        parts = [ground_rows(), self._near(self.static, x, y, reach)]
        for actor in self.actors:
            along, moves = actor.at(time)
            ax, ay, heading = self.street.place(along, actor.side)
            if np.hypot(ax - x, ay - y) < reach:
                yaw = heading if actor.heading > 0 else heading + np.pi
                parts.append(objects.put(actor.item, (ax, ay, actor.height), yaw, actor.instance, moves))
        return Scene(np.concatenate(parts), self.street, self.sun)

    @staticmethod
    def _near(items: Array, x: float, y: float, reach: float) -> Array:
        centre = items["centre"]
        return items[np.hypot(centre[:, 0] - x, centre[:, 1] - y) < reach]


def ground_rows() -> Array:
    """Makes the (zones,) PRIMITIVE rows that give the ground's zones, and row 0, the sky, their attributes."""
    rows = np.zeros(len(Zone), PRIMITIVE)
    rows["half"], rows["shape"] = 1, Shape.GROUND
    rows["seed"] = np.arange(len(Zone))
    for zone, (kind, material) in _GROUND.items():
        rows["kind"][zone], rows["material"][zone] = kind, material
    return rows


def build(seed: int, sequence: int, length: float) -> World:
    """Builds the street of a sequence, long enough for a drive of `length` metres.

    Args:
        seed: any non-negative number; with `sequence` it decides everything.
    """
    rng = np.random.default_rng([seed, sequence])
    first, last = int(-BEHIND // BLOCK), int((length + AHEAD) // BLOCK) + 1
    street = Street(
        amplitude=float(rng.uniform(5, 9)),
        wavelength=float(rng.uniform(280, 380)),
        phase=float(rng.uniform(0, 2 * np.pi)),
        first_block=first,
        zones=np.full((2, last - first, 5), Zone.TERRAIN, np.uint8),
        crossings=np.zeros(last - first, bool),
    )
    azimuth = float(rng.uniform(0.5, 1.2) * rng.choice([-1, 1]))
    elevation = float(rng.uniform(0.65, 0.9))
    sun = np.array(
        [np.cos(azimuth) * np.cos(elevation), np.sin(azimuth) * np.cos(elevation), np.sin(elevation)], np.float64
    )
    builder = Builder(street, rng)
    crossing_at = int(rng.integers(9))
    decks = {side: (_Deck(len(VERGES), rng), _Deck(len(YARDS), rng)) for side in (-1, 1)}
    for block in range(first, last):
        street.zones[:, block - first, 0] = Zone.ROAD
        crossing = block % 9 == crossing_at
        for side in (-1, 1):
            verges, yards = decks[side]
            if crossing:
                builder.cross_street(block, side)
            else:
                VERGES[verges.draw()](builder, block, side)
                YARDS[yards.draw()](builder, block, side)
    return World(street, np.concatenate(builder.items), _traffic(builder, length), sun)


class _Deck:
    """The numbers 0..size-1 in random order, shuffled again each time all have been drawn."""

    def __init__(self, size: int, rng: Rng) -> None:
        self._size, self._rng = size, rng
        self._cards: list[int] = []

    def draw(self) -> int:
        if not self._cards:
            self._cards = self._rng.permutation(self._size).tolist()
        return self._cards.pop()


def _traffic(b: Builder, length: float) -> list[Actor]:
    """Makes cars ahead, behind and oncoming, riders at the edge of the road, people on the walks.

    Of those who come towards the ego car, ride and walk, some stand where others move: neither shape nor place tells.
    """
    rng, actors = b.rng, []

    def add(item: Array, start: float, side: float, speed: float, height: float = 0.0, how: str = "goes") -> None:
        pace, heading = 0.0 if how == "stands" else abs(speed), 1 if speed > 0 else -1
        actors.append(Actor(item, start, side, heading, pace, how == "pauses", height, b.next_instance()))

    for make, start in ((objects.car, 17), (objects.car, 38), (objects.motorcyclist, 56), (objects.van, -15)):
        add(make(rng), start + rng.uniform(-2, 2), -LANE, EGO_SPEED)
    oncoming = (objects.car, objects.motorcyclist, objects.truck, objects.car, objects.bus, objects.van)
    end = length * 2 + AHEAD
    for number, start in enumerate(np.arange(-70.0, end, 27.0)):
        add(oncoming[number % len(oncoming)](rng), start + rng.uniform(-3, 3), LANE, -EGO_SPEED, how="pauses")
    for number, start in enumerate(np.arange(-50.0, end, 34.0)):
        how, aside = ("stands", 0.5) if number % 3 == 1 else ("goes", 0.0)  # aside, where others pass
        add(objects.bicyclist(rng), start + rng.uniform(-6, 6), -3.15 - aside, 4.0, how=how)
        add(objects.bicyclist(rng), start + rng.uniform(-6, 6), 3.2 + aside, -4.0, how=how)
    for number, start in enumerate(np.arange(-60.0, length + AHEAD, 11.0)):
        speed = float(rng.uniform(1.0, 1.6) * rng.choice([-1, 1]))
        side = float(rng.uniform(6.4, 8.2) * rng.choice([-1, 1]))
        how = "stands" if number % 3 == 1 else "goes"
        add(objects.person(rng, stride=0.2), start + rng.uniform(-5, 5), side, speed, CURB, how)
    return actors
