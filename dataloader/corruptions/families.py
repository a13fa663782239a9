"""The two published families of corrupted validation sets, subset by subset.

    yan      Yan et al., "Benchmarking the Robustness of LiDAR Semantic Segmentation Models", IJCV 2024
    robo3d   Kong et al., "Robo3D: Towards Robust and Reliable 3D Perception against Corruptions", ICCV 2023

The families are never mixed: both have a data set called "SemanticKITTI-C", and the two differ. What the papers leave
open is a field of `YanChoices` or `Robo3DChoices`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
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
from utils.corruptions import CLEAN, SUBSETS, Subset
from utils.scan.sensor import SEMANTICKITTI

GENERATOR = 1
"""Version of the generator; it is raised whenever the same options give other bytes."""
NOTE = "corruptions.json"
"""Name of the file beside the subsets that tools/make_corruptions.py makes: their source, options and completeness."""

Function = Callable[..., Sweep]


@dataclass(frozen=True)
class CorruptedSubset:
    """A frozen record of one corruption at one severity.

    Attributes:
        name, type, severity: the name, corruption and severity of `utils.corruptions.Subset`.
        function: (sweep, rng, parameters) -> corrupted sweep.
        parameters: arguments of the function.
        drawn: parameter -> values, one of which is drawn for each frame.
        label: raw label id of the points that the corruption alters.
        instances: whether the label files keep the instance ids.
        by_elevation: whether the beam of a point is found from its elevation instead of `Sweep.ring`.
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
        """Draws the values of the `drawn` parameters for one frame, before anything else is drawn for it."""
        return {name: float(rng.choice(values)) for name, values in self.drawn.items()}

    def apply(self, sweep: Sweep, rng: np.random.Generator) -> Sweep:
        """Returns the corrupted sweep; it first draws from `rng` what `draw` does."""
        if self.by_elevation:
            ring = rings_by_elevation(sweep.xyz, sweep.sensor.beams, sweep.sensor.top, sweep.sensor.bottom)
            sweep = replace(sweep, ring=ring)
        return self.function(sweep, rng, **self.parameters, **self.draw(rng))


@dataclass(frozen=True)
class YanChoices:
    """A frozen record of choices that the paper of Yan et al. leaves open.

    Attributes:
        fog_coefficient: whether the paper's beta = 0.005, 0.06, 0.2 is the attenuation or the backscatter coefficient.
        fog_beta: backscatter coefficient of a fog that is given by its attenuation: from the meteorological optical
            range ("mor"), or always 9.213e-4 ("fixed").
        fog_alpha: attenuation coefficient (1/m) of a fog that is given by its backscatter.
        fog_noise: formula of the spread of the fog's returns.
        snow_velocity: terminal velocity of the flakes (m/s) in light, moderate and heavy snowfall.
        snow_distribution: distribution of the sizes of the flakes.
        snow_wet_ground: whether the snow falls on wet ground.
        outlier_volume: box of the outliers: low x, y, z, high x, y, z (m); None for the smallest box around each scan.
        outlier_intensity: intensity of the outliers.
        distortion_clip: largest jitter in standard deviations; None for no limit.
        distortion_intensity: whether the intensity is jittered too.
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
    """A frozen record of values that Robo3D's public scripts leave open: two severities of nuScenes-C.

    Attributes:
        nuscenes_blur: sigma of motion blur (m); light is published, the others are those of SemanticKITTI.
        nuscenes_crosstalk: share of the points; light is published, the others grow as on SemanticKITTI.
    """

    nuscenes_blur: tuple[float, float, float] = (0.20, 0.25, 0.30)
    nuscenes_crosstalk: tuple[float, float, float] = (0.03, 0.04, 0.05)


Choices = YanChoices | Robo3DChoices


def yan(mode: Mode = "physical", choices: YanChoices | None = None) -> tuple[CorruptedSubset, ...]:
    """Makes the 16 subsets of SemanticKITTI-C of Yan et al., in the order of its evaluation.

    Args:
        mode: how fog and snow are computed: by the equations of the papers ("physical"), or as the published generators
            compute them ("reference").
        choices: what the paper leaves open; None for the defaults.
    """
    c = choices or YanChoices()
    jitter = {"clip": c.distortion_clip, "jitter_intensity": c.distortion_intensity}
    outliers = {"volume": c.outlier_volume, "intensity": c.outlier_intensity}
    flakes = {"distribution": c.snow_distribution, "mode": mode}
    snowfall = [
        {"rate": rate, "velocity": velocity, **flakes}
        for rate, velocity in zip((0.5, 1.5, 2.5), c.snow_velocity, strict=True)
    ]
    thinned = ("none", c.half)
    table: dict[str, tuple[Function, list[dict[str, Any]]]] = {
        "fog": (fog, [_yan_fog(beta, mode, c) for beta in (0.005, 0.06, 0.2)]),
        "snowfall": (snow_on_wet_ground if c.snow_wet_ground else snow, snowfall),
        "local": (local_distortion, [{"sigma": sigma, **jitter} for sigma in (0.05, 0.1, 0.2)]),
        "global": (global_outliers, [{"fraction": share, **outliers} for share in (0.001, 0.05, 0.5)]),
        "32beam": (reduce_beams, [{"beams": 32, "offset": c.beam_offset, "thinning": how} for how in thinned]),
        "16beam": (reduce_beams, [{"beams": 16, "offset": c.beam_offset, "thinning": how} for how in thinned]),
    }
    return tuple(
        CorruptedSubset(
            subset.name, subset.corruption, subset.severity, table[subset.corruption][0], parameters,
            label=c.altered_label, by_elevation=subset.corruption == "snowfall",
        )
        for subset, parameters in _with_parameters("yan", {name: graded for name, (_, graded) in table.items()})
    )  # fmt: skip


def _yan_fog(coefficient: float, mode: Mode, choices: YanChoices) -> dict[str, Any]:
    # FogSim rounds to whole steps of 0..255.
    shared = {"variant": choices.fog_noise, "mode": mode, "rounding": mode == "reference"}
    if choices.fog_coefficient == "attenuation":
        return {"alpha": coefficient, "beta": choices.fog_beta, **shared}
    return {"alpha": choices.fog_alpha, "beta": coefficient, **shared}


@dataclass(frozen=True)
class _Robo3DSet:
    """The parameters of Robo3D that depend on the data set; three numbers are for light, moderate, heavy.

    Attributes:
        blur: sigma of motion blur, metres.
        crosstalk: share of the points that crosstalk disturbs.
        noise_floor: parameter of `wet_ground`.
        dropped: number of beams that are missing, or that another sensor does not have.
        window: `first` and `last` of `beam_missing`.
        labels: corruption -> raw label id of the points that it alters.
        fog: further parameters of fog in the mode "reference".
        weakest: parameter of `wet_ground` in the mode "reference".
        snow_by_elevation: whether snow finds the beam of a point from its elevation.
    """

    blur: tuple[float, float, float]
    crosstalk: tuple[float, float, float]
    noise_floor: tuple[float, float, float]
    dropped: tuple[int, int, int]
    window: Mapping[str, int]
    labels: Mapping[str, int]
    fog: Mapping[str, bool]
    weakest: float
    snow_by_elevation: bool


def _robo3d_sets(choices: Robo3DChoices) -> dict[str, _Robo3DSet]:
    """Returns the parameters of each data set that Robo3D corrupts, by its name."""
    return {
        "SemanticKITTI": _Robo3DSet(
            (0.20, 0.25, 0.30), (0.006, 0.008, 0.01), (0.3, 0.3, 0.7), (16, 32, 48), {"first": 4, "last": 58},
            {"fog": 21, "snow": 22, "crosstalk": 23}, {"rounding": False, "cap": False}, 5.0, True,
        ),
        "nuScenes": _Robo3DSet(
            choices.nuscenes_blur, choices.nuscenes_crosstalk, (0.2, 0.3, 0.7), (8, 16, 24), {"first": 2, "last": 28},
            {"fog": 41, "snow": 42, "crosstalk": 43}, {"rounding": True, "cap": True}, 0.0, False,
        ),
    }  # fmt: skip


def robo3d(dataset: str, mode: Mode = "physical", choices: Robo3DChoices | None = None) -> tuple[CorruptedSubset, ...]:
    """Makes the 24 subsets of SemanticKITTI-C or nuScenes-C of Robo3D, in the order of its tables.

    Args:
        dataset: a key of `CORRUPTED_SETS["robo3d"]`: "SemanticKITTI" or "nuScenes".
        mode: how fog and snow are computed: by the equations of the papers ("physical"), or as the published generators
            compute them ("reference").
        choices: what the scripts leave open; None for the defaults.
    """
    own = _robo3d_sets(choices or Robo3DChoices())[dataset]
    reference = mode == "reference"
    fog_mode = {"mode": mode, **(own.fog if reference else {"rounding": False, "cap": True})}
    wet = {"weakest": own.weakest} if reference else {}
    table: dict[str, tuple[Function, dict[str, tuple[float, float, float]], dict[str, Any]]] = {
        "fog": (fog, {"beta": (0.008, 0.05, 0.2)}, fog_mode),
        "wet_ground": (wet_ground, {"water_height": (0.2, 1.0, 1.2), "noise_floor": own.noise_floor}, wet),
        "snow": (snow, {"rate": (0.5, 1.0, 2.5), "velocity": (2.0, 1.6, 1.6)}, {"mode": mode}),
        "motion_blur": (motion_blur, {"sigma": own.blur}, {}),
        "beam_missing": (beam_missing, {"draws": own.dropped}, dict(own.window)),
        "crosstalk": (crosstalk, {"fraction": own.crosstalk}, {}),
        "incomplete_echo": (incomplete_echo, {"ratio": (0.75, 0.85, 0.95)}, {}),
        "cross_sensor": (cross_sensor, {"dropped": own.dropped}, {}),
    }
    by_severity = {
        name: [{**{key: values[level] for key, values in graded.items()}, **fixed} for level in range(3)]
        for name, (_, graded, fixed) in table.items()
    }
    return tuple(
        CorruptedSubset(
            subset.name, subset.corruption, subset.severity, table[subset.corruption][0], parameters,
            drawn={"alpha": ALPHAS} if subset.corruption == "fog" else {},
            label=own.labels.get(subset.corruption, 0),
            by_elevation=own.snow_by_elevation and subset.corruption == "snow",
            instances=subset.corruption in ("beam_missing", "cross_sensor"),
        )
        for subset, parameters in _with_parameters("robo3d", by_severity)
    )  # fmt: skip


def _with_parameters(
    family: str, by_severity: Mapping[str, list[dict[str, Any]]]
) -> Iterator[tuple[Subset, dict[str, Any]]]:
    """Pairs each subset of a family, except the clean scans, with its parameters.

    Args:
        family: "yan" or "robo3d".
        by_severity: corruption -> the parameters of each of its severities.
    """
    rest = {corruption: iter(parameters) for corruption, parameters in by_severity.items()}
    return ((subset, next(rest[subset.corruption])) for subset in SUBSETS[family] if subset.corruption != CLEAN)


def snow_on_wet_ground(sweep: Sweep, rng: np.random.Generator, **parameters: Any) -> Sweep:
    """Applies `wet_ground` with its defaults, then `snow` with `parameters`."""
    return snow(wet_ground(sweep, rng), rng, **parameters)


CORRUPTED_SETS: dict[str, dict[str, tuple[CorruptedSubset, ...]]] = {
    "yan": {SEMANTICKITTI.name: yan()},
    "robo3d": {dataset: robo3d(dataset) for dataset in _robo3d_sets(Robo3DChoices())},
}
"""Family -> data set -> its subsets in order, with the default choices."""


def added_labels(dataset: str) -> dict[int, str]:
    """Returns the raw ids that Robo3D gives to altered points -> the corruption that alters them.

    On SemanticKITTI 21 is "fog". A data set that Robo3D does not corrupt has none.
    """
    return {subset.label: subset.type for subset in CORRUPTED_SETS["robo3d"].get(dataset, ()) if subset.label}
