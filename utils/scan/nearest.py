"""The search for the nearest point inside the volume, whose prediction a point outside takes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from scipy.spatial import KDTree

FARTHEST = 1e5
"""Metres along an axis to which farther points are brought, in their direction, before the nearest point is searched:
much farther away, rounding makes all points equally far."""

_CELLS = 64  # cells of the grid along x and along y
_SOME = 8192  # points from which a neighbour is taken
_ROUNDING = 0.01  # cells; margin for the rounding of the points' cells


def nearest_inside(xyz: NDArray[np.float32], inside: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Finds for each point the row of its donor, the point inside whose prediction it takes.

    Args:
        xyz: (N, 3) float32, metres.
        inside: (N,) bool, whether a point is inside the volume; true for at least one.

    Returns:
        (N,) int64 row among the inside points: that of the point itself if it is inside, else that of the nearest
        inside point (beyond `FARTHEST`, to its direction); 0 for a point with a coordinate that is not finite.
    """
    donor = np.cumsum(inside, dtype=np.int64)
    donor -= 1
    outside = np.flatnonzero(~inside)
    donor[outside] = 0
    queries = xyz[outside]
    finite = np.isfinite(queries).all(axis=1)
    if finite.any():
        donor[outside[finite]] = donor[_nearest(xyz, inside, outside, queries[finite])]
    return donor


def _nearest(
    xyz: NDArray[np.float32], inside: NDArray[np.bool_], outside: NDArray[np.int64], queries: NDArray[np.float32]
) -> NDArray[np.int64]:
    """Finds the (Q,) int64 rows of the inside points of `xyz` (N, 3) that are nearest to `queries` (Q, 3), exactly.

    Building a tree of all points would take most of the time, and few points can be nearest to a point outside. The
    distance to any inside point is an upper bound of the distance to the nearest one, so only points within the
    distance to some near inside point are put into the tree.
    """
    queries = queries * np.minimum(np.float32(FARTHEST) / np.abs(queries).max(axis=1, keepdims=True), 1)
    grid = _Grid.of(xyz, outside, int(inside.argmax()))
    reach = np.linalg.norm(xyz[grid.neighbour(queries)] - queries.astype(np.float64), axis=1)
    candidates = np.flatnonzero(grid.near(queries, reach * 1.001 + 0.001) & inside)  # a margin for rounding
    # Queries lie outside the box of the candidates: nodes as narrow as their points leave more of them out.
    tree = KDTree(xyz[candidates], leafsize=20, balanced_tree=False, compact_nodes=True)
    return candidates[tree.query(queries)[1]]


@dataclass(frozen=True)
class _Grid:
    """The box of all inside points, and a grid over its x and y.

    Attributes:
        low, high: (3, 1) float64 corners of the box, metres.
        per_metre: (2, 1) float64, cells per metre.
        cell: (N,) int32 cell of every inside point, x cell * `_CELLS` + y cell; a point outside has the cell of
            `some_inside`.
        some_inside: row of an inside point.
    """

    low: NDArray[np.float64]
    high: NDArray[np.float64]
    per_metre: NDArray[np.float64]
    cell: NDArray[np.int32]
    some_inside: int

    @staticmethod
    def of(xyz: NDArray[np.float32], outside: NDArray[np.int64], some_inside: int) -> _Grid:
        columns = [xyz[:, axis].copy() for axis in range(3)]
        for column in columns:
            column[outside] = column[some_inside]  # points outside may be far away or NaN
        low, high = (np.array([[end(c)] for c in columns], dtype=np.float64) for end in (np.min, np.max))
        # A little less than _CELLS, so that the last point is in the last cell.
        per_metre = 0.9999 * _CELLS / np.maximum(high - low, 1e-3)[:2]
        x, y = columns[:2]
        for axis, column in enumerate((x, y)):
            column -= np.float32(low[axis, 0])
            column *= np.float32(per_metre[axis, 0])
        cell = x.astype(np.int32)
        cell *= _CELLS
        cell += y.astype(np.int32)
        return _Grid(low, high, per_metre, cell, some_inside)

    def neighbour(self, queries: NDArray[np.float32]) -> NDArray[np.int64]:
        """Returns the row (Q,) of an inside point that is near each query (Q, 3), though not always the nearest."""
        row_in = np.full(_CELLS**2, -1)
        some = np.arange(0, len(self.cell), -(-len(self.cell) // _SOME))
        row_in[self.cell[some]] = some
        row_in[self.cell[self.some_inside]] = self.some_inside
        empty = (row_in < 0).reshape(_CELLS, _CELLS)
        cell_size = 1 / self.per_metre[:, 0]
        x, y = np.asarray(distance_transform_edt(empty, cell_size, return_distances=False, return_indices=True))
        at = tuple(self._cells(queries.T[:2].astype(np.float64)))
        return row_in[x[at] * _CELLS + y[at]]

    def near(self, queries: NDArray[np.float32], reach: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Returns an (N,) bool mask that is true at least for every inside point within `reach` (Q,) of a query.

        A query is outside the box, so a part of its reach is used to get there: the part of the box within reach is
        narrower than the reach.
        """
        centre = queries.T.astype(np.float64)
        to_box = np.maximum(0, np.maximum(self.low - centre, centre - self.high)) ** 2
        half = np.sqrt(np.maximum(reach**2 - (to_box.sum(axis=0) - to_box[:2]), 0))
        x0, y0 = self._cells(centre[:2] - half, -_ROUNDING)
        x1, y1 = self._cells(centre[:2] + half, _ROUNDING) + 1
        # Each query covers a rectangle of cells. Two cumulative sums over signed corners count how many cover a cell.
        width = _CELLS + 1
        starts, ends = (
            np.bincount(np.concatenate([x * width + y, u * width + v]), minlength=width**2)
            for x, y, u, v in ((x0, y0, x1, y1), (x0, y1, x1, y0))
        )
        corners = (starts - ends).reshape(width, width)
        covered = corners.cumsum(axis=0).cumsum(axis=1)[:_CELLS, :_CELLS] > 0
        return covered.ravel().take(self.cell)

    def _cells(self, xy: NDArray[np.float64], shift: float = 0.0) -> NDArray[np.int64]:
        """Returns the (2, Q) int64 cells of coordinates (2, Q), shifted by `shift` cells and clipped to the grid."""
        return np.clip((xy - self.low[:2]) * self.per_metre + shift, 0, _CELLS - 1).astype(np.int64)
