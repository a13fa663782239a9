"""The charts of a study: bars with the spread and the points of the seeds, and the curves of the trainings."""

from __future__ import annotations

import statistics
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tools.studying.results import Answer, Study
from tools.studying.statistics import spread
from utils.pictures.scans import DPI, plain_text, save

_BAR, _INK = "#9db8d9", "#303030"


@plain_text()
def draw_bars(answer: Answer, path: Path) -> None:
    """Draws the mean mIoU of every row that has run, its standard deviation, and each seed as a point.

    Args:
        answer: the table; a row at least has figures.
        path: the PNG to write; its folder is made.
    """
    rows = [row for row in answer.rows if row.miou]
    figure = Figure(figsize=(9, 1.3 + 0.5 * len(rows)), dpi=DPI, facecolor="white", layout="constrained")
    axes = figure.add_subplot()
    for place, row in enumerate(rows):
        figures = list(row.miou.values())
        found = spread(figures)
        assert found is not None
        axes.barh(place, found.mean, xerr=found.deviation, color=_BAR, ecolor=_INK, capsize=4, height=0.6)
        axes.plot(figures, [place + 0.18] * len(figures), "o", color=_INK, markersize=3.5, alpha=0.8)
    seeds = [f"{row.title} (n = {len(row.miou)})" for row in rows]
    axes.set_yticks(range(len(rows)), seeds)
    axes.invert_yaxis()
    axes.set_xlabel("mIoU, % (bar: mean, line: standard deviation, points: seeds)")
    axes.set_title(answer.title)
    _plain(axes)
    save(figure, path)


@plain_text()
def draw_curves(study: Study, path: Path) -> None:
    """Draws the cross-entropy over the steps of each arm that has run, a panel for each table.

    Args:
        study: at least one run has a curve.
        path: the PNG to write; its folder is made.
    """
    panels = [(answer, curves) for answer in study.answers if (curves := _curves(study, answer))]
    across = min(2, len(panels))
    down = -(-len(panels) // across)
    figure = Figure(figsize=(6.5 * across, 3.6 * down), dpi=DPI, facecolor="white", layout="constrained")
    for place, (answer, curves) in enumerate(panels, start=1):
        axes = figure.add_subplot(down, across, place)
        for title, (steps, curve) in curves.items():
            axes.plot(steps, curve, marker="o" if len(curve) < 12 else "", markersize=3, linewidth=1.5, label=title)
        axes.set_title(f"({answer.letter}) {answer.title}")
        axes.set_xlabel("steps")
        axes.set_ylabel("cross-entropy, training")
        axes.legend(frameon=False, fontsize=7)
        _plain(axes)
    save(figure, path)


def _curves(study: Study, answer: Answer) -> dict[str, tuple[list[float], list[float]]]:
    """Returns steps and mean loss over the seeds of each arm, by the title of its first row."""
    found: dict[str, tuple[list[float], list[float]]] = {}
    arms = {row.arm: row for row in reversed(answer.rows)}
    for row in reversed(arms.values()):
        curves = [curve for seed in row.seeds if (curve := study.curves.get(f"study_{row.arm}_seed{seed}"))]
        if curves:
            mean = [statistics.fmean(epoch) for epoch in zip(*curves, strict=False)]
            found[row.title] = [row.steps * (epoch + 1) / len(mean) for epoch in range(len(mean))], mean
    return found


def _plain(axes: Axes) -> None:
    axes.grid(color="#e4e7eb")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
