"""Wet ground: a film of water reflects beams away (Hahner et al., "LiDAR Snowfall Simulation", CVPR 2022).

The ground is a diffuse reflector under a film of water. By Fresnel's equations a part of the light does not enter the
film, and a part of the light that the ground returns does not leave it.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from dataloader.corruptions.ground import GroundRule, find_ground, fit_return
from dataloader.corruptions.sweep import Sweep

AIR, WATER = 1.0003, 1.33
"""Refractive indices."""


def fresnel(
    n1: float, n2: float, incidence: np.ndarray
) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Computes the shares of power that a flat boundary reflects (R) and transmits (T), per polarisation; R + T = 1.

    Args:
        n1: refractive index on the side of the incoming light.
        n2: refractive index on the other side.
        incidence: radians from the normal, any shape, below total reflection.

    Returns:
        ((R_s, T_s), (R_p, T_p)).
    """
    cos1 = np.cos(incidence)
    cos2 = np.sqrt(np.maximum(1.0 - (np.sin(incidence) * n1 / n2) ** 2, 0.0))
    r_s = (n1 * cos1 - n2 * cos2) / (n1 * cos1 + n2 * cos2)
    t_s = 2.0 * n1 * cos1 / (n1 * cos1 + n2 * cos2)
    r_p = (n2 * cos1 - n1 * cos2) / (n2 * cos1 + n1 * cos2)
    t_p = 2.0 * n1 * cos1 / (n2 * cos1 + n1 * cos2)
    power = n2 * cos2 / np.maximum(n1 * cos1, 1e-12)
    return (r_s**2, t_s**2 * power), (r_p**2, t_p**2 * power)


def film_transmission(incidence: np.ndarray, reflectivity: np.ndarray) -> np.ndarray:
    """Computes the share of the light that leaves the film again: T_aw rho T_wa / (1 - rho R_wa).

    The larger value of the two polarisations is taken. The denominator sums the light that is reflected between ground
    and surface several times. Absorption is neglected.

    Args:
        incidence: (G,) angle of incidence in air, radians.
        reflectivity: (G,) rho of the ground, 0..1.

    Returns:
        (G,) share, 0..1.
    """
    inside = np.arcsin(np.sin(incidence) * AIR / WATER)
    into, out = fresnel(AIR, WATER, incidence), fresnel(WATER, AIR, inside)
    s, p = (
        t_in * reflectivity * t_out / (1.0 - reflectivity * r_out)
        for (_, t_in), (r_out, t_out) in zip(into, out, strict=True)
    )
    return np.maximum(s, p)


def wet_ground(
    sweep: Sweep,
    rng: np.random.Generator,
    *,
    water_height: float = 1.0,
    noise_floor: float = 0.7,
    pavement_depth: float = 1.2,
    weakest: float = 5.0 / 255.0,
    ground: GroundRule = "labels",
    min_ground: int = 1000,
) -> Sweep:
    """Makes the ground wet: ground points lose intensity, and those below the noise are deleted.

    With In = i / cos(theta), rho = In / I_0(d) and the wetness f = water_height / pavement_depth limited to 0..1, a
    point returns I_0(d) cos(theta) ((1 - f) rho + f t / theta), at most i, where t is `film_transmission` with rho
    limited to 0.05..1. It is deleted unless this is above n(d) cos(theta).

    Args:
        sweep: N points, 0 allowed, with intensities on the sensor's scale.
        rng: source of the plane with ground "plane"; "labels" draws nothing.
        water_height: height of the film, mm. Robo3D: 0.2, 1.0, 1.2.
        noise_floor: threshold n(d) as a fraction of the ground's weakest return. Robo3D: 0.3, 0.3, 0.7 (on nuScenes
            0.2, 0.3, 0.7).
        pavement_depth: height of water at which the ground counts as flooded, mm.
        weakest: lower bound of the weakest return, see `ground.fit_return`. Robo3D: 5.0 on SemanticKITTI, 0.0 on
            nuScenes.
        ground: "labels" (Robo3D) or "plane", see `ground.find_ground`.
        min_ground: with fewer ground points the sweep is returned unchanged.

    Returns:
        The remaining points in their order (Robo3D writes the ground last); labels and `altered` are unchanged.

    Raises:
        ValueError: an unknown `ground`.
    """
    found = find_ground(sweep, rng, ground)
    if len(found.rows) < max(min_ground, 2):
        return sweep
    fits = fit_return(found, weakest)
    power = fits.output_power(found.distance)
    reflectivity = found.normalised / power
    theta = np.arccos(found.cosine)
    film = film_transmission(theta, np.clip(reflectivity, 0.05, 1.0))
    wetness = min(max(water_height / pavement_depth, 0.0), 1.0)
    # The division by the angle, in radians, is part of the model; straight below the sensor the limit of the dry
    # intensity applies.
    returned = (1.0 - wetness) * reflectivity + wetness * film / np.maximum(theta, 1e-6)
    dry = found.normalised * found.cosine
    wet = np.clip(power * found.cosine * returned, 0.0, dry)

    lost = wet <= fits.noise(found.distance, noise_floor) * found.cosine
    intensity = sweep.intensity.copy()
    intensity[found.rows] = np.minimum(wet * sweep.sensor.intensity_max, intensity[found.rows])
    keep = np.ones(len(sweep), bool)
    keep[found.rows[lost]] = False
    return replace(sweep, intensity=intensity).select(keep)
