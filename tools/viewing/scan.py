"""The picture of a scan, of any data set."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from utils.pictures.scans import FromAbove, draw_scan
from utils.viewer.coloring import AGE, limits, scale, with_unit
from utils.viewer.legend import ORIGINS
from utils.viewer.palette import DARK, age_colors, origin_colors
from utils.viewer.records import Frames, ShownScan

_MOST = 6
"""Ages in the legend; of more, some are left out."""


def draw(scan: ShownScan, frames: Frames, output: Path) -> None:
    """Draws a scan from above, as the sensor sees it, and over the camera pictures, into a PNG.

    Points of past scans are in a panel of their own, coloured by age, and nowhere else. Where scans were mixed, a panel
    shows which point is of which scan.

    Args:
        scan: one of `frames`, with labels or a prediction.
        frames: gives the classes and the sensor.
        output: the PNG to write; its folder is made.
    """
    own = scan.select(scan.current)
    predictions = own.predictions
    draw_scan(
        own.xyz,
        frames.sensor,
        own.labels,
        next(iter(predictions.values()), None) if len(predictions) < 2 else predictions,
        frames.colors,
        frames.names,
        output,
        [[camera.picture for camera in row] for row in own.cameras],
        title=own.title,
        num_classes=frames.num_classes,
        beside=_by_age(scan) if own.mixed is None else _by_origin(own, own.mixed),
        notes=[] if own.labels is None else [f"{name}: {line}" for name, line in own.conditions.items()],
    )


def _by_origin(scan: ShownScan, mixed: NDArray[np.bool_]) -> FromAbove:
    """Returns the points of a scan in the colours of the scans that they are from, those mixed in on top."""
    colors = origin_colors(DARK)
    legend = dict(zip(ORIGINS, colors.tolist(), strict=False))
    return FromAbove("Which scan a point is from", scan.xyz, colors[mixed.astype(np.intp)], mixed.astype(float), legend)


def _by_age(scan: ShownScan) -> FromAbove | None:
    """Returns the points of a scan and of past ones in the colours of their age, the newest on top."""
    if scan.age is None:
        return None
    low, high = limits(scan.age, AGE)
    rgb = partial(scale, low=low, high=high, ground=DARK, colors=age_colors(DARK))
    ages = np.unique(scan.age)
    some = ages[np.linspace(0, len(ages) - 1, min(len(ages), _MOST)).round().astype(int)]
    texts = [f"age {with_unit(age, scan, AGE)}" if age > 0 else "age 0: this scan" for age in some.tolist()]
    past = np.count_nonzero(ages > 0)
    return FromAbove(
        f"With {past} past {'scan' if past == 1 else 'scans'}, coloured by age",
        scan.xyz,
        rgb(scan.age),
        -scan.age,
        dict(zip(texts, rgb(some).tolist(), strict=True)),
    )
