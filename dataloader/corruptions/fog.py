"""Fog, from the equations of Hahner et al., "Fog Simulation on Real LiDAR Point Clouds", ICCV 2021.

A pulse sin^2(pi t / 2 tau) meets the surface at R0 (hard target, attenuated by exp(-2 alpha R0)) and, before it, the
fog (soft target). The sensor reports the stronger return.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

import numpy as np

from dataloader.corruptions.sweep import Sweep

SPEED_OF_LIGHT = 299_792_458.0
CROSSOVER = (0.9, 1.0)
"""R1, R2 in metres: up to R1 the transmitter and receiver cones do not overlap, from R2 on they do completely."""
PULSE = 20e-9
"""tau_H in seconds: half-power pulse width of a Velodyne HDL-64."""

ALPHAS = (0.0, 0.005, 0.01, 0.02, 0.03, 0.06)
"""Attenuation coefficients (1/m) that FogSim trains on and Robo3D draws from, one per frame."""
BACKSCATTER = 0.046
"""beta = 0.046 / MOR, with the meteorological optical range MOR = ln(20) / alpha."""
FIXED_BETA = BACKSCATTER * 0.06 / np.log(20.0)
"""9.213e-4, which is beta for alpha = 0.06. FogSim uses it for every alpha if only alpha is given."""

Variant = Literal["v1", "v2", "v3", "v4"]
Mode = Literal["physical", "reference"]


def crossover(ranges: np.ndarray) -> np.ndarray:
    """Computes xi(R) of the paper: the overlap of transmitter and receiver, 0 up to R1 and 1 from R2 on.

    Args:
        ranges: R, metres, any shape.
    """
    near, far = CROSSOVER
    return np.clip((ranges - near) / (far - near), 0.0, 1.0)


@dataclass(frozen=True)
class FogResponse:
    """A frozen table of the strongest return of the fog, for T distances of the surface behind it.

    Attributes:
        ranges: (T,) float64, metres, distance R0 of the surface.
        peaks: (T,) float64, metres, the range R <= R0 of the strongest return of the fog.
        maxima: (T,) float64, s/m^2, the integral I of the paper at that range.
    """

    ranges: np.ndarray
    peaks: np.ndarray
    maxima: np.ndarray


@lru_cache(maxsize=64)
def response_curve(alpha: float) -> tuple[np.ndarray, np.ndarray]:
    """Computes I(R) for R up to 8 m: the fog's return at R if the surface is at R or farther.

    With r = R - ct/2, I is the convolution of the pulse with exp(-2 alpha r) xi(r) / r^2, summed here on a 2 mm grid.
    The surface R0 enters only through U(R0 - r), so it does not matter for R <= R0. Beyond 8 m, I only falls.

    Args:
        alpha: attenuation coefficient, 1/m, 0 or more.

    Returns:
        R, (T,) metres, and I(R), (T,) s/m^2.
    """
    step = 0.002
    ranges = np.arange(4001) * step
    density = crossover(ranges) * np.exp(-2.0 * alpha * ranges) / np.maximum(ranges, step) ** 2
    length = SPEED_OF_LIGHT * PULSE
    lags = np.arange(0.0, length, step)
    pulse = np.sin(np.pi * lags / length) ** 2
    return ranges, np.convolve(density, pulse)[: len(ranges)] * step * 2.0 / SPEED_OF_LIGHT


@lru_cache(maxsize=64)
def fog_response(alpha: float, mode: Mode = "physical") -> FogResponse:
    """Computes the table that `fog` uses: argmax and maximum of I over all ranges up to the surface.

    Args:
        alpha: attenuation coefficient, 1/m.
        mode: "physical" uses the 2 mm grid of `response_curve`, "reference" 2000 ranges from 0 to 200 m.
    """
    ranges, curve = response_curve(alpha)
    if mode == "reference":
        grid = np.linspace(0.0, 200.0, 2000)
        ranges, curve = grid, np.interp(grid, ranges, curve, right=0.0)
    maxima = np.maximum.accumulate(curve)
    best = np.maximum.accumulate(np.where(curve == maxima, np.arange(len(curve)), 0))
    # After the peak the curve falls, so "equal to the maximum so far" holds for rising points and plateaus of 0 only.
    return FogResponse(ranges, ranges[best], maxima)


def look_up(response: FogResponse, surface: np.ndarray, mode: Mode) -> tuple[np.ndarray, np.ndarray]:
    """Looks up R_peak, (N,) metres, and I_max, (N,) s/m^2, for each surface.

    Args:
        response: result of `fog_response` with the same mode.
        surface: (N,) distances of the surfaces, metres.
        mode: "physical" interpolates; "reference" rounds the distance to 0.1 m, limits it to 200 m and takes the entry
            at or below it.
    """
    if mode == "physical":
        peaks = np.interp(surface, response.ranges, response.peaks)
        return np.minimum(peaks, surface), np.interp(surface, response.ranges, response.maxima)
    rounded = np.minimum(np.round(surface, 1), 200.0)
    entries = np.searchsorted(response.ranges, rounded, side="right") - 1
    return response.peaks[entries], response.maxima[entries]


def noisy_ranges(
    peaks: np.ndarray, surface: np.ndarray, noise: float, variant: Variant, mode: Mode, rng: np.random.Generator
) -> np.ndarray:
    """Spreads the returns of the fog along their rays.

    The factors on R_peak, with R0 the distance of the surface and n the noise, are: v1 R0 / U(R0 - n, R0 + n);
    v2 max(1, n/5)^U(-1, 1); v3 max(1, 0.4 n)^U(-0.5, 1); v4 (R_peak + n Beta(2, 20)) / R_peak.

    Args:
        peaks: (M,) R_peak, metres, above 0.
        surface: (M,) R0, metres.
        noise: n, metres; 0 leaves R_peak unchanged.
        variant: the formula, v1 to v4.
        mode: "physical" keeps every return between the sensor and the surface: v1 draws from
            U(max(R0 - n, R_peak), R0 + n), and the result is limited to R1 .. R0. "reference" does neither: v1 may give
            negative ranges for R0 below 10 m, and very large ones just above.
        rng: source of one draw per return.

    Returns:
        (M,) ranges, metres.

    Raises:
        ValueError: an unknown variant.
    """
    count = len(peaks)
    if variant == "v1":
        nearest = surface - noise if mode == "reference" else np.maximum(surface - noise, peaks)
        drawn = rng.uniform(nearest, surface + noise, count)
        ranges = peaks * surface / np.where(drawn == 0.0, 1.0, drawn)
    elif variant == "v2":
        ranges = peaks * max(1.0, noise / 5.0) ** rng.uniform(-1.0, 1.0, count)
    elif variant == "v3":
        ranges = peaks * max(1.0, 0.4 * noise) ** rng.uniform(-0.5, 1.0, count)
    elif variant == "v4":
        ranges = peaks + noise * rng.beta(2.0, 20.0, count)
    else:
        raise ValueError(f"fog noise variant {variant!r}: one of v1, v2, v3, v4 is needed")
    return ranges if mode == "reference" else np.clip(ranges, np.minimum(CROSSOVER[0], surface), surface)


def backscatter(beta: float | Literal["mor", "fixed"], alpha: float) -> float:
    """Returns the backscatter coefficient in 1/(m sr): a number as it is, "mor" 0.046 / MOR(alpha), "fixed" 9.213e-4.

    Raises:
        ValueError: another word.
    """
    if beta == "mor":
        return BACKSCATTER * alpha / float(np.log(20.0))
    if beta == "fixed":
        return float(FIXED_BETA)
    if isinstance(beta, str):
        raise ValueError(f'fog beta {beta!r}: a number, "mor" or "fixed" is needed')
    return float(beta)


def fog(
    sweep: Sweep,
    rng: np.random.Generator,
    *,
    alpha: float | None = None,
    beta: float | Literal["mor", "fixed"] = "mor",
    gamma: float = 1e-6,
    noise: float = 10.0,
    variant: Variant = "v1",
    mode: Mode = "physical",
    rounding: bool = False,
    cap: bool = True,
) -> Sweep:
    """Adds homogeneous fog: surfaces fade, and far or dark ones are replaced by a return of the fog near the sensor.

    A point of intensity i at R0 keeps its place with intensity i exp(-2 alpha R0), unless i R0^2 (beta / beta_0) I_max,
    with beta_0 = gamma / pi, is larger. Then it moves along its ray to R_peak, spread by noise, takes that intensity
    and counts as altered. No point is removed or changes its row. Without rounding the intensity cancels: all points
    farther than one threshold range become fog, except points of intensity 0, which never do.

    Args:
        sweep: N points, 0 allowed, with intensities on the sensor's scale.
        rng: source of alpha, if it is None, and then of the noise.
        alpha: attenuation coefficient, 1/m, 0 or more; None draws one of `ALPHAS` (Robo3D, once per frame).
        beta: backscatter coefficient, 1/(m sr), or the rule that gives it: "mor" 0.046 / MOR, "fixed" 9.213e-4.
        gamma: reflectivity of surfaces, above 0.
        noise: spread of the fog's returns, metres, see `noisy_ranges`.
        variant: formula of the spread; Robo3D uses v1.
        mode: "physical", or "reference" to follow the published generators in their tables and unlimited noise.
        rounding: whether the attenuated intensity is rounded to whole steps of 0..255 before the comparison, as by
            FogSim, and by Robo3D on nuScenes. A point that fades to 0 then becomes fog even in the thinnest fog.
        cap: whether the fog's intensity is limited to the sensor's largest, as by FogSim, but not by Robo3D on
            SemanticKITTI.

    Returns:
        The same rows in the same order; labels are unchanged, also those of altered points.

    Raises:
        ValueError: a negative alpha or an unknown option.
    """
    if alpha is None:
        alpha = float(rng.choice(ALPHAS))
    if alpha < 0.0:
        raise ValueError(f"fog alpha {alpha}: 0 or more is needed")
    if mode not in ("physical", "reference"):
        raise ValueError(f'fog mode {mode!r}: "physical" or "reference" is needed')
    surface = sweep.ranges()
    peaks, maxima = look_up(fog_response(alpha, mode), surface, mode)
    scale = 255.0 / sweep.sensor.intensity_max
    clear = sweep.intensity.astype(np.float64) * scale
    hard = clear * np.exp(-2.0 * alpha * surface)
    if rounding:
        hard = np.round(hard)
    soft = clear * surface**2 * (backscatter(beta, alpha) * np.pi / gamma) * maxima

    foggy = (soft > hard) & (surface > 0.0)  # a point at the sensor has no ray to move along
    intensity = np.where(foggy, np.minimum(soft, 255.0) if cap else soft, hard) / scale
    reported = noisy_ranges(peaks[foggy], surface[foggy], noise, variant, mode, rng)
    xyz = sweep.xyz.copy()
    xyz[foggy] *= (reported / surface[foggy])[:, None].astype(xyz.dtype)
    return replace(sweep, xyz=xyz, intensity=intensity.astype(sweep.intensity.dtype), altered=sweep.altered | foggy)
