"""Objects of rare classes, out of the data base of the training scans, are pasted into a scan.

A pasted object keeps its distance from the sensor: it is turned about the z axis of the sensor, so that the sensor
still looks at the side that it saw, with as many points, and then raised or lowered to the ground there. It stands on
ground of a class on which objects of its class stand in the training scans, where nothing else is. It belongs to the
scan itself: past sweeps do not show it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dataloader.augment.geometry import moved
from dataloader.augment.mixing import Partner
from dataloader.objects.boxes import ground_of, lattice, turned, turned_box
from dataloader.objects.records import Objects
from utils.scan.records import Scan, constant, no_pixels
from utils.scan.views import rotation_z

_TRIES = 20  # places that are tried for an object
_RING = 0.5  # metres: the ground to stand on is as far from the sensor as the object was, to this
_ROUGHEST = 0.1  # metres, standard deviation of the ground around an object; beyond it is a kerb or a slope
_SELDOM = 0.1  # of the objects of a class; on ground on which fewer stand, none is pasted
_MARGIN = 0.1  # metres of free space around an object


@dataclass(frozen=True)
class InstancePaste:
    """Objects of a data base that are pasted into scans, those of rare classes more often.

    Attributes:
        objects: the data base.
        most: largest number of objects for a scan.
        classes: learning ids of the classes that are pasted, for which there are objects.
        ground: learning ids of all ground that objects may stand on.
    """

    objects: Objects
    most: int
    classes: tuple[int, ...]
    ground: tuple[int, ...]

    def mix(self, scan: Scan, partner: Partner, rng: np.random.Generator) -> Scan:
        """Returns the scan with 1 to `most` objects at its end, or fewer where there is no room."""
        ground, places = _GroundPoints.of(scan, self.ground), FreePlaces.of(scan, self.ground)
        wanted = 1 + int(rng.integers(self.most))
        labels = rng.choice(self.classes, wanted, p=self.weights())
        starts, pasted = self.objects.starts, [scan]
        for label in labels:
            rows = np.flatnonzero(self.objects.facts["label"] == label)
            row = int(rows[rng.integers(len(rows))])
            facts = self.objects.facts[row]
            if (place := self._place(facts, ground, places, rng)) is not None:
                points = self.objects.points[starts[row] : starts[row + 1]]
                pasted.append(_put(scan, points, facts, *place))
        return scan if len(pasted) == 1 else Scan.concatenate(pasted)

    def weights(self) -> NDArray[np.float64]:
        """Returns the probability of each of `classes`: the inverse of its number of points in the training scans."""
        inverse = 1 / np.maximum(self.objects.class_points[list(self.classes)], 1)
        return inverse / inverse.sum()

    def surfaces(self, label: int) -> NDArray[np.intp]:
        """Returns the learning ids of the ground on which a tenth of the objects of a class stand, or more."""
        counts = np.bincount(self.objects.facts["surface"][self.objects.facts["label"] == label])
        return np.flatnonzero(counts >= _SELDOM * counts.sum())

    def _place(
        self, facts: np.void, ground: _GroundPoints, places: FreePlaces, rng: np.random.Generator
    ) -> tuple[float, float] | None:
        """Draws a place: how far the object is turned, radians, and raised, metres; it is free no longer."""
        box, surfaces = facts["box"].astype(np.float64), self.surfaces(int(facts["label"]))
        reach = float(np.hypot(*box[:2]))
        near = ground.within(reach, float(np.hypot(*box[2:4])) + 1.0)
        angles = near.bearings(reach, surfaces, rng) - np.arctan2(box[1], box[0])
        for angle in angles[places.are_free(turned(lattice(box, _MARGIN), angles))].tolist():
            there = turned_box(box, angle)
            below = ground_of(there, near.xyz, near.labels)
            if below is not None and below.surface in surfaces and below.roughness <= _ROUGHEST:
                places.take(lattice(there))
                return angle, below.height - float(facts["ground"])
        return None


def _put(scan: Scan, points: NDArray[np.float32], facts: np.void, angle: float, rise: float) -> Scan:
    """Returns an object as points of a scan, turned by an angle (radians) and raised (metres)."""
    count = len(points)
    cut_out = replace(
        scan,
        xyz=np.ascontiguousarray(points[:, :3]),
        intensity=points[:, 3],
        labels=constant(np.uint8(facts["label"]), count),
        instances=constant(np.int32(facts["instance"]), count),
        index=constant(np.int64(-1), count),
        pixels=no_pixels(count),
        age=None,
    )
    return moved(cut_out, np.column_stack([rotation_z(angle), [0.0, 0.0, rise]]))


@dataclass(frozen=True)
class _GroundPoints:
    """The (G, 3) points of ground of a scan, their (G,) labels, and their (G,) distances from the sensor's axis."""

    xyz: NDArray[np.float32]
    labels: NDArray[np.uint8]
    reach: NDArray[np.float32]

    @staticmethod
    def of(scan: Scan, ground: tuple[int, ...]) -> _GroundPoints:
        """Finds the ground of the sweep itself."""
        rows = np.flatnonzero(_is_one_of(scan.labels, ground) & (scan.ages == 0))
        xyz = scan.xyz[rows]
        return _GroundPoints(xyz, scan.labels[rows], np.hypot(xyz[:, 0], xyz[:, 1]))

    def within(self, reach: float, breadth: float) -> _GroundPoints:
        """Returns the points of a ring."""
        rows = np.flatnonzero(np.abs(self.reach - np.float32(reach)) <= np.float32(breadth))
        return _GroundPoints(self.xyz[rows], self.labels[rows], self.reach[rows])

    def bearings(self, reach: float, surfaces: NDArray[np.intp], rng: np.random.Generator) -> NDArray[np.float64]:
        """Draws points on these surfaces so far from the sensor; returns their angles from the x axis, radians."""
        near = np.abs(self.reach - np.float32(reach)) <= np.float32(_RING)
        rows = np.flatnonzero(near & _is_one_of(self.labels, surfaces))
        x, y = self.xyz[rng.choice(rows, _TRIES) if len(rows) else rows, :2].T.astype(np.float64)
        return np.arctan2(y, x)


class FreePlaces:
    """A map, seen from above, of where nothing stands; whatever is not ground stands, at any height.

    Args:
        taken: (S, S) bool, cells of 0.25 m around the sensor where something stands, or in a neighbour of which.
    """

    CELL = 0.25
    REACH = 84.0  # metres: objects lie nearer

    def __init__(self, taken: NDArray[np.bool_]) -> None:
        self._taken = taken

    @staticmethod
    def of(scan: Scan, ground: tuple[int, ...]) -> FreePlaces:
        """Makes the map of a scan; a past point of which no class is known says nothing."""
        size = int(2 * FreePlaces.REACH / FreePlaces.CELL)
        standing = ~_is_one_of(scan.labels, ground)
        if scan.age is not None:
            standing &= (scan.age == 0) | (scan.labels > 0)
        cells, there = _cells(scan.xyz[np.flatnonzero(standing), :2], size)
        taken = np.zeros((size, size), dtype=bool)
        taken.ravel()[cells[there]] = True
        for grid in (taken, taken.T):  # the neighbours, too
            before = grid.copy()
            grid[1:] |= before[:-1]
            grid[:-1] |= before[1:]
        return FreePlaces(taken)

    def are_free(self, places: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Tells, (T,) bool, of T places, (T, M, 2) points of each, where nothing stands."""
        cells, there = _cells(places, len(self._taken))
        return (there & ~self._taken.ravel()[np.where(there, cells, 0)]).all(axis=1)

    def take(self, place: NDArray[np.floating]) -> None:
        """Marks a place, (M, 2) points of it."""
        size = len(self._taken)
        cells, there = _cells(place, size)
        rows, columns = np.divmod(cells[there], size)
        for row in (-1, 0, 1):
            for column in (-1, 0, 1):
                self._taken[np.clip(rows + row, 0, size - 1), np.clip(columns + column, 0, size - 1)] = True


def _cells(xy: NDArray[np.floating], size: int) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """Returns the cells (...) of points (..., 2), and whether (...) there is such a cell."""
    places = np.clip(xy * (1 / FreePlaces.CELL) + size // 2, -1, size)  # a point may lie anywhere
    cells = np.floor(places).astype(np.int32)
    x, y = cells[..., 0], cells[..., 1]
    return x * size + y, ((cells >= 0) & (cells < size)).all(axis=-1)


def _is_one_of(labels: NDArray[np.uint8], chosen: tuple[int, ...] | NDArray[np.intp]) -> NDArray[np.bool_]:
    """Tells, (N,) bool, which labels are among some; a table is several times as fast as `np.isin`."""
    table = np.zeros(256, dtype=bool)
    table[list(chosen)] = True
    return table[labels]
