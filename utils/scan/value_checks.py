"""Checks of what scans hold in their frame: the height of the ground, intensities, distances, numbers of points."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from utils.scan.alignment import Alignment
from utils.scan.comparison import Finding, Source, median

_HEIGHT = 0.3  # metres beyond the training's spread: kerbs, load and slopes explain about 0.15
_AT_ZERO = 0.05  # metres; a ground so near to 0 is meant to be there
_FLATNESS = 0.5  # a layer with a smaller part of the points than half of what the training had is not the ground
_LEVEL = 2.0  # factor beyond the training's spread: other streets and materials explain 1.3
_REACH = 2.0  # factor
_POINTS = 0.6, 1.7  # factors; damp, open and narrow places explain some of it
_BEAMS = 0.75, 1.4  # factors
_LARGEST_SCALE = 1e12
_UNIT = 1.5  # factor beyond the training's spread, within which a change of the unit explains all
_TOPS = 1 / 255, 1.0, 100.0, 255.0, 65535.0
"""The largest intensity in the units that sensors and files have; the first if it was scaled twice."""


def height(source: Source, alignment: Alignment) -> Finding | None:
    """Looks at the height of the ground."""
    usual, flatness = source.training.usual("ground"), source.training.usual("flatness") or (0.0, 0.0, 0.0)
    scans = source.traits(alignment)
    found = median(scan.ground for scan in scans if scan.flatness > flatness[0] * _FLATNESS)
    if usual is None or found is None or alignment.center == "auto":
        return None
    if usual[0] - _HEIGHT < found < usual[2] + _HEIGHT:
        return None
    given = alignment.sensor_height
    above = -found if given is None else given + source.training.ground - found
    above = 0.0 if abs(above) < _AT_ZERO else round(above, 2)
    text = f"the ground lies at {found:.2f} m, in the training at {source.training.ground:.2f} m"
    return Finding("height", text, replace(alignment, sensor_height=above))


def intensity(source: Source, alignment: Alignment) -> Finding | None:
    """Looks at the scale of the intensities."""
    statistics, usual = source.training.statistics, source.training.usual("level")
    if (
        alignment.intensity_scale == 0
        or usual is None
        or usual[1] <= 0
        or statistics.intensity[0] == statistics.intensity[-1]
    ):
        return None  # the training had none either
    columns = [cloud.intensity for cloud in source.clouds if cloud.intensity is not None]
    if 2 * len(columns) < len(source.clouds):
        return Finding("intensity", "the scans have no intensity, which the network was trained with", alignment)
    level = median(scan.level for scan in source.traits(alignment)) or 0.0
    constant = all(column.min() == column.max() for column in columns)
    if level <= 0 or constant:
        lowest = min(float(column.min()) for column in columns)
        text = "the intensity is the same for all or nearly all points, so it is better left out"
        if lowest < 0 and not constant:
            text = f"the intensity goes down to {lowest:.3g} (decibels?), which no factor puts right: better left out"
        return Finding("intensity", text, replace(alignment, intensity_scale=0.0))
    low, high = usual[0] / _LEVEL, usual[2] * _LEVEL
    if low < level < high:
        return None
    largest = float(np.median([np.percentile(column, 99.9) for column in columns])) * alignment.intensity_scale
    scales = [source.training.sensor.intensity_max / top for top in _TOPS if largest <= top]
    fitting = [scale for scale in scales if usual[0] / _UNIT < level * scale < usual[2] * _UNIT]
    scale = min(fitting, key=lambda scale: abs(np.log(level * scale / usual[1])), default=_rounded(usual[1] / level))
    text = f"the intensity is about {level:.3g}, in the training about {usual[1]:.3g}"
    scale *= alignment.intensity_scale
    possible = 1 / _LARGEST_SCALE < scale < _LARGEST_SCALE  # else the numbers are damaged
    return Finding("intensity", text, replace(alignment, intensity_scale=scale) if possible else alignment)


def _rounded(value: float) -> float:
    """Rounds to two significant digits."""
    return float(f"{value:.2g}")


def reach(source: Source, alignment: Alignment) -> Finding | None:
    """Looks at the distances of the points, where no unit explains them."""
    usual, found = source.training.usual("reach"), median(scan.reach for scan in source.traits(alignment))
    if usual is None or found is None or usual[0] / _REACH < found < usual[2] * _REACH:
        return None
    text = f"half of the points lie within {found:.3g} m, in the training within {usual[1]:.3g} m: expect worse labels"
    return Finding("range", text, alignment)


def density(source: Source, alignment: Alignment) -> Finding | None:
    """Looks at the number of points and of beams of a scan."""
    counts, found = source.training.statistics.points_per_scan, float(np.median(source.counts))
    beams, usual = None, source.training.usual("beams")
    if source.clouds and usual is not None and usual[0] > 0:
        beams = median(scan.beams for scan in source.traits(alignment))
        if beams is not None and not usual[0] * _BEAMS[0] <= beams <= usual[2] * _BEAMS[1]:
            text = f"about {beams:.0f} beams, in the training about {usual[1]:.0f}: expect worse labels"
            return Finding("density", text, alignment)
    if counts[2] * _POINTS[0] <= found <= counts[6] * _POINTS[1]:
        return None
    text = f"{found:,.0f} points in a scan, in the training {counts[4]:,.0f}: expect worse labels"
    return Finding("density", text, alignment)
