"""Snowfall, from the equations of Hahner et al., "LiDAR Snowfall Simulation for Robust 3D Object Detection", CVPR 2022.

Snowflakes hide a part of each beam (`snowflakes`). Every flake and the surface itself then return a pulse. The sensor
reports the maximum of the sum of these pulses.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from dataloader.corruptions.fog import SPEED_OF_LIGHT, crossover
from dataloader.corruptions.ground import GroundRule, find_ground, fit_return
from dataloader.corruptions.snowflakes import Distribution, Occlusion, draw_flakes, occlusion, snowfall
from dataloader.corruptions.sweep import Sweep

Mode = Literal["physical", "reference"]

PULSE_LENGTH = SPEED_OF_LIGHT * 10e-9
"""c tau_H in metres; the snow paper takes half the pulse of the fog paper."""
STEP = 0.1
"""Step of the ranges at which the received signal is computed, metres."""
REFLECTIVITY = 0.9
"""Reflectivity of a flake, as a fraction of the largest intensity."""
SAME = 0.2
"""A return that is nearer than this to the surface is the surface itself; metres."""
FARTHEST = 1000.0
"""Flakes do not hide points beyond this range, metres: no sensor reaches it, and the signal would fill the memory."""
WEAK_LINES = (53, 55, 56, 58)
"""Beam lines with a largest intensity of 230 instead of 255, from the calibration of one HDL-64 S3.

The published generators use these constants.
"""


@dataclass(frozen=True)
class Focus:
    """A frozen record of the focal correction of a Velodyne HDL-64, with one entry for each of L beam lines.

    Attributes:
        distance: (L,) focal_distance of the calibration file, hundreds of centimetres (0.25 .. 24).
        slope: (L,) focal_slope of the calibration file, 0.4 .. 2.
    """

    distance: np.ndarray
    slope: np.ndarray

    def loss(self, line: np.ndarray, distance: np.ndarray) -> np.ndarray:
        """Computes s |f - (1 - d / 120)^2| with f = (1 - F / 13100)^2 and F = 100 focal_distance.

        Args:
            line: (N,) int, beam lines.
            distance: (N,) d, metres.

        Returns:
            (N,) loss as a fraction of the largest intensity.
        """
        best = (1.0 - 100.0 * self.distance[line] / 13100.0) ** 2
        return self.slope[line] * np.abs(best - (1.0 - distance / 120.0) ** 2)


def strongest_return(
    beam: np.ndarray, distance: np.ndarray, amplitude: np.ndarray, beams: int
) -> tuple[np.ndarray, np.ndarray]:
    """Finds the maximum of the received signal of each beam.

    signal(R) is the sum over echoes k of A xi(R_k) / R_k^2 sin^2(pi (R - R_k) / (c tau)) on R_k .. R_k + c tau. It is
    computed on a grid of 0.1 m.

    Args:
        beam: (E,) int, beam of each of E echoes, 0 .. `beams` - 1.
        distance: (E,) R_k, metres, above 0.
        amplitude: (E,) A times the share of the beam.
        beams: number of beams.

    Returns:
        (`beams`,) range of the maximum, metres, and (`beams`,) signal there; both 0 for a beam without a return.
    """
    strength = amplitude * crossover(distance) / distance**2
    first = np.ceil(distance / STEP).astype(np.int64)
    samples = first[:, None] + np.arange(int(PULSE_LENGTH / STEP) + 1)
    lag = samples * STEP - distance[:, None]
    pulse = np.sin((np.pi / PULSE_LENGTH) * np.minimum(lag, PULSE_LENGTH)) ** 2 * strength[:, None]

    # Beams of similar reach are computed together, some thousands at a time, on a grid no longer than they need.
    reach = np.zeros(beams, np.int64)
    np.maximum.at(reach, beam, samples[:, -1] + 1)
    rank = np.empty(beams, np.int64)
    by_reach = np.argsort(reach, kind="stable")
    rank[by_reach] = np.arange(beams)
    echoes = np.argsort(rank[beam], kind="stable")
    place, size = rank[beam][echoes], 2048
    ranges, signal = np.zeros(beams), np.zeros(beams)
    for begin in range(0, beams, size):
        members = by_reach[begin : begin + size]
        rows = echoes[np.searchsorted(place, begin) : np.searchsorted(place, begin + size)]
        width = int(reach[members[-1]])
        cells = (rank[beam[rows]] - begin)[:, None] * width + samples[rows]
        total = np.bincount(cells.ravel(), pulse[rows].ravel(), minlength=len(members) * width)
        total = total.reshape(len(members), width)
        peak = total.argmax(axis=1)
        ranges[members] = peak * STEP
        signal[members] = total[np.arange(len(members)), peak]
    return ranges, signal


def scatter(
    shade: Occlusion,
    intensity: np.ndarray,
    distance: np.ndarray,
    line: np.ndarray,
    *,
    mode: Mode,
    full: np.ndarray,
    focus: Focus | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Computes what the sensor reports for each beam.

    Args:
        shade: the parts of the beams that flakes hide.
        intensity: (N,) intensity of the points, 0..255.
        distance: (N,) distance of the points, metres.
        line: (N,) beam lines.
        mode: the amplitude of the surface: "physical" i d^2, so that a point that no flake hides keeps its intensity;
            "reference" that of a flake, as the published generators compute it, which makes hidden points nearly dark.
        full: (N,) the largest intensity of the beam.
        focus: focal correction, or None.

    Returns:
        (N,) intensity, 0..255, whole numbers where a flake touches the beam; (N,) distance, metres; (N,) bool, whether
        a flake is reported.
    """
    touched = np.unique(shade.beam[(shade.share > 0.0) & (distance[shade.beam] < FARTHEST)])
    row = np.full(len(distance), -1)
    row[touched] = np.arange(len(touched))
    hits = row[shade.beam] >= 0
    target, ceiling = distance[touched], full[touched]
    if mode == "physical":
        loss = 0.0 if focus is None else 255.0 * focus.loss(line[touched], target)
        amplitude = np.clip(intensity[touched] - loss, 0.0, ceiling) * target**2
    else:
        amplitude = REFLECTIVITY * ceiling
    ranges, signal = strongest_return(
        np.concatenate([row[shade.beam[hits]], np.arange(len(touched))]),
        np.concatenate([shade.distance[hits], target]),
        np.concatenate([REFLECTIVITY * full[shade.beam[hits]] * shade.share[hits], amplitude * shade.visible[touched]]),
        len(touched),
    )
    # The maximum of a pulse is half its length after its start. Without a return the point stays in place, dark.
    ranges = np.where(signal > 0.0, ranges - 0.5 * PULSE_LENGTH, target)
    if focus is not None:
        signal = signal + np.where(signal > 0.0, ceiling * focus.loss(line[touched], ranges), 0.0)
    moved = np.abs(ranges - target) >= SAME
    reported, places, scattered = intensity.copy(), distance.copy(), np.zeros(len(distance), bool)
    reported[touched] = np.trunc(np.clip(signal, 0.0, ceiling))
    places[touched] = np.where(moved, ranges, target)
    scattered[touched] = moved
    return reported, places, scattered


def detection_threshold(
    sweep: Sweep,
    rng: np.random.Generator,
    *,
    noise_floor: float,
    weakest: float,
    ground: GroundRule,
    min_ground: int,
    mode: Mode,
) -> np.ndarray | None:
    """Computes the (N,) intensity, 0..255, at or below which a point is not reported.

    A polynomial of degree 2 in distance is fitted to the thresholds n(d) cos(theta) of the ground points and evaluated
    for all points. "physical" limits the distance to that of the ground points, and the result to 0 or more.

    Args:
        sweep: N points.
        rng: source of the plane with ground "plane".
        noise_floor: n(d) as a fraction of the ground's weakest return.
        weakest: see `ground.fit_return`.
        ground: see `ground.find_ground`.
        min_ground: smallest number of ground points.
        mode: "physical" or "reference".

    Returns:
        The thresholds; None with fewer than `min_ground` ground points.
    """
    found = find_ground(sweep, rng, ground)
    if len(found.rows) < max(min_ground, 3):
        return None
    threshold = fit_return(found, weakest).noise(found.distance, noise_floor) * found.cosine
    centre, spread = found.distance.mean(), max(float(found.distance.std()), 1e-6)
    polynomial = np.polynomial.polynomial.polyfit((found.distance - centre) / spread, threshold, 2)
    asked = sweep.ranges()
    if mode == "physical":
        asked = np.clip(asked, found.distance.min(), found.distance.max())
    fitted = 255.0 * np.polynomial.polynomial.polyval((asked - centre) / spread, polynomial)
    return np.maximum(fitted, 0.0) if mode == "physical" else fitted


def snow(
    sweep: Sweep,
    rng: np.random.Generator,
    *,
    rate: float = 1.0,
    velocity: float = 1.6,
    distribution: Distribution = "gunn",
    divergence: float = 3e-3,
    mode: Mode = "physical",
    focus: Focus | None = None,
    delete: bool = True,
    noise_floor: float = 0.7,
    weakest: float = 5.0 / 255.0,
    ground: GroundRule = "labels",
    min_ground: int = 1000,
) -> Sweep:
    """Adds falling snow: some beams report a flake, others their point with less intensity, and weak points are lost.

    Every beam line gets a new pattern of flakes. Points without a flake in their beam keep place and intensity; points
    whose beam reports a flake move along their ray and count as altered. Directions without a point get none.
    Intensities are computed as 0..255, whatever the sensor's scale.

    Two notes on the deletion. "reference" mode also uses this project's estimate of the ground's noise
    (`ground.GroundReturn.noise`: the lower of the low fit and the mean fit, at least 0), which deviates from the
    published generators. "physical" mode deletes points of intensity 0 that no flake hides: where the threshold is 0,
    they are not above it.

    Args:
        sweep: N points, 0 allowed. Points with the same `ring` share a pattern; Robo3D finds rings by elevation here.
        rng: source of the flakes and then, with ground "plane", of the plane.
        rate: snowfall rate, mm/h; with 0 only weak points are deleted.
        velocity: terminal velocity of flakes, m/s.
        distribution: distribution of the diameters, see `snowflakes.snowfall`.
        divergence: full width of a beam, radians (HDL-64: 3 mrad).
        mode: "physical", or "reference" to follow the published generators: the amplitude of `scatter`, 230 as the
            largest intensity of four lines of a 64-beam sensor, and an unlimited threshold polynomial.
        focus: focal correction; None, because neither data set has the calibration of its sensor.
        delete: whether points that do not report a flake are deleted at or below the detection threshold.
        noise_floor: the threshold as a fraction of the ground's weakest return.
        weakest: lower bound of the weakest return, see `ground.fit_return`.
        ground: "labels" or "plane", see `ground.find_ground`.
        min_ground: with fewer ground points nothing is deleted.

    Returns:
        The remaining points in their order; labels are unchanged, also those of altered points.

    Raises:
        ValueError: an unknown mode, ground or distribution, or a rate or velocity out of range.
    """
    if mode not in ("physical", "reference"):
        raise ValueError(f'snow mode {mode!r}: "physical" or "reference" is needed')
    scale = 255.0 / sweep.sensor.intensity_max
    distance = sweep.ranges()
    reach = np.zeros(sweep.sensor.beams)
    np.maximum.at(reach, sweep.ring, distance)
    flakes = draw_flakes(snowfall(rate, velocity, distribution), reach, rng)
    azimuth = np.arctan2(sweep.xyz[:, 1].astype(np.float64), sweep.xyz[:, 0].astype(np.float64))
    shade = occlusion(flakes, sweep.ring, azimuth, distance, divergence)
    weak = np.isin(sweep.ring, WEAK_LINES) & (mode == "reference") & (sweep.sensor.beams == 64)
    before = sweep.intensity.astype(np.float64) * scale
    after, places, scattered = scatter(
        shade, before, distance, sweep.ring, mode=mode, full=np.where(weak, 230.0, 255.0), focus=focus
    )
    xyz = sweep.xyz.copy()
    xyz[scattered] *= (places[scattered] / distance[scattered])[:, None].astype(xyz.dtype)
    changed = after != before
    intensity = np.where(changed, (after / scale).astype(sweep.intensity.dtype), sweep.intensity)
    snowed = replace(sweep, xyz=xyz, intensity=intensity, altered=sweep.altered | scattered)
    if not delete:
        return snowed
    threshold = detection_threshold(
        sweep, rng, noise_floor=noise_floor, weakest=weakest, ground=ground, min_ground=min_ground, mode=mode
    )
    return snowed if threshold is None else snowed.select(scattered | (after > threshold))
