"""Checks of the frame of scans: the unit of length, which axis points up, where the sensor is, and what is ahead."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from utils.scan.alignment import Alignment
from utils.scan.axes import column_and_sign, completed, mirrored, opposite, turned, usual_axes
from utils.scan.center import Rings
from utils.scan.comparison import Finding, Source, median, of_most
from utils.scan.traits import Traits, densest, wrapped

_UNITS = {"millimetres": 0.001, "centimetres": 0.01, "inches": 0.0254, "kilometres": 1000.0}
_FEET = 0.3048
_FAR_OFF = 15.0, 1 / 300  # ratios of distances that no scene explains; the nearest unit is taken beyond them
_SAME_GROUND = 0.3  # metres
_SAMPLE = 8192  # points
_SCENES = 5.0  # factor between the distances of two scenes

_LAYER = 0.2  # metres
_AWAY = 3.0, 20.0  # metres from the middle of the points, in which the ground is looked for
_FLATTEST = 2.0  # the ground has this many times the points of the densest layer across another axis
_LEAST_SHARE = 0.12  # of the near points in the ground; in two real scans and 150 made-up ones it was 0.25 to 0.78
_HIGHER = 2.0  # things reach this many times farther above the ground than below it

_OFF = 2.0  # metres; rings of scans that are corrected for motion meet up to half a metre beside the sensor
_WORSE = 1.5  # the rings go around the origin this much worse than around the sensor

_LONGER = 0.15  # elongation of the training's scans from which on it says something
_TURNED = 0.15  # how far the elongation has to be below what the training had, and below 0
_TURNED_FEW = 0.25  # the same for fewer than 10 scans, whose spread says little
_FEW = 10
_ONE_WAY = 0.5  # rotation from which on the points are in an order
_START = 0.4  # radians
_QUARTER = np.pi / 2


def unit(source: Source, alignment: Alignment) -> Finding | None:
    """Looks at the distances: a unit of length changes all of them by the same factor."""
    known = np.array(source.training.statistics.range[3:8])  # at 25, 50, 75, 95 and 99 %
    if not (known > 0).all():
        return None
    anywhere = replace(alignment, center=None, sensor_height=None)
    ratios = np.median([_spread(xyz) for xyz in source.placed(anywhere)], axis=0) / known
    ratio = float(np.exp(np.median(np.log(np.maximum(ratios, 1e-30)))))
    if _FAR_OFF[1] < ratio < _FAR_OFF[0]:
        name, scale = "feet", _FEET
        if not _in_feet(source, alignment, ratios, ratio):
            return None
    else:
        name, scale = min(_UNITS.items(), key=lambda item: abs(np.log(item[1] * ratio)))
        if not 1 / _SCENES < ratio * scale < _SCENES:
            return None
    text = (
        f"half of the points lie within {ratio * known[1]:,.4g} m around their middle, in the training within "
        f"{known[1]:.3g} m, so their unit seems to be {name}"
    )
    return Finding("unit", text, replace(alignment, length_scale=alignment.length_scale * scale))


def _spread(xyz: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns quantiles of the distances of points from their middle, which is near the sensor."""
    points = _some(xyz)
    return np.percentile(np.linalg.norm(points - np.median(points, axis=0), axis=1), (25, 50, 75, 95, 99))


def _in_feet(source: Source, alignment: Alignment, ratios: NDArray[np.float64], ratio: float) -> bool:
    """Tells whether the unit is feet, of which a wide place is a likelier cause than of millimetres.

    Where the sensor is the origin, the height of the ground has to agree; else all the distances.
    """
    factor = 1 / _FEET
    if not factor / 2 < ratio < factor * 2:
        return False
    ground = median(traits.ground for traits in source.traits(alignment))
    if ground is not None and abs(ground * _FEET - source.training.ground) < _SAME_GROUND:
        return True
    if ground is not None and ground < source.training.ground / 2:
        return False  # about where it is in metres, or at no height that feet explain
    return bool((np.abs(np.log(ratios / factor)) < np.log(1.4)).all())


def up(source: Source, alignment: Alignment) -> Finding | None:
    """Looks for the ground: the large flat layer at the low end of the axis that points up."""
    forward = source.training.sensor.forward
    axes = alignment.axes or usual_axes(forward)
    found = of_most([_up_of(cloud.xyz * alignment.length_scale, axes[2]) for cloud in source.clouds])
    if found is None or found == axes[2]:
        return None
    if found == "z":
        better = usual_axes(forward)
    elif found == "-z":
        better = completed({"forward": "x", "up": "-z"})
    else:  # camera frames look along z, those of computer graphics along -z
        better = completed({"forward": "-z" if found == "y" else "z", "up": found})
    text = f"the ground, the largest flat layer, shows that {found} points up, and not {axes[2]}"
    return Finding("axes", text, replace(alignment, axes=better))


def _up_of(xyz: NDArray[np.float64], expected: str) -> str:
    """Finds the axis that points up; the expected one, unless another one is clearly better."""
    points = _some(xyz).astype(np.float64)
    points = points - np.median(points, axis=0)
    layers = [_layer(points, column) for column in range(3)]
    usual, _ = column_and_sign(expected)
    best = int(np.argmax([share for share, _, _ in layers]))
    share, below, above = layers[best]
    if best != usual and (share < _LEAST_SHARE or share < _FLATTEST * layers[usual][0]):
        return expected
    axis = "xyz"[best]
    if above > _HIGHER * below:
        return axis
    if below > _HIGHER * above:
        return opposite(axis)
    return expected


def _layer(points: NDArray[np.float64], column: int) -> tuple[float, float, float]:
    """Measures the densest layer across an axis: its share of the points, and how far these reach below and above."""
    beside = np.linalg.norm(np.delete(points, column, axis=1), axis=1)
    values = np.sort(points[(beside > _AWAY[0]) & (beside < _AWAY[1]), column])
    if len(values) < 2:
        return 0.0, 0.0, 0.0
    start, end = densest(values, _LAYER)
    low, high = np.percentile(values, (1, 99))
    middle = float(np.median(values[start:end]))
    return (end - start) / len(values), max(middle - low, _LAYER / 2), max(high - middle, _LAYER / 2)


def origin(source: Source, alignment: Alignment) -> Finding | None:
    """Looks whether the sensor is the origin: points lie close around it, and its rings go around it."""
    if alignment.center == "auto":
        return None
    found = replace(alignment, center="auto", sensor_height=None)
    placed = source.placed(alignment)
    limit = source.training.statistics.range[5]  # three quarters of the points are nearer
    if of_most([_beside(xyz, 5) > limit for xyz in placed]):
        nearest = _metres(median(_beside(xyz, 1) for xyz in placed) or 0)
        text = f"the nearest points are {nearest} from (0, 0, 0), where the sensor should be"
        if not of_most([seen for _, seen in source.centers(found)]):
            text += ", and no rings show where it was: the middle of the points is taken"
        return Finding("origin", text, found)
    offs = [_off(xyz) for xyz in placed]
    if not of_most([off is not None for off in offs]):
        return None
    place = f"a place {_metres(median(offs) or 0)} from (0, 0, 0)"
    return Finding("origin", f"the rings on the ground go around {place}, where the sensor should be", found)


def _beside(xyz: NDArray[np.float64], percentage: float) -> float:
    """Returns a quantile of the horizontal distances of points from the origin, metres."""
    return float(np.percentile(np.hypot(*_some(xyz)[:, :2].T), percentage))


def _metres(value: float) -> str:
    return f"{value / 1000:,.0f} km" if value >= 10_000 else f"{value:.3g} m"


def _off(xyz: NDArray[np.float64]) -> float | None:
    """Returns how far from the origin the sensor is, metres; None if it may be there."""
    middle = np.median(_some(xyz), axis=0)
    rings = Rings.of(xyz - middle)
    center = None if rings is None else rings.center()
    if rings is None or center is None:
        return None
    off = float(np.linalg.norm(center + middle[:2]))
    agree = np.median(rings.sines(-middle[:2])) < _WORSE * np.median(rings.sines(center))
    return None if off < _OFF or agree else off


def forward(source: Source, alignment: Alignment) -> Finding | None:
    """Looks along which axis the street goes on, and, for scans of the same sensor, at the order of the points."""
    training = source.training
    ground = median(traits.ground for traits in source.traits(alignment))
    lift = 0.0 if ground is None else training.ground - ground
    lift = lift if abs(lift) > _SAME_GROUND else 0.0
    scans = source.traits(alignment, lift)
    axes = alignment.axes or usual_axes(training.sensor.forward)
    exchanged = bool(of_most([_other_way(source, traits) for traits in scans]))
    quarters = of_most([_quarters(source, traits, exchanged) for traits in scans])
    texts = []
    if exchanged:
        ways = ("clockwise", "counter-clockwise")
        counter = (median(traits.rotation for traits in scans) or 0) > 0
        texts.append(f"the points of a beam follow each other {ways[counter]}, in the training {ways[not counter]}")
        axes = mirrored(axes)
    if quarters is None:  # nothing but the elongation counts
        elongation = median(traits.elongation for traits in scans)
        quarters = 0
        if elongation is not None and _across(source, elongation):
            quarters = 3 if axes[1].startswith("-") else 1
    if quarters:
        ratio = float(np.exp(median(traits.elongation for traits in scans) or 0))
        usual = float(np.exp((training.usual("elongation") or (0, 0, 0))[1]))
        better = turned(axes, quarters)
        texts.append(
            f"{better[0]} seems to point forward, and not {axes[0]}: the points reach {ratio:.2g} times as far along "
            f"{axes[0][-1]} as along {axes[1][-1]}, in the training {usual:.2g} times as far ahead as beside"
            if quarters != 2
            else f"{better[0]} seems to point forward, and not {axes[0]}: the order of the points begins behind"
        )
        axes = better
    if not texts:
        return None
    return Finding("axes", " and ".join(texts), replace(alignment, axes=axes))


def _across(source: Source, elongation: float) -> bool:
    """Tells whether a scan is elongated to the sides, as none of the training is."""
    usual = source.training.usual("elongation")
    if usual is None or usual[1] < _LONGER:
        return False
    return elongation < min(usual[0], 0) - (_TURNED_FEW if source.training.statistics.scans < _FEW else _TURNED)


def _other_way(source: Source, traits: Traits) -> bool:
    """Tells whether the points follow each other in the other direction; another sensor may just turn that way."""
    usual = source.training.usual("rotation")
    if usual is None or min(abs(usual[0]), abs(usual[2]), abs(traits.rotation)) < _ONE_WAY or usual[0] * usual[2] < 0:
        return False
    return usual[1] * traits.rotation < 0 and _same_sensor(source, traits)


def _quarters(source: Source, traits: Traits, exchanged: bool) -> int | None:
    """Tells from where the order of the points begins by how many quarter turns to the left they are turned.

    Returns:
        0 to 3; None if the order says nothing, as for other sensors.
    """
    usual, rotation = source.training.usual("start"), source.training.usual("rotation")
    if usual is None or rotation is None or usual[2] - usual[0] > 2 * _START or not _same_sensor(source, traits):
        return None
    if min(abs(rotation[0]), abs(rotation[2]), abs(traits.rotation)) < _ONE_WAY:
        return None
    more = wrapped((-traits.start if exchanged else traits.start) - usual[1])
    quarters = round(more / _QUARTER)
    if abs(more - quarters * _QUARTER) > _START:
        return None
    if quarters % 2 and traits.elongation > _LONGER:  # the street says that it is not turned
        return None
    return quarters % 4


def _same_sensor(source: Source, traits: Traits) -> bool:
    """Tells whether a scan is of the training's kind of sensor and file: their order of points means the same."""
    counts = source.training.statistics.points_per_scan
    if not 0.75 * counts[2] < float(np.median(source.counts)) < 1.25 * counts[6]:
        return False
    for name, margin in (("bottom", 2.0), ("top", 2.0), ("step", 0.15), ("beams", 4.0)):
        usual = source.training.usual(name)
        if usual is None or not usual[0] - margin < getattr(traits, name) < usual[2] + margin:
            return False
    return True


def _some(xyz: NDArray[np.float64]) -> NDArray[np.float64]:
    """Draws some of the points."""
    if len(xyz) <= _SAMPLE:
        return xyz
    return xyz[np.random.default_rng(0).integers(len(xyz), size=_SAMPLE)]
