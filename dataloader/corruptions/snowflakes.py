"""Snowflakes in one sweep: where they are, and which part of each beam they hide.

They follow Hahner et al., "LiDAR Snowfall Simulation", CVPR 2022. Flakes are discs in the plane of their beam line.
F is the number of flakes, N of beams (one per point), H of hits: pairs of a flake and a beam that it partly hides.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np

Distribution = Literal["gunn", "sekhon"]

SNOW_DENSITY = 0.1
"""Density of snow, g/cm^3."""
REFERENCE_DIAMETER = 0.003
RADIUS = 80.0
"""Flakes are drawn up to this distance from the sensor, metres."""
LARGEST_DIAMETER = 0.02
"""Largest diameter of a flake, metres."""

_SHELLS = (0.0, 0.1, 0.5, 2.0, 5.0, 10.0, 20.0, 40.0, np.inf)
_TURN = 2.0 * np.pi


@dataclass(frozen=True)
class Snowfall:
    """A frozen record of the statistics of the flakes.

    Attributes:
        rain_rate: rain-equivalent rate r_r, mm/h.
        occupancy: fraction of the area of a plane that flakes cover.
        slope: Lambda, 1/m: diameters have an exponential distribution with mean 1 / Lambda, cut at 20 mm.
    """

    rain_rate: float
    occupancy: float
    slope: float

    @property
    def flakes_per_line(self) -> int:
        """The number of discs in the plane of one beam line: 3 o R^2 Lambda^2, with the mean squared radius 1 / (3
        Lambda^2)."""
        return round(3.0 * self.occupancy * RADIUS**2 * self.slope**2)


def snowfall(rate: float, velocity: float, distribution: Distribution = "gunn") -> Snowfall:
    """Computes the statistics of the flakes of a snowfall.

    Args:
        rate: snowfall rate, mm/h, 0 or more.
        velocity: terminal velocity, m/s, above 0.
        distribution: diameters after Gunn and Marshall ("gunn") or Sekhon and Srivastava ("sekhon").

    Raises:
        ValueError: a value outside these bounds, or an unknown distribution.
    """
    if rate < 0.0 or velocity <= 0.0:
        raise ValueError(f"a snowfall rate of 0 or more and a velocity above 0 are needed, not {rate} and {velocity}")
    if distribution not in ("gunn", "sekhon"):
        raise ValueError(f'snow distribution {distribution!r}: "gunn" or "sekhon" is needed')
    if rate == 0.0:
        return Snowfall(0.0, 0.0, 0.0)
    rain = (rate / (487.0 * SNOW_DENSITY * REFERENCE_DIAMETER * velocity)) ** 1.5
    factor, power = (25.5, -0.48) if distribution == "gunn" else (22.9, -0.45)
    occupancy = rate / (3.6e6 * SNOW_DENSITY * velocity)
    return Snowfall(rain, occupancy, 100.0 * factor * rain**power)


@dataclass(frozen=True)
class Flakes:
    """A frozen record of the flakes of all beam lines, as discs.

    Attributes:
        line: (F,) int64 beam line, ascending.
        azimuth: (F,) float64 azimuth of the centre, radians, 0 .. 2 pi.
        distance: (F,) float64 distance of the centre, metres; more than `radius`.
        radius: (F,) float64 radius of the disc, metres.
    """

    line: np.ndarray
    azimuth: np.ndarray
    distance: np.ndarray
    radius: np.ndarray


def draw_flakes(statistics: Snowfall, reach: np.ndarray, rng: np.random.Generator) -> Flakes:
    """Draws one pattern of flakes per beam line: centres uniform over a disc of 80 m, cut at a uniform height.

    Flakes farther than any point of their line hide nothing and are dropped before their size is drawn. A flake that
    covers the sensor is dropped. Overlaps are allowed: at an occupancy of about 1e-6 they are rare.

    Args:
        statistics: result of `snowfall`.
        reach: (L,) distance of the farthest point of each beam line, metres; 0 for a line without points.
        rng: source of the distances of all flakes, then of azimuths, diameters and heights of those that count.
    """
    each = statistics.flakes_per_line
    distance = RADIUS * np.sqrt(rng.random((len(reach), each)))
    line, column = np.nonzero(distance < reach[:, None])
    distance = distance[line, column]
    count = len(line)
    azimuth = rng.uniform(0.0, _TURN, count)
    # Inverse of the exponential distribution cut at the largest diameter: the same as drawing again above it.
    diameter = -np.log1p(rng.random(count) * np.expm1(-statistics.slope * LARGEST_DIAMETER))
    diameter /= max(statistics.slope, 1e-12)
    radius = 0.5 * diameter * np.sqrt(1.0 - rng.uniform(-1.0, 1.0, count) ** 2)
    clear = distance > radius
    return Flakes(line[clear], azimuth[clear], distance[clear], radius[clear])


@dataclass(frozen=True)
class Occlusion:
    """A frozen record of the parts of the beams that flakes hide; hits are sorted by beam, then from front to back.

    Attributes:
        beam: (H,) int64 row of the point of the beam, ascending.
        distance: (H,) float64 distance of the flake, metres.
        share: (H,) float64, the part of the beam's width that this flake hides and no nearer one does; it may be 0.
        visible: (N,) float64, the part of each beam that reaches its point. It and the shares of the beam add up to 1.
    """

    beam: np.ndarray
    distance: np.ndarray
    share: np.ndarray
    visible: np.ndarray


def occlusion(
    flakes: Flakes, line: np.ndarray, azimuth: np.ndarray, distance: np.ndarray, divergence: float
) -> Occlusion:
    """Computes the shares of each beam that flakes hide, from front to back.

    A beam spans azimuth +- divergence / 2. A flake nearer than the point spans its azimuth +- asin(radius / distance),
    clipped to the beam, and hides what no nearer flake hides.

    Args:
        flakes: result of `draw_flakes`.
        line: (N,) int, beam line of each point.
        azimuth: (N,) radians, any multiple of a turn added.
        distance: (N,) metres.
        divergence: full width of a beam, radians, above 0.
    """
    azimuth = np.mod(azimuth, _TURN)
    beam, start, stop, ahead = _hits(flakes, line.astype(np.int64), azimuth, distance, divergence)
    order = np.lexsort((ahead, beam))
    beam, ahead = beam[order], ahead[order]
    share = _claims(beam, start[order], stop[order]) / divergence
    visible = 1.0 - np.bincount(beam, share, minlength=len(distance))
    # The rest that rounding leaves of a completely hidden beam must not count as an echo.
    visible[visible < 1e-12] = 0.0
    return Occlusion(beam, ahead, share, visible)


def _hits(
    flakes: Flakes, line: np.ndarray, azimuth: np.ndarray, distance: np.ndarray, divergence: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Finds the hits: rows of hit beams, start and end of the hidden interval, distance of the flake; (H,) each.

    Intervals are radians from the left edge of the beam. Flakes are searched in shells of distance, so that there are
    few candidates: only shells nearer than the point, in a window as wide as the widest flake of the shell.
    """
    found: list[tuple[np.ndarray, ...]] = []
    half_width = np.arcsin(np.minimum(flakes.radius / flakes.distance, 1.0))
    for near, far in pairwise(_SHELLS):
        shell = np.flatnonzero((flakes.distance >= near) & (flakes.distance < far))
        beams = np.flatnonzero(distance > near)
        if not len(shell) or not len(beams):
            continue
        margin = 0.5 * divergence + half_width[shell].max()
        key, shell, centre = _sorted_with_wrap(flakes, shell, margin)
        low = np.searchsorted(key, _key(line[beams], azimuth[beams] - margin), side="left")
        counts = np.searchsorted(key, _key(line[beams], azimuth[beams] + margin), side="right") - low
        beam = np.repeat(beams, counts)
        first = np.cumsum(counts) - counts
        entry = np.arange(len(beam)) - np.repeat(first - low, counts)
        flake = shell[entry]
        offset = centre[entry] - azimuth[beam] + 0.5 * divergence
        start = np.maximum(offset - half_width[flake], 0.0)
        stop = np.minimum(offset + half_width[flake], divergence)
        hit = (flakes.distance[flake] < distance[beam]) & (start < stop)
        found.append((beam[hit], start[hit], stop[hit], flakes.distance[flake[hit]]))
    if not found:
        none = np.zeros(0)
        return none.astype(np.int64), none, none, none
    beam, start, stop, ahead = (np.concatenate(column) for column in zip(*found, strict=True))
    return beam, start, stop, ahead


def _key(line: np.ndarray, azimuth: np.ndarray) -> np.ndarray:
    """Computes one number that sorts by line, then by azimuth; a line takes two turns, to hold copies across 0."""
    return line * (2.0 * _TURN) + azimuth


def _sorted_with_wrap(flakes: Flakes, shell: np.ndarray, margin: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns sorted keys, their flakes and azimuths; flakes near 0 and 2 pi occur a second time, a turn away."""
    centre = flakes.azimuth[shell]
    below, above = centre > _TURN - margin, centre < margin
    rows = np.concatenate([shell, shell[below], shell[above]])
    centre = np.concatenate([centre, centre[below] - _TURN, centre[above] + _TURN])
    key = _key(flakes.line[rows], centre)
    order = np.argsort(key)
    return key[order], rows[order], centre[order]


def _claims(beam: np.ndarray, start: np.ndarray, stop: np.ndarray) -> np.ndarray:
    """Computes the (H,) length of each interval, radians, that no earlier interval of its beam covers.

    Args:
        beam: (H,) ascending; the intervals of a beam come from front to back.
        start: (H,) radians.
        stop: (H,) radians, more than `start`.
    """
    claimed = stop - start
    heads = np.flatnonzero(np.r_[True, beam[1:] != beam[:-1]]) if len(beam) else np.zeros(0, np.int64)
    counts = np.diff(np.r_[heads, len(beam)])
    for count in np.unique(counts[counts > 1]):
        rows = heads[counts == count][:, None] + np.arange(count)
        edges = np.sort(np.concatenate([start[rows], stop[rows]], axis=1), axis=1)
        # Between two neighbouring edges nothing changes: the gap belongs to the first interval that covers it.
        covers = (start[rows][:, :, None] <= edges[:, None, :-1]) & (stop[rows][:, :, None] >= edges[:, None, 1:])
        first = covers & (np.cumsum(covers, axis=1) == 1)
        claimed[rows] = np.where(first, np.diff(edges, axis=1)[:, None, :], 0.0).sum(axis=2)
    return claimed
