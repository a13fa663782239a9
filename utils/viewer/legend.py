"""The texts of the page, as HTML in which everything that comes from a file is only text."""

from __future__ import annotations

import html
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from utils.text import printable, shortened
from utils.viewer.coloring import DIFFERENCES, ERRORS, ORIGIN, UNITS, judged_labels, limits, numbers, ramp, with_unit
from utils.viewer.palette import Ground, origin_colors, verdict_colors
from utils.viewer.records import ShownScan

ORIGINS: Sequence[str] = ("this scan", "mixed in from another")
"""What the colours of `origin_colors` stand for."""
_LONGEST = 300  # characters of a text
_ROW = "margin: 0 0.8em 0.6em; font-size: 0.875em; overflow-wrap: anywhere"


def text(raw: str) -> str:
    """Returns a text, which may come from a file, as HTML that shows just this text."""
    return html.escape(shortened(printable(raw), _LONGEST))


def heading(
    title: str,
    points: int | None = None,
    error: str = "",
    warning: str = "",
    past: int | None = None,
    conditions: Sequence[str] = (),
) -> str:
    """Returns the head of the page.

    Args:
        title: title of the frame.
        points: its number of points; None while it is read.
        error: why it cannot be shown.
        warning: what is to be known about it.
        past: number of points of past scans beside it; None: there are to be none.
        conditions: those of the scores on the page, a line each.
    """
    if error:
        state = f'<b style="color: #e03131">{text(error)}</b>'
    else:
        state = "Reading" if points is None else f"{points:,} points"
        if past is not None:
            state += f", and {past:,} of past scans"
    for line in conditions:
        state += f"<br>{text(line)}"
    if warning:
        state += f'<br><b style="color: #e8890c">{text(warning)}</b>'
    return f'<div style="{_ROW}"><b>{text(title)}</b><br>{state}</div>'


def note(lines: Sequence[str]) -> str:
    """Returns lines of text, each on its own."""
    return f'<div style="{_ROW}">{"<br>".join(map(text, lines))}</div>'


def key(scan: ShownScan, name: str | None, coloring: str, ground: Ground, num_classes: int) -> str:
    """Returns the key of a colouring other than that by classes; "" for the classes, which have the legend.

    Only points of the scan itself are counted, not those of past scans.

    Args:
        scan: the scan.
        name: the prediction that is shown; None if there is none.
        coloring: what the points are coloured by.
        ground: the ground of the page.
        num_classes: the number K of classes that are judged.
    """
    if coloring in UNITS:
        low, high = limits(numbers(scan, name, coloring), coloring)
        return _ramp(with_unit(low, scan, coloring), with_unit(high, scan, coloring), ramp(coloring, ground))
    own = scan.current
    if coloring == ERRORS and scan.labels is not None and name is not None:
        truth = judged_labels(scan.labels, num_classes)
        judged, right = own & (truth > 0), truth == scan.predictions[name]
        return _verdicts(
            ["right", "wrong", "without truth"],
            [judged & right, judged & ~right, own & (truth == 0)],
            verdict_colors(ground),
        )
    if coloring == DIFFERENCES:
        one, other = list(scan.predictions.values())[:2]
        return _verdicts(
            ["the same", "different"], [own & (one == other), own & (one != other)], verdict_colors(ground)
        )
    if coloring == ORIGIN and scan.mixed is not None:
        return _verdicts(ORIGINS, [own & ~scan.mixed, own & scan.mixed], origin_colors(ground))
    return ""


def _verdicts(names: Sequence[str], masks: Sequence[NDArray[np.bool_]], colors: NDArray[np.uint8]) -> str:
    rows = [
        f"{swatch(color)} {name}: {int(mask.sum()):,}" for name, mask, color in zip(names, masks, colors, strict=False)
    ]
    return f'<div style="{_ROW}">{"<br>".join(rows)}</div>'


def _ramp(low: str, high: str, colors: NDArray[np.uint8]) -> str:
    stops = ", ".join(css(color) for color in colors[::15])
    return (
        f'<div style="{_ROW}"><div style="height: 0.8em; border-radius: 2px; '
        f'background: linear-gradient(to right, {stops})"></div>'
        f'<span>{low}</span><span style="float: right">{high}</span></div>'
    )


def css(color: NDArray[np.uint8]) -> str:
    """Returns an RGB colour as CSS."""
    return "rgb({}, {}, {})".format(*color.tolist())


def swatch(color: NDArray[np.uint8]) -> str:
    """Returns a small square of a colour."""
    return (
        f'<span style="display: inline-block; width: 0.8em; height: 0.8em; border-radius: 2px; '
        f'background: {css(color)}"></span>'
    )


def classes(names: Sequence[str], colors: NDArray[np.uint8]) -> str:
    """Returns the list of the classes with their colours, for a page without controls.

    Args:
        names: names of the classes.
        colors: (len(names), 3) uint8 RGB.
    """
    return "<br>".join(f"{swatch(color)} {text(name)}" for name, color in zip(names, colors, strict=True))
