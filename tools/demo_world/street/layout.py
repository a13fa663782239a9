"""The two sides of a block of the street: eight kinds of verge, eight kinds of yard, and a side street."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tools.demo_world.geometry.ground import BLOCK, CURB, Street, Zone
from tools.demo_world.street import objects, scenery
from tools.demo_world.street.objects import Rng

Array = NDArray[Any]


class Builder:
    """Sets ground and objects, block by block; `side` is -1 (right) or 1 (left)."""

    def __init__(self, street: Street, rng: Rng) -> None:
        self.street, self.rng = street, rng
        self.items: list[Array] = []
        self.instances = 0
        self._number = 0

    def next_instance(self) -> int:
        """Returns an instance id that no other object has."""
        self.instances += 1
        return self.instances

    def ground(self, block: int, side: int, verge: Zone, walk: Zone, yard: Zone, back: Zone = Zone.TERRAIN) -> None:
        """Sets the zones of one side of a block, from the verge outwards."""
        self.street.zones[int(side > 0), block - self.street.first_block, 1:] = verge, walk, yard, back

    def stand(self, item: Array, s: float, d: float, turn: float = 0.0, low: bool = False, thing: bool = False) -> None:
        """Puts `item` at (s, d), turned from the street's heading by `turn`; on the road's level when `low`."""
        x, y, heading = self.street.place(s, d)
        self._number += 1
        instance = self.next_instance() if thing else 0
        height = 0.0 if low else CURB
        self.items.append(objects.put(item, (x, y, height), heading + turn, instance, seed=self._number))

    def cross_street(self, block: int, side: int) -> None:
        """Builds a side street on one side of a block."""
        self.ground(block, side, Zone.ROAD, Zone.ROAD, Zone.ROAD, Zone.ROAD)
        self.street.crossings[block - self.street.first_block] = True
        s, rng = block * BLOCK, self.rng
        if rng.random() < 0.7:
            turn = np.pi / 2 * side
            self.stand(objects.car(rng), s + 3.5, side * rng.uniform(18, 24), turn, low=True, thing=True)
        self.stand(scenery.sign(rng), s + (-0.8 if side < 0 else 12.8), side * 6.6, 0 if side < 0 else np.pi)


Feature = Callable[[Builder, int, int], None]


def _park(b: Builder, block: int, side: int, makes: Sequence[Callable[[Rng], Array]], gap: float) -> None:
    b.ground(block, side, Zone.PARKING, Zone.SIDEWALK, Zone.TERRAIN)
    for number, make in enumerate(makes):
        s = block * BLOCK + 3.0 + gap * number + b.rng.uniform(-0.3, 0.3)
        turn = (0.0 if side < 0 else np.pi) + b.rng.normal(0, 0.03)
        b.stand(make(b.rng), s, side * (4.85 + b.rng.uniform(-0.1, 0.1)), turn, low=True, thing=True)


def _two_cars(b: Builder, block: int, side: int) -> None:
    _park(b, block, side, (objects.car, objects.car), 5.8)


def _car_and_van(b: Builder, block: int, side: int) -> None:
    _park(b, block, side, (objects.van, objects.car), 6.0)


def _motorcycles(b: Builder, block: int, side: int) -> None:
    _park(b, block, side, (objects.motorcycle, objects.motorcycle, objects.motorcycle), 2.2)
    b.stand(objects.car(b.rng), block * BLOCK + 9.4, side * 4.85, low=True, thing=True)


def _delivery(b: Builder, block: int, side: int) -> None:
    big = (objects.truck, objects.trailer, objects.truck, objects.excavator)[int(b.rng.integers(4))]
    _park(b, block, side, (lambda rng: big(rng),), 0)
    for number in range(3):
        b.stand(scenery.cone(b.rng), block * BLOCK + 8.6 + number, side * (4.0 + 0.3 * number), low=True)
    b.stand(scenery.barrier(b.rng), block * BLOCK + 11.3, side * 4.8, np.pi / 2, low=True)
    b.stand(objects.person(b.rng, stride=0.0), block * BLOCK + 9.8, side * 7.0, b.rng.uniform(0, 6), thing=True)


def _avenue(b: Builder, block: int, side: int) -> None:
    b.ground(block, side, Zone.TERRAIN, Zone.SIDEWALK, Zone.TERRAIN)
    b.stand(scenery.tree(b.rng), block * BLOCK + 3, side * 4.9, b.rng.uniform(0, 6))
    b.stand(scenery.lamp(b.rng), block * BLOCK + 7, side * 4.3, 0.0 if side < 0 else np.pi)
    b.stand(scenery.tree(b.rng), block * BLOCK + 10, side * 4.9, b.rng.uniform(0, 6))


def _bushes(b: Builder, block: int, side: int) -> None:
    b.ground(block, side, Zone.TERRAIN, Zone.SIDEWALK, Zone.TERRAIN)
    for along in (2.0, 6.5):
        b.stand(scenery.bush(b.rng), block * BLOCK + along, side * 4.9, b.rng.uniform(0, 6))
    b.stand(scenery.sign(b.rng), block * BLOCK + 9.5, side * 4.4, 0.0 if side < 0 else np.pi)
    b.stand(scenery.clutter(b.rng), block * BLOCK + 11, side * 5.2)


def _bicycle_rack(b: Builder, block: int, side: int) -> None:
    b.ground(block, side, Zone.SIDEWALK, Zone.SIDEWALK, Zone.TERRAIN)
    for number in range(4):
        turn = np.pi / 2 + b.rng.normal(0, 0.15)
        b.stand(objects.bicycle(b.rng), block * BLOCK + 2 + 0.9 * number, side * 5.2, turn, thing=True)
    b.stand(objects.person(b.rng, stride=0.0), block * BLOCK + 6.2, side * 5.4, b.rng.uniform(0, 6), thing=True)
    b.stand(scenery.bin_(b.rng), block * BLOCK + 7.5, side * 5.5)
    b.stand(objects.bicyclist(b.rng), block * BLOCK + 9.5, side * 4.4, 0.0 if side < 0 else np.pi, thing=True)
    b.stand(scenery.sign(b.rng), block * BLOCK + 11.4, side * 4.2, 0.0 if side < 0 else np.pi)


def _bus_stop(b: Builder, block: int, side: int) -> None:
    b.ground(block, side, Zone.SIDEWALK, Zone.SIDEWALK, Zone.TERRAIN)
    b.stand(scenery.shelter(b.rng), block * BLOCK + 5, side * 7.2, 0.0 if side < 0 else np.pi)
    for number in range(3):
        s, d = block * BLOCK + 3.5 + 1.3 * number, side * b.rng.uniform(5.0, 6.0)
        b.stand(objects.person(b.rng, stride=0.0), s, d, b.rng.uniform(0, 6), thing=True)
    b.stand(scenery.lamp(b.rng), block * BLOCK + 9.5, side * 4.2, 0.0 if side < 0 else np.pi)
    for along in (10.5, 11.5):
        b.stand(scenery.bollard(b.rng), block * BLOCK + along, side * 4.0)


VERGES: tuple[Feature, ...] = (
    _two_cars, _car_and_van, _motorcycles, _delivery, _avenue, _bushes, _bicycle_rack, _bus_stop,
)  # fmt: skip


def _yard_ground(b: Builder, block: int, side: int, yard: Zone) -> None:
    b.street.zones[int(side > 0), block - b.street.first_block, 3] = yard


def _house_at(b: Builder, block: int, side: int, setback: float) -> None:
    width, depth = float(b.rng.uniform(9.5, 11.6)), float(b.rng.uniform(7, 9))
    b.stand(scenery.house(b.rng, width, depth), block * BLOCK + BLOCK / 2, side * (8.7 + setback + depth / 2))


def _town_house(b: Builder, block: int, side: int) -> None:
    _house_at(b, block, side, 0.1)


def _hedged_house(b: Builder, block: int, side: int) -> None:
    _house_at(b, block, side, 4.5)
    b.stand(scenery.hedge(b.rng, 8.5), block * BLOCK + 4.6, side * 9.4)


def _fenced_house(b: Builder, block: int, side: int) -> None:
    _house_at(b, block, side, 5.5)
    b.stand(scenery.fence(b.rng, 9.0), block * BLOCK + 4.8, side * 8.9)
    b.stand(scenery.bush(b.rng), block * BLOCK + 3, side * 10.8)
    b.stand(scenery.tree(b.rng), block * BLOCK + 9.5, side * 11.2)


def _driveway(b: Builder, block: int, side: int) -> None:
    _house_at(b, block, side, 6.5)
    _yard_ground(b, block, side, Zone.GRAVEL)
    turn = np.pi / 2 * side + b.rng.normal(0, 0.05)
    b.stand(objects.car(b.rng), block * BLOCK + 4, side * 12.2, turn, thing=True)
    b.stand(scenery.wall(b.rng, 4.0), block * BLOCK + 9.5, side * 8.9)
    b.stand(scenery.bin_(b.rng), block * BLOCK + 7, side * 9.2)


def _park_lawn(b: Builder, block: int, side: int) -> None:
    for along, out in ((2.5, 11.0), (8.0, 14.0), (5.0, 19.0), (10.5, 22.0)):
        b.stand(scenery.tree(b.rng), block * BLOCK + along, side * out, b.rng.uniform(0, 6))
    b.stand(scenery.fence(b.rng, 11.5), block * BLOCK + 6, side * 9.0)
    b.stand(objects.person(b.rng, stride=0.0), block * BLOCK + 4.5, side * 12.5, b.rng.uniform(0, 6), thing=True)


def _gravel_lot(b: Builder, block: int, side: int) -> None:
    _yard_ground(b, block, side, Zone.GRAVEL)
    big = (objects.trailer, objects.truck, objects.excavator)[int(b.rng.integers(3))]
    b.stand(big(b.rng), block * BLOCK + 6, side * 15.0, b.rng.uniform(-0.4, 0.4), thing=True)
    b.stand(scenery.clutter(b.rng), block * BLOCK + 3, side * 11.5)
    for along in (1.0, 11.0):
        b.stand(scenery.hedge(b.rng, 7.0), block * BLOCK + along, side * 15.0, np.pi / 2)
    b.stand(scenery.wall(b.rng, 11.0), block * BLOCK + 6, side * 20.0)


YARDS: tuple[Feature, ...] = (
    _town_house, _hedged_house, _fenced_house, _town_house, _driveway, _park_lawn, _hedged_house, _gravel_lot,
)  # fmt: skip
