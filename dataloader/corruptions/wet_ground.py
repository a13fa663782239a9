"""Wet ground (Hahner et al., "LiDAR Snowfall Simulation", CVPR 2022): a film of water mirrors beams away.

The ground is a diffuse reflector under a film of water. By Fresnel's equations part of the light never enters the
film, and part of what the ground returns never leaves it.
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
    """Power reflected and transmitted at a flat boundary, per polarisation. R + T = 1.

    Args:
        n1: refractive index on the side of the light.
        n2: on the other side.
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
    """Share of the light that comes back out of the film, the better polarisation: T_aw rho T_wa / (1 - rho R_wa).

    The denominator sums the light thrown back and forth between ground and surface. Absorption is neglected.

    Args:
        incidence: (G,) radians, in air.
        reflectivity: (G,) rho of the ground, 0..1.
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
    """Wet ground: ground points fade, and those below the noise are lost.

    With In = i / cos(theta), rho = In / I_0(d) and the wetness f = water_height / pavement_depth held in 0..1, the
    point returns I_0(d) cos(theta) ((1 - f) rho + f t / theta), not above i, where t is `film_transmission` of rho held
    in 0.05..1. It is deleted unless that is above n(d) cos(theta).

    Args:
        sweep: intensities on the sensor's scale (worked on as a fraction of its largest); N = 0 is allowed.
        rng: draws the plane with ground "plane"; "labels" is deterministic.
        water_height: of the film, mm. Robo3D: 0.2, 1.0, 1.2.
        noise_floor: of the threshold n(d), as a fraction of the ground's weakest return. Robo3D: 0.3, 0.3, 0.7 (on
            nuScenes 0.2, 0.3, 0.7).
        pavement_depth: mm of water at which the ground counts as flooded.
        weakest: where the weakest return is looked for, see `ground.fit_return`: Robo3D 5.0 on SemanticKITTI, 0.0 on
            nuScenes.
        ground: "labels" (Robo3D) or "plane", see `ground.find_ground`.
        min_ground: with fewer ground points the sweep stays as it is.

    Returns:
        The points that are left, in their order (Robo3D writes the ground last); labels and `altered` unchanged.
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
    # The division by the angle, in radians, is the model's; straight below, the cap at the dry intensity takes over.
    returned = (1.0 - wetness) * reflectivity + wetness * film / np.maximum(theta, 1e-6)
    dry = found.normalised * found.cosine
    wet = np.clip(power * found.cosine * returned, 0.0, dry)

    lost = wet <= fits.noise(found.distance, noise_floor) * found.cosine
    intensity = sweep.intensity.copy()
    intensity[found.rows] = np.minimum(wet * sweep.sensor.intensity_max, intensity[found.rows])
    keep = np.ones(len(sweep), bool)
    keep[found.rows[lost]] = False
    return replace(sweep, intensity=intensity).select(keep)
