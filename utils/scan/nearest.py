"""Whose prediction a point outside of the volume takes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from scipy.spatial import KDTree

_CELLS = 64  # of the grid, each way
_ROUNDING = 0.01  # cells; of the points' own cells


def nearest_inside(xyz: NDArray[np.float32], inside: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Whose prediction each point takes.

    Args:
        xyz: (N, 3) float32.
        inside: (N,) bool, at least one true.

    Returns:
        (N,) int64 row among the inside points: its own, or that of the nearest one for a point outside (0 for a point
        with a coordinate that is not finite).
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
    """(Q,) int64, the row of the nearest inside point of `xyz` (N, 3) for each of `queries` (Q, 3); exact.

    A tree of all points would take most of the time to build, and few can be the nearest of anything outside: those
    within reach, where the distance to any inside point bounds the reach, and a near one bounds it well.
    """
    grid = _Grid.of(xyz, outside, int(inside.argmax()))
    reach = np.linalg.norm(xyz[grid.neighbour(queries)] - queries.astype(np.float64), axis=1)
    candidates = np.flatnonzero(grid.near(queries, reach * 1.001 + 0.001) & inside)  # a margin for rounding
    # A plain tree is built several times faster than a balanced one.
    tree = KDTree(xyz[candidates], leafsize=32, balanced_tree=False, compact_nodes=False)
    return candidates[tree.query(queries)[1]]


@dataclass(frozen=True)
class _Grid:
    """The box that holds all inside points, and a grid over its x and y.

    Attributes:
        low, high: (3, 1) float64, corners of the box, metres.
        per_metre: (2, 1) float64, cells per metre.
        cell: (N,) int32, x times `_CELLS` plus y, of every inside point; a point outside has that of `some_inside`.
        some_inside: the row of an inside point.
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
            column[outside] = column[some_inside]  # they may lie anywhere, or be NaN
        low, high = (np.array([[end(c)] for c in columns], dtype=np.float64) for end in (np.min, np.max))
        # A little less than would fit, so that the last point is in the last cell.
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
        """(Q,) the row of an inside point that is not far from each query (Q, 3)."""
        row_in = np.full(_CELLS**2, -1)
        row_in[self.cell[::8]] = np.arange(0, len(self.cell), 8)  # it will do, and takes an eighth of the time
        row_in[self.cell[self.some_inside]] = self.some_inside
        empty = (row_in < 0).reshape(_CELLS, _CELLS)
        cell_size = 1 / self.per_metre[:, 0]
        x, y = np.asarray(distance_transform_edt(empty, cell_size, return_distances=False, return_indices=True))
        at = tuple(self._cells(queries.T[:2].astype(np.float64)))
        return row_in[x[at] * _CELLS + y[at]]

    def near(self, queries: NDArray[np.float32], reach: NDArray[np.float64]) -> NDArray[np.bool_]:
        """(N,) bool: true at least of every inside point within `reach` (Q,) of its query.

        The way from a query to the box uses up some of its reach: what a ball about the query covers of the box is less
        wide than the ball.
        """
        centre = queries.T.astype(np.float64)
        way = np.maximum(0, np.maximum(self.low - centre, centre - self.high)) ** 2
        half = np.sqrt(np.maximum(reach**2 - (way.sum(axis=0) - way[:2]), 0))
        x0, y0 = self._cells(centre[:2] - half, -_ROUNDING)
        x1, y1 = self._cells(centre[:2] + half, _ROUNDING) + 1
        # Each query covers a rectangle of cells; the double cumulative sum of its corners counts them all at once.
        corners = np.zeros((_CELLS + 1, _CELLS + 1), dtype=np.int64)
        for x, y, sign in ((x0, y0, 1), (x0, y1, -1), (x1, y0, -1), (x1, y1, 1)):
            np.add.at(corners, (x, y), sign)
        covered = corners.cumsum(axis=0).cumsum(axis=1)[:_CELLS, :_CELLS] > 0
        return covered.ravel().take(self.cell)

    def _cells(self, xy: NDArray[np.float64], shift: float = 0.0) -> NDArray[np.int64]:
        """(2, Q) int64, the cell of coordinates (2, Q) on each axis, `shift` cells further; the nearest in the grid."""
        return np.clip((xy - self.low[:2]) * self.per_metre + shift, 0, _CELLS - 1).astype(np.int64)
