"""Objects are cut out of one scan: which points are one object, and where it stands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from dataloader.objects.boxes import box_around, ground_of
from dataloader.objects.records import FACTS, Objects
from utils.scan.records import Scan

LEAST_POINTS, MOST_POINTS = 20, 20_000
FARTHEST = 100.0  # metres from the sensor, along each axis; a point beyond belongs to no object
_RANGE = (2.5, 60.0)  # metres: nearer is the own car, farther away too little ground is seen
_HEIGHT = (-0.5, 1.0)  # metres of the lowest point above the ground; else it does not stand there, or is hidden
_LONGEST = 20.0  # metres: a longer one is several
_CELL = 0.5  # metres: points of a class whose cells touch are one object, where scans have no instance ids


@dataclass(frozen=True)
class Cut:
    """A frozen record of what is cut out of scans.

    Attributes:
        things: learning ids of the classes to cut out.
        surfaces: learning ids of the ground on which they stand.
        classes: number of learning ids K.
    """

    things: tuple[int, ...]
    surfaces: tuple[int, ...]
    classes: int

    def objects(self, scan: Scan, number: int) -> Objects:
        """Cuts all objects out of a scan that stand on ground which is seen, at 2.5 to 60 m, of 20 points or more.

        Points of one class and instance are an object; in a scan whose things have no instance ids, points of a class
        that lie together.

        Args:
            scan: as on disk; points that are nowhere near the sensor, or have NaN anywhere, are left out of objects.
            number: of the scan.
        """
        counts = np.bincount(scan.labels, minlength=self.classes)[: self.classes]
        found = (np.abs(scan.xyz) <= FARTHEST).all(axis=1) & np.isfinite(scan.intensity)
        scan = scan if found.all() else scan.select(found)
        standing = np.flatnonzero(np.isin(scan.labels, self.surfaces))
        ground, surfaces = scan.xyz[standing], scan.labels[standing]
        points, facts = [], []
        for rows, instance in self._groups(scan):
            xyz = scan.xyz[rows]
            box = box_around(xyz[:, :2])
            if not _RANGE[0] <= np.hypot(*box[:2]) <= _RANGE[1] or 2 * box[2:4].max() > _LONGEST:
                continue
            below = ground_of(box, ground, surfaces)
            if below is None or not _HEIGHT[0] <= xyz[:, 2].min() - below.height <= _HEIGHT[1]:
                continue
            points.append(np.column_stack([xyz, scan.intensity[rows]]))
            facts.append((number, scan.labels[rows[0]], instance, below.surface, below.height, box, len(rows)))
        together = np.concatenate(points) if points else np.zeros((0, 4), dtype=np.float32)
        return Objects(together.astype(np.float32, copy=False), np.array(facts, dtype=FACTS), counts.astype(np.int64))

    def _groups(self, scan: Scan) -> list[tuple[NDArray[np.int64], int]]:
        """Returns the rows of each object, and its instance id."""
        rows = np.flatnonzero(np.isin(scan.labels, self.things))
        ids = scan.instances[rows]
        if not ids.any():
            ids = _clusters(scan.xyz[rows, :2], scan.labels[rows])
        rows, ids = rows[ids != 0], ids[ids != 0]
        keys = scan.labels[rows].astype(np.int64) << 32 | (ids.astype(np.int64) & 0xFFFFFFFF)
        order = np.argsort(keys, kind="stable")
        parts = np.split(order, np.flatnonzero(np.diff(keys[order])) + 1)
        return [(rows[part], int(ids[part[0]])) for part in parts if LEAST_POINTS <= len(part) <= MOST_POINTS]


def _clusters(xy: NDArray[np.float32], labels: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Numbers, (N,) int32 from 1 on, clusters of points of a class whose cells of 0.5 m touch; 0: beyond the range."""
    clusters = np.zeros(len(xy), dtype=np.int32)
    near = np.abs(xy).max(axis=1, initial=0) < _RANGE[1] + _LONGEST
    cells = np.floor(xy / _CELL).astype(np.int64) + int((_RANGE[1] + _LONGEST) / _CELL) + 1
    size, number = int(cells[near].max(initial=0)) + 1, 0
    for label in np.unique(labels[near]):
        chosen = near & (labels == label)
        taken = np.zeros((size, size), dtype=bool)
        taken[tuple(cells[chosen].T)] = True
        labelled: Any = ndimage.label(taken, structure=np.ones((3, 3)))
        numbers, count = labelled
        clusters[chosen] = numbers[tuple(cells[chosen].T)] + number
        number += count
    return clusters
