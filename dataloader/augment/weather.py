"""Augmentation by corruptions: some training scans get a random corruption at a random severity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from dataloader.corruptions.beams import reduce_beams, rings_by_elevation, rings_of
from dataloader.corruptions.families import CORRUPTED_SETS, CorruptedSubset, yan
from dataloader.corruptions.sweep import Sweep
from utils.corruptions import DRAWN
from utils.scan.records import Scan
from utils.scan.sensor import Sensor

_YAN = yan()
"""The corruptions of Yan et al. suit scans of any data set; those of Robo3D have parameters for each data set."""


@dataclass(frozen=True)
class CorruptionOptions:
    """A frozen record of how training scans are corrupted.

    Attributes:
        chance: probability that a scan is corrupted, 0..1.
        names: the corruptions to choose from, keys of `severities_of`.
        sensor: the LiDAR that took the scans.
    """

    chance: float
    names: tuple[str, ...]
    sensor: Sensor


def severities_of(sensor: Sensor) -> dict[str, tuple[CorruptedSubset, ...]]:
    """Returns the corruptions by name, each at all its severities.

    These are Robo3D's corruptions, and those of Yan et al. that Robo3D does not have. Severities that do not change the
    sensor's scans, such as 32 of 32 beams, are left out.
    """
    subsets = {"yan": _YAN, "robo3d": CORRUPTED_SETS["robo3d"].get(sensor.name, ())}
    found = {}
    for name, (family, corruptions) in DRAWN.items():
        wanted = (subset for subset in subsets[family] if subset.type in corruptions)
        found[name] = tuple(subset for subset in wanted if not _changes_nothing(subset, sensor))
    return {name: severities for name, severities in found.items() if severities}


def _changes_nothing(subset: CorruptedSubset, sensor: Sensor) -> bool:
    how = subset.parameters
    return subset.function is reduce_beams and how["thinning"] == "none" and how["beams"] >= sensor.beams


def draw_corruption(names: Sequence[str], rng: np.random.Generator, sensor: Sensor) -> CorruptedSubset:
    """Draws one of the corruptions `names` (keys of `severities_of`) at one of its severities, each with equal chance.

    Raises:
        ValueError: a name is not known.
    """
    severities = severities_of(sensor)
    name = names[int(rng.integers(len(names)))]
    if name not in severities:
        raise ValueError(f"{name} is no corruption; these are: {', '.join(severities)}")
    return severities[name][int(rng.integers(len(severities[name])))]


def apply_corruption(drawn: CorruptedSubset, scan: Scan, rng: np.random.Generator, sensor: Sensor) -> Scan:
    """Applies a corruption at its severity.

    Args:
        drawn: by `draw_corruption`.
        scan: a whole sweep as in its file, before any crop: the beam of a point is found from the order of the points
            (if the sensor is `ordered`) or from the elevation.
        rng: source of all draws.
        sensor: the LiDAR that took the scan.

    Returns:
        The corrupted scan with the image of `scan`; it may have no points. Labels, instances, index and pixels stay
        with their points. Altered points have label 0, no instance and no pixel; added points also have index -1.
        Points with a coordinate that is not finite are left out.
    """
    finite = np.all(np.isfinite(scan.xyz), axis=1)
    return _scan_of(drawn.apply(_sweep_of(scan, sensor).select(finite), rng), scan)


def _sweep_of(scan: Scan, sensor: Sensor) -> Sweep:
    """Builds the sweep of a scan; its `rows` are the row numbers in the scan."""
    if sensor.ordered:
        ring = rings_of(scan.xyz, sensor)
    else:
        ring = rings_by_elevation(scan.xyz, sensor.beams, sensor.top, sensor.bottom)
    return Sweep(
        xyz=scan.xyz,
        intensity=scan.intensity,
        labels=scan.labels,
        ring=ring,
        rows=np.arange(len(scan), dtype=np.int64),
        altered=np.zeros(len(scan), dtype=bool),
        sensor=sensor,
    )


def _scan_of(sweep: Sweep, scan: Scan) -> Scan:
    """Builds the scan of a corrupted sweep of `scan`."""
    # Added points have row -1: here they get the columns of the last point, which are overwritten below.
    found = replace(scan.select(sweep.rows), xyz=sweep.xyz, intensity=sweep.intensity)
    pixels = found.pixels.copy()
    pixels[sweep.altered] = np.nan
    return replace(
        found,
        labels=np.where(sweep.altered, 0, found.labels).astype(scan.labels.dtype),
        instances=np.where(sweep.altered, 0, found.instances).astype(scan.instances.dtype),
        index=np.where(sweep.rows < 0, -1, found.index),
        pixels=pixels,
    )
