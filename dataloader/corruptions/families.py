"""The two published families of corrupted validation sets, subset by subset. They are never mixed: both have a
"SemanticKITTI-C", and it is not the same one.

    yan      Yan et al., "Benchmarking the Robustness of LiDAR Semantic Segmentation Models", IJCV 2024
    robo3d   Kong et al., "Robo3D: Towards Robust and Reliable 3D Perception against Corruptions", ICCV 2023

Where the papers leave something open, it is a field of `YanChoices` or `Robo3DChoices`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from dataloader.corruptions.beams import beam_missing, cross_sensor, reduce_beams, rings_by_elevation
from dataloader.corruptions.echo import incomplete_echo
from dataloader.corruptions.fog import ALPHAS, Mode, Variant, fog
from dataloader.corruptions.noise import (
    VOLUME,
    Box,
    OutlierIntensity,
    crosstalk,
    global_outliers,
    local_distortion,
    motion_blur,
)
from dataloader.corruptions.snow import snow
from dataloader.corruptions.sweep import Sweep
from dataloader.corruptions.wet_ground import wet_ground
from utils.scan.sensor import NUSCENES, SEMANTICKITTI, Sensor

GENERATOR = 1
"""Raised whenever the same options come to mean other bytes."""
CLEAN = "clean_data"
"""The folder of the untouched scans in the layout of Yan et al.; evaluated first."""
NOTE = "corruptions.json"
"""Beside the subsets that tools/make_corruptions.py makes: what they were made of, how, and which are complete."""
SEVERITIES = ("light", "moderate", "heavy")
SENSORS: dict[str, Sensor] = {"SemanticKITTI": SEMANTICKITTI, "nuScenes": NUSCENES}

Function = Callable[..., Sweep]


@dataclass(frozen=True)
class CorruptedSubset:
    """One corruption at one severity.

    Attributes:
        name: its folder: "fog_light" (Yan et al.) or "fog/light" (Robo3D).
        type: the corruption; the metrics of both papers take the mean over the severities of a type first.
        severity: "light", "moderate", "heavy"; "dense", "sparse" for fewer beams (Yan et al.).
        function: sweep, rng, parameters -> sweep.
        parameters: what it is called with.
        drawn: parameter -> values, one of which is drawn for each frame.
        label: raw label id of the points it altered.
        instances: whether the label files keep the instance ids.
        by_elevation: beams are told apart by elevation, not by `Sweep.ring`.
    """

    name: str
    type: str
    severity: str
    function: Function
    parameters: Mapping[str, Any]
    drawn: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    label: int = 0
    instances: bool = True
    by_elevation: bool = False

    def draw(self, rng: np.random.Generator) -> dict[str, float]:
        """Values of the `drawn` parameters for one frame: the first thing to ask of its generator."""
        return {name: float(rng.choice(values)) for name, values in self.drawn.items()}

    def apply(self, sweep: Sweep, rng: np.random.Generator) -> Sweep:
        """The corrupted sweep; draws from `rng` what `draw` does, then the rest."""
        if self.by_elevation:
            ring = rings_by_elevation(sweep.xyz, sweep.sensor.beams, sweep.sensor.top, sweep.sensor.bottom)
            sweep = replace(sweep, ring=ring)
        return self.function(sweep, rng, **self.parameters, **self.draw(rng))


@dataclass(frozen=True)
class YanChoices:
    """What Yan et al. do not say.

    Attributes:
        fog_coefficient: what their beta = 0.005, 0.06, 0.2 is: the attenuation coefficient, or the backscatter
            coefficient.
        fog_beta: backscatter of a fog given by its attenuation: by its optical range, or 9.213e-4 always.
        fog_alpha: attenuation (1/m) of a fog given by its backscatter.
        fog_noise: formula of the spread of the fog's returns.
        snow_velocity: terminal velocity of the flakes (m/s) in light, moderate and heavy snowfall.
        snow_distribution: sizes of the flakes.
        snow_wet_ground: the snow falls on wet ground.
        outlier_volume: box of the outliers: low x, y, z, high x, y, z (m); None: the smallest around each scan.
        outlier_intensity: what outliers report.
        distortion_clip: largest jitter in standard deviations; None: any.
        distortion_intensity: jitter the intensity too.
        beam_offset: the first beam that a sensor with fewer beams keeps.
        half: which points of a beam stay in the sparse subsets.
        altered_label: raw id of altered points: 0, unlabeled, or 1, outlier; both are ignored.
    """

    fog_coefficient: Literal["attenuation", "backscatter"] = "attenuation"
    fog_beta: Literal["mor", "fixed"] = "mor"
    fog_alpha: float = 0.06
    fog_noise: Variant = "v1"
    snow_velocity: tuple[float, float, float] = (2.0, 0.6, 1.6)
    snow_distribution: Literal["gunn", "sekhon"] = "gunn"
    snow_wet_ground: bool = False
    outlier_volume: Box | None = VOLUME
    outlier_intensity: OutlierIntensity = "uniform"
    distortion_clip: float | None = None
    distortion_intensity: bool = False
    beam_offset: int = 0
    half: Literal["stride", "random"] = "stride"
    altered_label: int = 1


@dataclass(frozen=True)
class Robo3DChoices:
    """What the Robo3D paper's public scripts do not say: two severities of nuScenes-C.

    Attributes:
        nuscenes_blur: sigma of motion blur (m); light is published, the rest follows SemanticKITTI.
        nuscenes_crosstalk: share of the points; light is published, the rest grows as on SemanticKITTI.
    """

    nuscenes_blur: tuple[float, float, float] = (0.20, 0.25, 0.30)
    nuscenes_crosstalk: tuple[float, float, float] = (0.03, 0.04, 0.05)


Choices = YanChoices | Robo3DChoices


def yan(mode: Mode = "physical", choices: YanChoices | None = None) -> tuple[CorruptedSubset, ...]:
    """The 16 subsets of SemanticKITTI-C of Yan et al., in the order of its evaluation, after `CLEAN`.

    Args:
        mode: of fog and snow: the papers' equations, or what the published generators compute.
        choices: what the paper does not say.
    """
    c = choices or YanChoices()

    def subset(type_: str, severity: str, function: Function, **parameters: Any) -> CorruptedSubset:
        name = f"{severity}_{type_}" if type_.endswith("beam") else f"{type_}_{severity}"
        flakes = type_ == "snowfall"
        return CorruptedSubset(name, type_, severity, function, parameters, label=c.altered_label, by_elevation=flakes)

    falling = snow_on_wet_ground if c.snow_wet_ground else snow

    fogs = [subset("fog", s, fog, **_yan_fog(beta, mode, c)) for s, beta in _by_severity(0.005, 0.06, 0.2)]
    snows = [
        subset("snowfall", s, falling, rate=rate, velocity=velocity, distribution=c.snow_distribution, mode=mode)
        for (s, rate), velocity in zip(_by_severity(0.5, 1.5, 2.5), c.snow_velocity, strict=True)
    ]
    local = [
        subset("local", s, local_distortion, sigma=sigma, clip=c.distortion_clip,
               jitter_intensity=c.distortion_intensity)
        for s, sigma in _by_severity(0.05, 0.1, 0.2)
    ]  # fmt: skip
    outliers = [
        subset("global", s, global_outliers, fraction=share, volume=c.outlier_volume, intensity=c.outlier_intensity)
        for s, share in _by_severity(0.001, 0.05, 0.5)
    ]
    beams = [
        subset(f"{count}beam", severity, reduce_beams, beams=count, offset=c.beam_offset, thinning=thinning)
        for count in (32, 16)
        for severity, thinning in (("dense", "none"), ("sparse", c.half))
    ]
    return (*fogs, *snows, *local, *outliers, *beams)


def _yan_fog(coefficient: float, mode: Mode, choices: YanChoices) -> dict[str, Any]:
    # FogSim rounds to whole steps of 0..255.
    shared = {"variant": choices.fog_noise, "mode": mode, "rounding": mode == "reference"}
    if choices.fog_coefficient == "attenuation":
        return {"alpha": coefficient, "beta": choices.fog_beta, **shared}
    return {"alpha": choices.fog_alpha, "beta": coefficient, **shared}


def robo3d(dataset: str, mode: Mode = "physical", choices: Robo3DChoices | None = None) -> tuple[CorruptedSubset, ...]:
    """The 24 subsets of SemanticKITTI-C or nuScenes-C of Robo3D, in the order of its tables.

    Args:
        dataset: "SemanticKITTI" or "nuScenes".
        mode: of fog and snow: the papers' equations, or what the published generators compute.
        choices: what its scripts do not say.
    """
    choices = choices or Robo3DChoices()
    kitti = dataset == "SemanticKITTI"
    blur = (0.20, 0.25, 0.30) if kitti else choices.nuscenes_blur
    shares = (0.006, 0.008, 0.01) if kitti else choices.nuscenes_crosstalk
    window = {"first": 4, "last": 58} if kitti else {"first": 2, "last": 28}
    floors = (0.3, 0.3, 0.7) if kitti else (0.2, 0.3, 0.7)
    reference = mode == "reference"
    fog_mode = {"mode": mode, "rounding": reference and not kitti, "cap": not (reference and kitti)}
    # Where the published code looks for the weakest return of the ground, as a fraction of the largest intensity.
    wet = {"weakest": 5.0 if kitti else 0.0} if reference else {}
    table: dict[str, tuple[Function, dict[str, tuple[float, float, float]], dict[str, Any]]] = {
        "fog": (fog, {"beta": (0.008, 0.05, 0.2)}, fog_mode),
        "wet_ground": (wet_ground, {"water_height": (0.2, 1.0, 1.2), "noise_floor": floors}, wet),
        "snow": (snow, {"rate": (0.5, 1.0, 2.5), "velocity": (2.0, 1.6, 1.6)}, {"mode": mode}),
        "motion_blur": (motion_blur, {"sigma": blur}, {}),
        "beam_missing": (beam_missing, {"draws": (16, 32, 48) if kitti else (8, 16, 24)}, window),
        "crosstalk": (crosstalk, {"fraction": shares}, {}),
        "incomplete_echo": (incomplete_echo, {"ratio": (0.75, 0.85, 0.95)}, {}),
        "cross_sensor": (cross_sensor, {"dropped": (16, 32, 48) if kitti else (8, 16, 24)}, {}),
    }
    labels = {"fog": 21, "snow": 22, "crosstalk": 23} if kitti else {"fog": 41, "snow": 42, "crosstalk": 43}
    return tuple(
        CorruptedSubset(
            f"{name}/{severity}", name, severity, function,
            {**{key: values[level] for key, values in graded.items()}, **fixed},
            drawn={"alpha": ALPHAS} if name == "fog" else {},
            label=labels.get(name, 0),
            by_elevation=kitti and name == "snow",
            instances=name in ("beam_missing", "cross_sensor"),
        )
        for name, (function, graded, fixed) in table.items()
        for level, severity in enumerate(SEVERITIES)
    )  # fmt: skip


def snow_on_wet_ground(sweep: Sweep, rng: np.random.Generator, **parameters: Any) -> Sweep:
    """`wet_ground` with its defaults, then `snow` with `parameters`."""
    return snow(wet_ground(sweep, rng), rng, **parameters)


def _by_severity(*values: float) -> list[tuple[str, float]]:
    return list(zip(SEVERITIES, values, strict=True))


FAMILIES: dict[str, dict[str, tuple[CorruptedSubset, ...]]] = {
    "yan": {"SemanticKITTI": yan()},
    "robo3d": {"SemanticKITTI": robo3d("SemanticKITTI"), "nuScenes": robo3d("nuScenes")},
}
"""Family -> data set -> its subsets in order, with the default choices."""


def added_labels(dataset: str) -> dict[int, str]:
    """Raw ids that Robo3D gives to points which are no surface, with the corruption that put them there: 21 "fog"."""
    return {subset.label: subset.type for subset in FAMILIES["robo3d"][dataset] if subset.label}
