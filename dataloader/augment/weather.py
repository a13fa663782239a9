"""Corruptions as augmentation: some training scans get a random one, at a random severity."""

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
"""What Yan et al. do to SemanticKITTI can be done to any scan; Robo3D has numbers of its own for each data set."""


@dataclass(frozen=True)
class CorruptionOptions:
    """Which training scans are corrupted, and how.

    Attributes:
        chance: of a scan to be corrupted, 0 .. 1.
        names: the corruptions to choose from, keys of `severities_of`.
        sensor: the LiDAR.
    """

    chance: float
    names: tuple[str, ...]
    sensor: Sensor


def severities_of(sensor: Sensor) -> dict[str, tuple[CorruptedSubset, ...]]:
    """Every corruption by its name, at all severities: Robo3D's, and of Yan et al. what Robo3D has not.

    Severities that leave every scan of the sensor as it is, such as 32 beams of 32, are left out.
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


def corrupt_scan(scan: Scan, names: Sequence[str], rng: np.random.Generator, sensor: Sensor) -> Scan:
    """One of `names` at one of its severities, each with equal chance.

    Args:
        scan: a whole sweep as its file has it, before any crop: beams are told by the order of the points
            or by elevation, as the sensor says.
        names: corruptions, keys of `severities_of`; at least one.
        rng: source of all draws.
        sensor: the LiDAR.

    Returns:
        The corrupted scan with the image of `scan`, maybe without points. Labels, instances, index and pixels go with
        their points. Altered points have label 0, no instance and no pixel; those that were added have index -1.
        Points with a coordinate that is not finite are left out.

    Raises:
        ValueError: a name is not known.
    """
    severities = severities_of(sensor)
    name = names[int(rng.integers(len(names)))]
    if name not in severities:
        raise ValueError(f"{name} is no corruption; there are {', '.join(severities)}")
    subset = severities[name][int(rng.integers(len(severities[name])))]
    finite = np.all(np.isfinite(scan.xyz), axis=1)
    return _scan_of(subset.apply(_sweep_of(scan, sensor).select(finite), rng), scan)


def _sweep_of(scan: Scan, sensor: Sensor) -> Sweep:
    """The sweep of a scan; its rows are those of the scan."""
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
    """The scan of a corrupted sweep of `scan`."""
    # Added points have row -1: they take the last point's columns here, and lose them below.
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
