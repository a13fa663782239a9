"""The colourings of the points of a scan, and the classes that are switched off."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from utils.pictures.raster import paint
from utils.viewer.palette import DARK, Ground, age_colors, class_colors, origin_colors, ramp_colors, verdict_colors
from utils.viewer.records import ShownScan

PREDICTION, TRUTH, ERRORS, DIFFERENCES = "prediction", "truth", "errors", "differences"
CONFIDENCE, INTENSITY, HEIGHT, AGE, ORIGIN = "confidence", "intensity", "height", "age", "origin"
UNITS = {CONFIDENCE: "", INTENSITY: "", HEIGHT: " m", AGE: ""}
"""The colourings by a number, and its unit; that of ages comes with the scan, see `with_unit`."""

Rgb = NDArray[np.uint8]


@dataclass(frozen=True)
class Look:
    """A frozen record of how points are shown.

    Attributes:
        coloring: what they are coloured by, one of `colorings` of the scan.
        hidden: learning ids of the classes that are switched off.
        marked: the learning id of the class that is looked at, the points of others are faint; None: all.
        ground: the ground behind the points.
        past: whether points of past scans are shown.
    """

    coloring: str = HEIGHT
    hidden: frozenset[int] = field(default_factory=frozenset)
    marked: int | None = None
    ground: Ground = DARK
    past: bool = True


def colorings(scan: ShownScan) -> list[str]:
    """Returns what the points of a scan can be coloured by, the most telling first; height is always among it."""
    has = {
        PREDICTION: bool(scan.predictions),
        TRUTH: scan.labels is not None,
        ERRORS: bool(scan.predictions) and scan.labels is not None,
        DIFFERENCES: len(scan.predictions) > 1,
        CONFIDENCE: bool(scan.confidences),
        INTENSITY: scan.intensity is not None,
        HEIGHT: True,
        AGE: scan.age is not None,
        ORIGIN: scan.mixed is not None,
    }
    return [coloring for coloring, there in has.items() if there]


def labellings(scan: ShownScan, name: str | None, coloring: str) -> list[NDArray[np.integer]]:
    """Returns the (N,) learning ids by which a point belongs to a class that is switched off or looked at.

    A point that is wrong belongs to its true class and to the predicted one, a point that differs to both predictions.

    Args:
        scan: the scan.
        name: the prediction that is shown; None if there is none.
        coloring: what the points are coloured by.
    """
    predicted = [] if name is None else [scan.predictions[name]]
    true = [] if scan.labels is None else [scan.labels]
    if coloring == TRUTH:
        return true or predicted
    if coloring == ERRORS:
        return true + predicted
    if coloring == DIFFERENCES:
        return list(scan.predictions.values())[:2]
    return predicted or true


def visible(scan: ShownScan, name: str | None, look: Look, num_names: int) -> NDArray[np.bool_]:
    """Returns a (N,) mask of the points that are shown.

    One of their classes is switched on, see `labellings`, and they are of this scan, or past scans are shown.
    """
    there = times_shown(scan, look)
    shown = labellings(scan, name, look.coloring)
    if not shown or not look.hidden:
        return there
    on = np.ones(num_names, dtype=bool)
    on[[hidden for hidden in look.hidden if hidden < num_names]] = False
    return there & np.logical_or.reduce([on[ids] for ids in shown])


def times_shown(scan: ShownScan, look: Look) -> NDArray[np.bool_]:
    """Returns a (N,) mask of the points of the scans that are shown: this one, and past ones unless switched off."""
    return np.ones(len(scan.xyz), dtype=bool) if look.past else scan.current


def color(scan: ShownScan, name: str | None, look: Look, colors: Rgb, num_classes: int) -> Rgb:
    """Colours the points of a scan.

    Args:
        scan: the scan.
        name: the prediction that is shown; None if there is none.
        look: how it is shown.
        colors: (K + added, 3) uint8 RGB of the label map.
        num_classes: the number K of classes that are judged.

    Returns:
        (N, 3) uint8 RGB.
    """
    rgb = _colored(scan, name, look, colors, num_classes)
    shown = labellings(scan, name, look.coloring)
    if look.marked is not None and shown:
        beside = np.logical_and.reduce([ids != look.marked for ids in shown])
        rgb[beside] = look.ground.faint
    return rgb


def _colored(scan: ShownScan, name: str | None, look: Look, colors: Rgb, num_classes: int) -> Rgb:
    coloring = look.coloring
    if coloring == PREDICTION and name is not None:
        return paint(scan.predictions[name], class_colors(look.ground, colors))
    if coloring == TRUTH and scan.labels is not None:
        return paint(scan.labels, class_colors(look.ground, colors))
    if coloring == ERRORS and name is not None and scan.labels is not None:
        truth = judged_labels(scan.labels, num_classes)
        wrong = truth != scan.predictions[name]
        return verdict_colors(look.ground)[np.where(scan.current & (truth > 0), wrong, 2)]
    if coloring == DIFFERENCES:
        one, other = list(scan.predictions.values())[:2]
        return verdict_colors(look.ground)[np.where(scan.current, one != other, 2)]
    if coloring == ORIGIN and scan.mixed is not None:
        return origin_colors(look.ground)[np.where(scan.current, scan.mixed, 2)]
    values = numbers(scan, name, coloring)
    return scale(values, *limits(values, coloring), look.ground, ramp(coloring, look.ground))


def judged_labels(labels: NDArray[np.integer], num_classes: int) -> NDArray[np.integer]:
    """Returns (N,) learning ids with 0 for the points that are not judged: those that a corruption has added."""
    return np.where(labels < num_classes, labels, 0)


def numbers(scan: ShownScan, name: str | None, coloring: str) -> NDArray[np.floating]:
    """Returns the (N,) values of a colouring by a number; NaN where it is not known."""
    unknown = np.full(len(scan.xyz), np.nan, dtype=np.float32)
    if coloring == CONFIDENCE:
        return scan.confidences.get(name, unknown) if name is not None else unknown
    if coloring == INTENSITY:
        return unknown if scan.intensity is None else scan.intensity
    if coloring == AGE:
        return unknown if scan.age is None else scan.age
    return scan.xyz[:, 2]


def with_unit(value: float, scan: ShownScan, coloring: str) -> str:
    """Returns a value of a colouring by a number as text: "2.5 m", "1 scan", "0.5 s"."""
    if coloring != AGE:
        return f"{value:.3g}{UNITS[coloring]}"
    return f"{value:.3g} {'scan' if scan.age_unit == 'scans' and value == 1 else scan.age_unit}"


def limits(values: NDArray[np.floating], coloring: str) -> tuple[float, float]:
    """Returns the values that get the first and the last colour: `spread`, or for ages 0 and the oldest."""
    if coloring != AGE:
        return spread(values)
    known = values[np.isfinite(values)]
    return 0.0, float(known.max(initial=0.0))


def ramp(coloring: str, ground: Ground) -> Rgb:
    """Returns the colours of a colouring by a number, (256, 3) uint8 RGB from low to high."""
    return age_colors(ground) if coloring == AGE else ramp_colors(ground)


def spread(values: NDArray[np.floating]) -> tuple[float, float]:
    """Returns the values that get the first and the last colour: the 1 % and 99 % quantiles; (0, 0) without values."""
    known = values[np.isfinite(values)]
    if not len(known):
        return 0.0, 0.0
    low, high = np.quantile(known, [0.01, 0.99])
    return float(low), float(high)


def scale(values: NDArray[np.floating], low: float, high: float, ground: Ground, colors: Rgb | None = None) -> Rgb:
    """Returns (N, 3) uint8 RGB colours of values from `low` to `high`; faint where a value is not finite.

    Args:
        values: (N,) numbers.
        low, high: what has the first and the last colour.
        ground: the ground behind the points.
        colors: (256, 3) uint8 RGB, from low to high; None: those of `ramp_colors`.
    """
    colors = ramp_colors(ground) if colors is None else colors
    known = np.isfinite(values)
    share = np.where(known, (values - low) / max(high - low, 1e-9), 0).clip(0, 1)
    rgb = colors[np.rint(share * 255).astype(np.intp)]
    rgb[~known] = ground.faint
    return rgb


def points_of(labels: NDArray[np.integer], num_names: int) -> NDArray[np.int64]:
    """Counts the points of each class: (K + added,) int64."""
    return np.bincount(labels.astype(np.intp), minlength=num_names)[:num_names]


def pick(wish: str | None, offered: Sequence[str]) -> str | None:
    """Returns what is wished for if it is offered, else the first that is; None if nothing is."""
    return wish if wish in offered else next(iter(offered), None)
