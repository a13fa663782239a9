"""Categories of nuScenes, and the categories of the street's surfaces and objects."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tools.demo_world.street.objects import Kind

Array = NDArray[Any]

# Name and index (the label in a lidarseg file), in an order that is neither's: a reader has to look the index up.
CATEGORIES: dict[str, int] = {
    "human.pedestrian.adult": 2,
    "human.pedestrian.child": 3,
    "human.pedestrian.wheelchair": 8,
    "human.pedestrian.stroller": 7,
    "human.pedestrian.personal_mobility": 5,
    "human.pedestrian.police_officer": 6,
    "human.pedestrian.construction_worker": 4,
    "animal": 1,
    "vehicle.car": 17,
    "vehicle.motorcycle": 21,
    "vehicle.bicycle": 14,
    "vehicle.bus.bendy": 15,
    "vehicle.bus.rigid": 16,
    "vehicle.truck": 23,
    "vehicle.construction": 18,
    "vehicle.emergency.ambulance": 19,
    "vehicle.emergency.police": 20,
    "vehicle.trailer": 22,
    "movable_object.barrier": 9,
    "movable_object.trafficcone": 12,
    "movable_object.pushable_pullable": 11,
    "movable_object.debris": 10,
    "static_object.bicycle_rack": 13,
    "noise": 0,
    "flat.driveable_surface": 24,
    "flat.sidewalk": 26,
    "flat.terrain": 27,
    "flat.other": 25,
    "static.manmade": 28,
    "static.vegetation": 30,
    "static.other": 29,
    "vehicle.ego": 31,
}

# Kind -> category, and the name of its class in the 16-class benchmark or None where that ignores it.
NAMES: dict[Kind, tuple[str, str | None]] = {
    Kind.NOTHING: ("noise", None),  # a ghost
    Kind.ROAD: ("flat.driveable_surface", "driveable_surface"),
    Kind.LANE_MARK: ("flat.driveable_surface", "driveable_surface"),
    Kind.PARKING: ("flat.driveable_surface", "driveable_surface"),
    Kind.SIDEWALK: ("flat.sidewalk", "sidewalk"),
    Kind.OTHER_GROUND: ("flat.other", "other_flat"),
    Kind.TERRAIN: ("flat.terrain", "terrain"),
    Kind.BUILDING: ("static.manmade", "manmade"),
    Kind.FENCE: ("static.manmade", "manmade"),
    Kind.WALL: ("static.manmade", "manmade"),
    Kind.VEGETATION: ("static.vegetation", "vegetation"),
    Kind.TRUNK: ("static.vegetation", "vegetation"),
    Kind.POLE: ("static.manmade", "manmade"),
    Kind.TRAFFIC_SIGN: ("static.manmade", "manmade"),
    Kind.CAR: ("vehicle.car", "car"),
    Kind.TRUCK: ("vehicle.truck", "truck"),
    Kind.BUS: ("vehicle.bus.rigid", "bus"),
    Kind.TRAILER: ("vehicle.trailer", "trailer"),
    Kind.CONSTRUCTION_VEHICLE: ("vehicle.construction", "construction_vehicle"),
    Kind.BICYCLE: ("vehicle.bicycle", "bicycle"),
    Kind.MOTORCYCLE: ("vehicle.motorcycle", "motorcycle"),
    Kind.PERSON: ("human.pedestrian.adult", "pedestrian"),
    Kind.BICYCLIST: ("vehicle.bicycle", "bicycle"),  # nuScenes counts a rider as part of what is ridden
    Kind.MOTORCYCLIST: ("vehicle.motorcycle", "motorcycle"),
    Kind.TRAFFIC_CONE: ("movable_object.trafficcone", "traffic_cone"),
    Kind.BARRIER: ("movable_object.barrier", "barrier"),
    Kind.STREET_FURNITURE: ("static.other", None),
    Kind.CLUTTER: ("movable_object.debris", None),
}
BENCHMARK_CLASSES = 16
_RAW_IDS = np.array([CATEGORIES[NAMES[kind][0]] for kind in Kind], np.uint8)
_CLASS_OF = {CATEGORIES[category]: name for category, name in NAMES.values() if name is not None}

ATTRIBUTES = (
    "vehicle.moving",
    "vehicle.stopped",
    "vehicle.parked",
    "cycle.with_rider",
    "cycle.without_rider",
    "pedestrian.sitting_lying_down",
    "pedestrian.standing",
    "pedestrian.moving",
)


def raw_ids(kind: Array) -> Array:
    """Maps (n,) `Kind`s to the entries of a lidarseg file, (n,) uint8."""
    return _RAW_IDS[kind]


def class_names(ids: set[int]) -> list[str]:
    """Returns the benchmark's classes among raw ids."""
    return sorted({_CLASS_OF[raw] for raw in ids if raw in _CLASS_OF})


def attribute(kind: Kind, moving: bool) -> str:
    """Returns the attribute of an annotated object."""
    if kind == Kind.PERSON:
        return "pedestrian.moving" if moving else "pedestrian.standing"
    if kind in (Kind.BICYCLIST, Kind.MOTORCYCLIST):
        return "cycle.with_rider"
    if kind in (Kind.BICYCLE, Kind.MOTORCYCLE):
        return "cycle.without_rider"
    return "vehicle.moving" if moving else "vehicle.parked"
