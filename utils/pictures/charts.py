"""Charts of scores: the confusion matrix and the training curve."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from utils.metrics import ScoreCard
from utils.pictures.scans import DPI, drawable, plain_text, save

_LONGEST_LINE = 1000  # characters


@plain_text()
def draw_confusion(scores: ScoreCard, ignored: str, path: str | Path, conditions: str) -> None:
    """Draws the confusion matrix, in percent of the points of each true class, with the IoU at the right.

    Args:
        scores: the evaluation. A class without ground truth has an empty row, and no IoU if it is never predicted.
        ignored: name of class 0.
        path: the PNG to write; its folder is made.
        conditions: a line on what the scores depend on (`Conditions.text`).
    """
    by_truth = scores.confusion.T[1:]  # rows: ground truth
    share = 100 * by_truth / np.maximum(by_truth.sum(axis=1, keepdims=True), 1)
    # Points predicted as 0 count in the total of a row; their column is shown only if there are any.
    first = 0 if share[:, 0].any() else 1
    share = share[:, first:]
    size = len(scores.class_names)
    figure = Figure(figsize=(3.2 + 0.52 * size, 2.4 + 0.46 * size), dpi=DPI, facecolor="white", layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(np.sqrt(share / 100), cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for row, column in zip(*np.nonzero(share >= 0.5), strict=True):
        ink = "white" if share[row, column] > 35 else "#303030"
        axes.text(column, row, f"{share[row, column]:.0f}", ha="center", va="center", fontsize=9, color=ink)
    names = [drawable(name) for name in scores.class_names]
    predicted = (drawable(ignored), *names)[first:]
    axes.set_xticks(range(len(predicted)), predicted, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(size), names)
    axes.set_xlabel("prediction")
    axes.set_ylabel("ground truth")
    axes.set_title(f"What the points of each class were taken for (%), mIoU {100 * scores.miou:.2f} %", pad=14)
    _say_below(figure, conditions)
    right = axes.secondary_yaxis("right")
    occurs = by_truth.any(axis=1) | scores.confusion[1:].any(axis=1)
    right.set_yticks(
        range(size), [f"{100 * iou:.1f}" if there else "-" for iou, there in zip(scores.iou, occurs, strict=True)]
    )
    right.set_ylabel("IoU (%)")
    for part in (axes, right):
        part.tick_params(length=0)
        for spine in part.spines.values():
            spine.set_visible(False)
    axes.set_xticks(np.arange(len(predicted) + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(size + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="#e4e7eb", linewidth=0.8)
    axes.tick_params(which="minor", length=0)
    save(figure, path)


@plain_text()
def draw_training_curve(history: Sequence[Mapping[str, float]], path: str | Path, conditions: str) -> None:
    """Draws losses and mIoU over the epochs.

    Args:
        history: one mapping per epoch: "epoch" (if missing, its position counts), and keys that contain "loss" or
            "miou" (0..1), any number of each; a key may be missing in some epochs.
        path: the PNG to write; its folder is made.
        conditions: a line on what the scores depend on (`Conditions.text`).
    """
    figure = Figure(figsize=(11, 4), dpi=DPI, facecolor="white", layout="constrained")
    losses, scores = figure.subplots(1, 2)
    _plot_keys(losses, history, "loss", scale=1, unit="loss")
    _plot_keys(scores, history, "miou", scale=100, unit="mIoU (%)")
    _say_below(figure, conditions)
    save(figure, path)


def _say_below(figure: Figure, line: str) -> None:
    """Writes a line of text under the axes, broken where it is wider than the figure."""
    width = int(figure.get_figwidth() * 14)  # characters
    figure.supxlabel(textwrap.fill(drawable(line, _LONGEST_LINE), width), fontsize=9, color="#505050")


def _plot_keys(axes: Axes, history: Sequence[Mapping[str, float]], word: str, scale: float, unit: str) -> None:
    """Plots one line for each key that contains `word`."""
    keys = sorted({key for row in history for key in row if word in key.lower()})
    for key in keys:
        points = [(row.get("epoch", place), scale * row[key]) for place, row in enumerate(history) if key in row]
        axes.plot(*zip(*points, strict=True), marker="o", markersize=3, linewidth=1.6, label=key)
    axes.set_xlabel("epoch")
    axes.set_ylabel(unit)
    axes.grid(color="#e4e7eb")
    axes.spines[["top", "right"]].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if keys:
        axes.legend(frameon=False, fontsize=9)
