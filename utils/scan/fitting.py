"""The comparison of scans with those that a network was trained on, and what puts right what does not fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from utils.scan import frame_checks, value_checks
from utils.scan.alignment import Alignment
from utils.scan.comparison import Check, Finding, Source, Training
from utils.scan.point_cloud import PointCloud
from utils.scan.sensor import Sensor
from utils.scan.statistics import Statistics

Fit = Literal["warn", "auto", "off"]
"""What is done about scans that do not fit the training: a warning, all that puts them right, or nothing."""

MOST_CLOUDS = 8
"""So many clouds, evenly spread over all, are looked at."""

# Each is right only after those before it: a height needs metres, and the street ahead a sensor that was found.
_CHECKS: tuple[Check, ...] = (
    frame_checks.unit,
    frame_checks.up,
    frame_checks.origin,
    frame_checks.forward,
    value_checks.height,
    value_checks.intensity,
    value_checks.reach,
)
_REMEDIES = {
    "unit": lambda found: Alignment(length_scale=found.length_scale),
    "axes": lambda found: Alignment(axes=found.axes),
    "origin": lambda found: Alignment(center=found.center),
    "height": lambda found: Alignment(sensor_height=found.sensor_height),
    "intensity": lambda found: Alignment(intensity_scale=found.intensity_scale),
}


@dataclass(frozen=True)
class Misfit:
    """A frozen record of one way in which scans do not fit a network.

    Attributes:
        kind: "intensity", "height", "axes", "origin", "unit", "range" or "density".
        text: what was found and what the training had, in numbers, as half a line.
        remedy: the flags of predict.py that put it right; "" if none does.
    """

    kind: str
    text: str
    remedy: str


def diagnose(
    clouds: Sequence[PointCloud], sensor: Sensor, statistics: Statistics, given: Alignment
) -> tuple[tuple[Misfit, ...], Alignment]:
    """Compares some scans of one source with the training data.

    Each thing is judged after what comes before it has been put right: unit, axes, origin, height, intensity, range and
    density. Scans of fewer than 500 points say nothing but their density.

    Args:
        clouds: scans of one sensor, in its frame, as in their files; of many, 8 are looked at.
        sensor, statistics: of the training.
        given: what is done to the scans already, as the user has asked for it.

    Returns:
        What does not fit after `given`, and `given` with all remedies, which makes the scans fit as far as they can.
    """
    if not clouds:
        return (), given
    chosen = [clouds[number] for number in range(0, len(clouds), -(-len(clouds) // MOST_CLOUDS))]
    source = Source.of(chosen, Training(sensor, statistics))
    alignment, findings = given, []
    with np.errstate(over="ignore", invalid="ignore"):  # the numbers of a damaged file or checkpoint
        for check in (*(_CHECKS if source.clouds else ()), value_checks.density):
            if (finding := check(source, alignment)) is not None:
                remedied = finding.alignment != alignment
                alignment = finding.alignment
                findings.append((finding, remedied))
    return _misfits(findings, alignment), alignment


def _misfits(findings: Sequence[tuple[Finding, bool]], alignment: Alignment) -> tuple[Misfit, ...]:
    """Makes one misfit of all findings of a kind, with the flags that all of them ask for together."""
    kinds = dict.fromkeys(finding.kind for finding, _ in findings)
    found = []
    for kind in sorted(kinds, key=("unit", "axes", "origin", "height", "intensity", "range", "density").index):
        texts = [finding.text for finding, _ in findings if finding.kind == kind]
        remedied = any(remedied for finding, remedied in findings if finding.kind == kind)
        remedy = _REMEDIES[kind](alignment).flags() if remedied else ""
        found.append(Misfit(kind, "; ".join(texts), remedy))
    return tuple(found)
