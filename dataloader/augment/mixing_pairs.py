"""LaserMix and PolarMix: a scan and another one, cut by elevation or by azimuth, exchange what lies there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dataloader.augment.geometry import moved
from dataloader.augment.mixing import Partner, foreign
from utils.scan.records import Rows, Scan
from utils.scan.views import rotation_z


@dataclass(frozen=True)
class LaserMix:
    """Bands of elevation by turns from a scan and from another one (LaserMix, Kong et al., CVPR 2023, section 3.2).

    Attributes:
        bands: numbers of bands to draw one from.
        pitch: lowest and highest elevation of the bands, radians; points beyond count as in the outermost bands.
    """

    bands: tuple[int, ...]
    pitch: tuple[float, float]

    def mix(self, scan: Scan, partner: Partner, rng: np.random.Generator) -> Scan:
        """Returns the points of `scan` in the bands 0, 2, 4, ... from the top, and of another in 1, 3, 5, ..."""
        count = self.bands[int(rng.integers(len(self.bands)))]
        other = partner()
        own, taken = band_of(scan.xyz, count, self.pitch) % 2 == 0, band_of(other.xyz, count, self.pitch) % 2 == 1
        return _joined(scan, [foreign(other)], [own, taken])


def band_of(xyz: NDArray[np.float32], count: int, pitch: tuple[float, float]) -> NDArray[np.int64]:
    """Numbers the bands of elevation of points from the top: (N,) int64, 0 .. count - 1.

    A band holds its upper edge, not its lower one.

    Args:
        xyz: (N, 3), metres.
        count: number of equal bands.
        pitch: lowest and highest elevation, radians.
    """
    x, y, z = np.ascontiguousarray(xyz.T)
    reach = np.sqrt(x * x + y * y)
    bands = np.zeros(len(xyz), dtype=np.int64)
    # An elevation atan2(z, reach) is below an edge if its tangent is; the outermost edges, to which the paper moves
    # points beyond, then need no look.
    for edge in np.linspace(*pitch, count + 1)[1:-1]:
        bands += z <= np.float32(np.tan(edge)) * reach
    return bands


@dataclass(frozen=True)
class PolarMix:
    """Half a turn from another scan, and its things at three places (PolarMix, Xiao et al., NeurIPS 2022, section 3).

    Attributes:
        things: learning ids of the classes that are instances.
        swap_chance: probability that half a turn is exchanged.
        paste_chance: probability that the things of the other scan are appended.
    """

    things: tuple[int, ...]
    swap_chance: float = 0.5
    paste_chance: float = 1.0

    def mix(self, scan: Scan, partner: Partner, rng: np.random.Generator) -> Scan:
        """Returns the points of `scan`, with those of another in half a turn, and its things as they are and turned."""
        other = foreign(partner())
        added, rows = [], []
        kept = np.ones(len(scan), dtype=bool)
        if rng.random() < self.swap_chance:
            start = rng.uniform(-np.pi, 0.0)
            kept = ~in_sector(scan.xyz, start, start + np.pi)
            added, rows = [other], [in_sector(other.xyz, start, start + np.pi)]
        if rng.random() < self.paste_chance:
            things = other.select(np.flatnonzero(np.isin(other.labels, self.things)))
            angles = rng.uniform(0.0, 2 * np.pi / 3), rng.uniform(2 * np.pi / 3, 4 * np.pi / 3)
            added += [things, *(turned(things, angle) for angle in angles)]
            rows += [None] * 3
        return _joined(scan, added, [kept, *rows])


def in_sector(xyz: NDArray[np.float32], start: float, end: float) -> NDArray[np.bool_]:
    """Tells, (N,) bool, which points have a yaw = -atan2(y, x) between `start` and `end`, radians, both left out."""
    yaw = -np.arctan2(xyz[:, 1], xyz[:, 0])
    return (yaw > start) & (yaw < end)


def turned(scan: Scan, angle: float) -> Scan:
    """Returns a scan that is turned about the z axis of the sensor by an angle, radians."""
    return moved(scan, np.column_stack([rotation_z(angle), np.zeros(3)]))


def _joined(scan: Scan, added: Sequence[Scan], rows: Sequence[Rows | None]) -> Scan:
    """Returns rows of a scan and of others as one; the scan as it is, should nothing be left of any."""
    mixed = Scan.concatenate([scan, *added], rows)
    return mixed if len(mixed) else scan
