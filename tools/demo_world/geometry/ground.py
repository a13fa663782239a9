"""The street itself: a gently winding centre line, and bands of ground along it.

Positions on the ground are (s, d): metres along the centre line's x axis, and metres to the left of it. On each side
the bands are, from the middle: lane, verge, walk, yard, back. What a band is made of may change every BLOCK metres.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

BLOCK = 12.0  # metres
BANDS = (3.6, 6.1, 8.6, 26.0)  # metres from the centre line: where lane, verge, walk and yard end
CURB = 0.12  # metres: everything but carriageway and parking lies this much higher
HORIZON = 300.0  # metres; ground farther off is not drawn


class Zone(IntEnum):
    """The kind of ground in a band along the street."""

    NOTHING = 0
    ROAD = 1
    LANE_MARK = 2
    PARKING = 3
    SIDEWALK = 4
    CURB = 5
    TERRAIN = 6
    GRAVEL = 7


@dataclass(frozen=True)
class Street:
    """The ground's geometry.

    Attributes:
        amplitude: metres the centre line swings to each side.
        wavelength: metres of one full swing.
        phase: radians.
        first_block: number of the first block in `zones`; block b covers s from b * BLOCK to (b + 1) * BLOCK.
        zones: (2, blocks, 5) uint8 Zone of each band, right side first.
        crossings: (blocks,) bool, a side street crosses there.
    """

    amplitude: float
    wavelength: float
    phase: float
    first_block: int
    zones: Array
    crossings: Array

    def _line(self, x: Array) -> tuple[Array, Array]:
        """Computes y and slope of the centre line at x; the line passes through the origin."""
        k = 2 * np.pi / self.wavelength
        angle = k * x + self.phase
        return self.amplitude * (np.sin(angle) - float(np.sin(self.phase))), self.amplitude * k * np.cos(angle)

    def place(self, s: float, d: float) -> tuple[float, float, float]:
        """Returns world x, y (metres) and heading (radians) at (s, d)."""
        y, slope = (float(v) for v in self._line(np.float64(s)))  # type: ignore[arg-type]
        norm = float(np.hypot(1.0, slope))
        return s - d * slope / norm, y + d / norm, float(np.arctan(slope))

    def coordinates(self, x: Array, y: Array) -> tuple[Array, Array]:
        """Finds (s, d) of world positions: the foot on the centre line, to a few millimetres within 30 m of it."""
        s = x
        for _ in range(2):
            line, slope = self._line(s)
            s = s + ((x - s) + (y - line) * slope) / (1 + slope * slope)
        line, slope = self._line(s)
        return s, ((y - line) - (x - s) * slope) / np.sqrt(1 + slope * slope)

    def zone(self, x: Array, y: Array) -> Array:
        """Finds the zone at world positions, (n,) uint8."""
        s, d = self.coordinates(x, y)
        number = np.floor(s / BLOCK)
        within = s - number * BLOCK
        block = np.clip(number.astype(np.int32) - self.first_block, 0, self.zones.shape[1] - 1)
        away = np.abs(d)
        band = sum((away > end).astype(np.int32) for end in BANDS)
        zone = self.zones[(d > 0).astype(np.int32), block, band]
        crossing = self.crossings[block]
        dashes = (away < 0.1) & (s % 6 < 3)
        edges = (away > 3.3) & (away < 3.48)
        zebra = (np.abs(np.abs(within - BLOCK / 2) - 4.2) < 1.2) & (d % 1.0 < 0.5)
        marked = (band == 0) & np.where(crossing, zebra, dashes | edges)
        return np.where(marked, np.uint8(Zone.LANE_MARK), zone)

    def cast(self, origin: Array, rays: tuple[Array, ...]) -> tuple[Array, Array]:
        """Finds where rays meet the ground.

        Args:
            origin: (3,) metres, above the curb. rays: three (H, W) float32 arrays, the unit directions' x, y, z.

        Returns:
            (H, W) float32 distance in metres (inf: never), (H, W) uint8 Zone.
        """
        distance = np.full(rays[0].shape, np.inf, np.float32)
        zone = np.zeros(rays[0].shape, np.uint8)
        ox, oy, oz = (float(v) for v in origin)
        down = rays[2] < -oz / HORIZON
        dx, dy, dz = (axis[down] for axis in rays)
        upper, lower = (CURB - oz) / dz, -oz / dz  # where the ray meets the walk's height, and the road's
        found = self.zone(ox + dx * upper, oy + dy * upper)
        reached = upper
        rest = np.flatnonzero(~raised(found))
        below = self.zone(ox + dx[rest] * lower[rest], oy + dy[rest] * lower[rest])
        reached[rest], found[rest] = lower[rest], below
        curb = rest[raised(below)]  # above the road at the walk's height, under the walk at the road's
        near, far = (CURB - oz) / dz[curb], lower[curb]
        for _ in range(10):
            middle = (near + far) / 2
            under = raised(self.zone(ox + dx[curb] * middle, oy + dy[curb] * middle))
            near, far = np.where(under, near, middle), np.where(under, middle, far)
        reached[curb], found[curb] = far, Zone.CURB
        distance[down], zone[down] = reached, found
        return distance, zone

    def surface(self, point: Array, zone: Array) -> tuple[Array, Array]:
        """Returns street coordinates (s, d, z) and normals of (n, 3) points on the ground, (n, 3) float32 each."""
        s, d = self.coordinates(point[:, 0], point[:, 1])
        normal = np.zeros_like(point)
        normal[:, 2] = 1
        curb = zone == Zone.CURB
        slope = self._line(s[curb])[1]
        towards_road = -np.sign(d[curb]) / np.sqrt(1 + slope * slope)
        normal[curb] = np.stack([-slope * towards_road, towards_road, 0 * slope], axis=1)
        return np.stack([s, d, point[:, 2]], axis=1), normal


def raised(zone: Array) -> Array:
    """Says whether a zone lies at the curb's height rather than the road's."""
    return zone >= Zone.SIDEWALK
