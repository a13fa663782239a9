"""The data base of objects, in memory: all their points in one array, and a row of facts for each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dataloader.objects.boxes import BOX

FACTS = np.dtype(
    [
        ("scan", "<i4"),  # number of the training scan that it was cut out of
        ("label", "u1"),  # learning id
        ("instance", "<i4"),  # instance id in that scan
        ("surface", "u1"),  # learning id of the ground that it stands on
        ("ground", "<f4"),  # z of that ground, metres
        ("box", "<f4", (BOX,)),  # see `boxes`
        ("count", "<i4"),  # points
    ]
)
"""The facts of an object."""


@dataclass(frozen=True)
class Objects:
    """A frozen record of O objects, where they stood in the sensor frames of their scans.

    Attributes:
        points: (P, 4) float32, x, y, z (metres) and intensity, object after object.
        facts: (O,) `FACTS`.
        class_points: (K,) int64, the points of each learning id in all training scans.
    """

    points: NDArray[np.float32]
    facts: NDArray[np.void]
    class_points: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.facts)

    @property
    def starts(self) -> NDArray[np.int64]:
        """The (O + 1,) rows of `points` where the objects begin; the last is their end."""
        return np.concatenate([[0], np.cumsum(self.facts["count"], dtype=np.int64)])

    def select(self, rows: NDArray[np.int64]) -> Objects:
        """Returns some of the objects."""
        starts = self.starts
        parts = [self.points[starts[row] : starts[row + 1]] for row in rows.tolist()]
        points = np.concatenate(parts) if parts else self.points[:0]
        return Objects(points, self.facts[rows], self.class_points)

    @staticmethod
    def joined(parts: list[Objects]) -> Objects:
        """Returns all objects of at least one data base as one, with the sum of their counts."""
        return Objects(
            np.concatenate([part.points for part in parts]),
            np.concatenate([part.facts for part in parts]),
            np.sum([part.class_points for part in parts], axis=0),
        )
