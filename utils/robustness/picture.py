"""The picture of a robustness test: bars by corruption and severity, and a radar against a baseline."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from utils.corruptions import CLEAN
from utils.files import whole_file
from utils.pictures.scans import drawable, plain_text
from utils.robustness.family import Family, Profile
from utils.robustness.metrics import robustness

_OURS, _THEIRS, _CLEAN_BAR = "#1f6fb4", "#d9622b", "#8a929c"
_SHADES = ("#a6cbe8", "#4b97cf", "#124f88")  # from light to heavy
_LONGEST_MODEL, _LONGEST_LINE = 60, 1000  # characters
_MARGIN = 0.16  # of a group, on either side of its bars


@dataclass(frozen=True)
class RobustPicture:
    """The content of the picture.

    Attributes:
        family: the corruptions.
        model: the mIoU of the model.
        baseline: that of what it is compared with, or None.
        headlines: lines above.
        unit: of the mIoU, for the axis.
    """

    family: Family
    model: Profile
    baseline: Profile | None
    headlines: Sequence[str]
    unit: str

    @property
    def top(self) -> float:
        """The highest figure, at least 1."""
        values = [1.0]
        for profile in (self.model, self.baseline):
            if profile is not None:
                values += [profile.clean or 0.0, *profile.means.values()]
                values += [value for single in profile.severities.values() for value in single.values()]
        return max(values)


@plain_text()
def draw_robustness(picture: RobustPicture, path: Path) -> None:
    """Draws the mIoU of each corruption and severity as bars, and of each corruption against the baseline as a radar.

    Args:
        picture: what to draw.
        path: the PNG to write; its folder is made.
    """
    wide = len(robustness(picture.model, picture.family).means) >= 3  # fewer corners are no radar
    figure = Figure(figsize=(18 if wide else 13, 6.6), dpi=100, facecolor="white", layout="constrained")
    figure.get_layout_engine().set(w_pad=0.15, h_pad=0.12)  # type: ignore[union-attr]
    grid = figure.add_gridspec(1, 2 if wide else 1, width_ratios=(1.75, 1) if wide else (1,))
    _draw_bars(figure.add_subplot(grid[0]), picture)
    if wide:
        _draw_radar(figure.add_subplot(grid[1], projection="polar"), picture)
    lines = [textwrap.fill(drawable(line, _LONGEST_LINE), 200 if wide else 140) for line in picture.headlines]
    figure.suptitle("\n".join(lines), fontsize=11, x=0.01, ha="left")
    with whole_file(path) as file:
        figure.savefig(file, format="png")


def _draw_bars(axes: Axes, picture: RobustPicture) -> None:
    family, profile, baseline = picture.family, picture.model, picture.baseline
    groups: list[tuple[str, Sequence[str]]] = [(CLEAN, ("",)), *((c, family.severities(c)) for c in family.titles)]
    for place, (corruption, severities) in enumerate(groups):
        width = (1 - 2 * _MARGIN) / 3
        for rank, severity in enumerate(severities):
            of_clean = corruption == CLEAN
            value = profile.clean if of_clean else profile.severities.get(corruption, {}).get(severity)
            middle = place + (rank - (len(severities) - 1) / 2) * width
            color = _CLEAN_BAR if of_clean else _shade(rank, len(severities))
            if value is not None:
                axes.bar(middle, value, width * 0.92, color=color)
            _caption(axes, middle, value, picture.top, "#1c2530" if color == _SHADES[0] else "white")
        if baseline is not None:
            theirs = baseline.clean if corruption == CLEAN else baseline.mean(corruption, severities, True)
            if theirs is not None:
                half = width * len(severities) / 2
                axes.hlines(theirs, place - half, place + half, color=_THEIRS, linewidth=2.2)
    names = [family.titles.get(c, c).replace(" ", "\n").replace("-", "-\n") for c, _ in groups]
    axes.set_xticks(range(len(groups)), names, fontsize=10)
    axes.set_xlim(-0.6, len(groups) - 0.4)
    axes.set_ylim(0, 1.05 * picture.top)
    axes.set_ylabel(picture.unit)
    axes.grid(axis="y", color="#e4e7eb")
    axes.set_axisbelow(True)
    axes.tick_params(axis="x", length=0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(handles=_bar_legend(picture), loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=5, frameon=False)


def _caption(axes: Axes, middle: float, value: float | None, top: float, ink: str) -> None:
    """Writes the figure of a bar at its foot where nothing crosses it; above a bar that is too short."""
    short = value is None or value < 0.14 * top
    text, height = ("not tested", 0.0) if value is None else (f"{value:.1f}", value if short else 0.0)
    color = "#9aa0a6" if value is None else "#1c2530" if short else ink
    axes.text(middle, height + 0.015 * top, text, rotation=90, ha="center", va="bottom", fontsize=9, color=color)


def _bar_legend(picture: RobustPicture) -> list[Patch | Line2D]:
    """Makes one entry per shade; severities that share it share the entry."""
    by_shade: dict[str, list[str]] = {}
    for corruption in picture.family.titles:
        severities = picture.family.severities(corruption)
        for rank, severity in enumerate(severities):
            names = by_shade.setdefault(_shade(rank, len(severities)), [])
            names += [severity] if severity not in names else []
    handles: list[Patch | Line2D] = [Patch(color=shade, label=", ".join(by_shade[shade])) for shade in sorted(
        by_shade, key=_SHADES.index)]  # fmt: skip
    if picture.baseline is not None:
        handles.append(
            Line2D(
                [],
                [],
                color=_THEIRS,
                linewidth=2.2,
                label=f"{_model(picture.baseline)}, mean of severities",
            )
        )
    return handles


def _draw_radar(axes: Any, picture: RobustPicture) -> None:
    """Draws one corner per corruption and one for the clean scans; the further out the better."""
    family, baseline = picture.family, picture.baseline
    figures = robustness(picture.model, family)
    corners = [CLEAN, *figures.means]
    angles = [2 * math.pi * k / len(corners) for k in range(len(corners))]
    lines = [(_model(picture.model), picture.model.clean, figures.means, _OURS)]
    if baseline is not None:
        lines.append((_model(baseline), baseline.clean, robustness(baseline, family).means, _THEIRS))
    for name, clean, means, color in lines:
        values = [math.nan if v is None else v for v in (clean, *(means.get(c) for c in figures.means))]
        axes.plot(
            [*angles, angles[0]], [*values, values[0]], color=color, linewidth=2, marker="o", markersize=4, label=name
        )
        if not any(map(math.isnan, values)):
            axes.fill(angles, values, color=color, alpha=0.12)
    axes.set_theta_zero_location("N")
    axes.set_theta_direction(-1)
    axes.set_xticks(angles, [family.titles.get(c, c).replace(" ", "\n") for c in corners], fontsize=10)
    axes.tick_params(axis="x", pad=20)
    axes.set_ylim(0, 1.05 * picture.top)
    axes.tick_params(axis="y", labelsize=8, colors="#6b7280")
    axes.set_rlabel_position(180 / len(corners))
    axes.grid(color="#dfe3e8")
    axes.spines["polar"].set_color("#c5cad1")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.15), ncols=2, frameon=False)


def _model(profile: Profile) -> str:
    return drawable(profile.name, _LONGEST_MODEL)


def _shade(rank: int, count: int) -> str:
    """Returns the shade of a severity: the first is the lightest and the last the darkest, however many there are."""
    return _SHADES[round(rank * (len(_SHADES) - 1) / max(count - 1, 1))]
