"""Pictures of scans: labels and predictions, from above, as the sensor sees them, and over camera images.

Each picture is drawn on a new `Figure`, so nothing here changes pyplot's global state, a display or a backend. Images
are shown pixel for pixel, so that a class has exactly its colour of the label map.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from utils.files import whole_file
from utils.pictures.raster import (
    BACKGROUND,
    RANGE_COLUMNS,
    CameraPicture,
    Pixels,
    birds_eye_view,
    camera_view,
    paint,
    paint_errors,
    range_view,
)
from utils.scan.sensor import Sensor

DPI = 100
MARGIN, GAP, TITLE, NOTE = 28, 16, 34, 22  # pixels
STRIP = 64  # pixels, height of a range image before it is enlarged
TEXT = "#e8eaed"
_SMALL = 512  # pixels, edge of a view from above that is drawn often
_MOST_ACROSS = 6  # camera images in a row, so that their captions have room
_LONGEST_NAME, _LONGEST_CAPTION, _LONGEST_TITLE, _LONGEST_NOTE = 24, 36, 120, 400  # characters
_WIDEST_LETTER = 11  # pixels, of a note


@dataclass(frozen=True)
class FromAbove:
    """A frozen record of a further panel: points from above in colours of their own, which need not be the scan's.

    Attributes:
        caption: a line above the panel.
        xyz: (M, 3) metres, in the frame of the sensor.
        rgb: (M, 3) uint8 colours.
        rank: (M,) numbers; a point hides those of lower rank.
        legend: what the colours mean: text -> RGB (0..255).
    """

    caption: str
    xyz: NDArray[np.float32]
    rgb: NDArray[np.uint8]
    rank: NDArray[np.floating]
    legend: Mapping[str, Sequence[int]]


@contextmanager
def plain_text() -> Iterator[None]:
    """Makes matplotlib draw text as it is: "$" starts no formula, and a character that the font lacks becomes a box.

    Names of classes, scans and models come from files, so they may hold anything.
    """
    with mpl.rc_context({"text.parse_math": False}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")
        yield


def drawable(text: str, longest: int = _LONGEST_NAME) -> str:
    """Returns a text that can be drawn: one line of at most `longest` printable characters."""
    shown = "".join(c if c.isprintable() else "?" for c in text)
    return shown if len(shown) <= longest else shown[: longest - 1] + "…"


@plain_text()
def draw_scan(
    xyz: NDArray[np.float32],
    sensor: Sensor,
    labels: NDArray[np.integer] | None,
    prediction: NDArray[np.integer] | Mapping[str, NDArray[np.integer]] | None,
    colors: NDArray[np.uint8],
    names: Sequence[str],
    path: str | Path,
    cameras: Sequence[Sequence[CameraPicture]] = (),
    title: str = "",
    num_classes: int | None = None,
    beside: FromAbove | None = None,
    notes: Sequence[str] = (),
) -> None:
    """Draws a scan from above, as the sensor sees it, and over the camera images if there are any.

    With labels and a prediction, ground truth, prediction and errors are drawn side by side. With one of them, that one
    is drawn larger. The errors of several predictions are drawn below them. A further panel comes last.

    Args:
        xyz: (N, 3) metres, in the frame of `sensor`.
        sensor: the LiDAR that took the scan.
        labels: (N,) learning ids, or None.
        prediction: (N,) learning ids, or several of them by their names, or None.
        colors: (K, 3) uint8 RGB.
        names: K class names.
        path: the PNG to write; its folder is made.
        cameras: rows of camera images of one shape, laid out like the cameras on the car.
        title: a line above the picture.
        num_classes: labels below it are compared with the prediction; those from it on are drawn and named, but count
            as unlabelled. None for all K classes.
        beside: a further panel.
        notes: smaller lines below the title.

    Raises:
        ValueError: neither labels nor a prediction is given.
    """
    predictions = _by_caption(prediction)
    painted = [] if labels is None else [("Ground truth", paint(labels, colors))]
    painted += [(caption, paint(ids, colors)) for caption, ids in predictions]
    if not painted:
        raise ValueError("draw_scan needs labels or a prediction")
    errors = [] if labels is None else _errors(labels, predictions, num_classes)
    rows, content = _from_above(xyz, sensor, painted, errors, beside)
    for caption, rgb in painted:
        tall = STRIP * (content // RANGE_COLUMNS + 1) // sensor.beams
        strip = range_view(xyz, sensor, rgb).repeat(tall, axis=0).repeat(content // RANGE_COLUMNS, axis=1)
        rows.append([(f"{caption}, as the sensor sees it", strip)])
    rows += _camera_rows(painted, cameras, content)
    every = [ids for _, ids in predictions] + ([] if labels is None else [labels])
    present = np.unique(np.concatenate([np.unique(ids) for ids in every]))
    legend = _legend(present, colors, names)
    if beside is not None:
        legend += _patches(beside.legend)
    _save_rows(rows, content, title, legend, path, notes)


def _from_above(
    xyz: NDArray[np.float32],
    sensor: Sensor,
    painted: list[tuple[str, NDArray[np.uint8]]],
    errors: list[tuple[str, NDArray[np.uint8]]],
    beside: FromAbove | None,
) -> tuple[list[list[tuple[str, Pixels]]], int]:
    """Draws the scan from above in each of its colourings; returns rows of captioned images, and their width, pixels.

    They stand in one row of up to three, or those of the errors below the others.
    """
    more = beside is not None
    above = [painted, errors] if len(errors) + more > 1 and errors else [painted + errors]
    across = max(len(above[0]), len(above[-1]) + more)
    content = RANGE_COLUMNS if across == 1 else 2 * RANGE_COLUMNS
    size = _width_of_each(across, content)
    rows = [[(caption, birds_eye_view(xyz, sensor, rgb, size)) for caption, rgb in row] for row in above]
    if beside is not None:
        further = birds_eye_view(beside.xyz, sensor, beside.rgb, size, rank=beside.rank)
        rows[-1].append((drawable(beside.caption, _LONGEST_TITLE), further))
    return rows, content


def _by_caption(
    prediction: NDArray[np.integer] | Mapping[str, NDArray[np.integer]] | None,
) -> list[tuple[str, NDArray[np.integer]]]:
    """Returns the predictions, each with the caption of its pictures."""
    if prediction is None:
        return []
    if not isinstance(prediction, Mapping):
        return [("Prediction", prediction)]
    return [(drawable(name, _LONGEST_CAPTION), ids) for name, ids in prediction.items()]


def _errors(
    labels: NDArray[np.integer], predictions: Sequence[tuple[str, NDArray[np.integer]]], num_classes: int | None
) -> list[tuple[str, NDArray[np.uint8]]]:
    """Returns caption, and colours of right and wrong points, for each of the predictions."""
    truth = labels if num_classes is None else np.where(labels < num_classes, labels, 0)
    judged = truth > 0
    found = []
    for name, prediction in predictions:
        share = 100 * np.mean(truth[judged] == prediction[judged]) if judged.any() else 0.0
        whose = f" of {name}" if len(predictions) > 1 else ""
        caption = f"Errors (red){whose}: {share:.1f} % of the points are right"
        found.append((caption, paint_errors(truth, prediction)))
    return found


@plain_text()
def draw_errors(
    xyz: NDArray[np.float32],
    sensor: Sensor,
    labels: NDArray[np.integer],
    prediction: NDArray[np.integer],
    colors: NDArray[np.uint8],
    names: Sequence[str],
    path: str | Path,
    title: str = "",
    notes: Sequence[str] = (),
    size: int = _SMALL,
) -> None:
    """Draws ground truth, prediction and errors of a scan from above, small and quickly.

    Args:
        xyz: (N, 3) metres, in the frame of `sensor`.
        sensor: the LiDAR that took the scan.
        labels: (N,) learning ids.
        prediction: (N,) learning ids.
        colors: (K, 3) uint8 RGB.
        names: K class names.
        path: the PNG to write; its folder is made.
        title: a line above the picture.
        notes: smaller lines below the title.
        size: edge of each of the three views, pixels.
    """
    predictions = [("Prediction", prediction)]
    painted = [("Ground truth", paint(labels, colors)), ("Prediction", paint(prediction, colors))]
    painted += _errors(labels, predictions, None)
    row = [(caption, birds_eye_view(xyz, sensor, rgb, size)) for caption, rgb in painted]
    present = np.union1d(labels, prediction)
    _save_rows([row], 3 * size + 2 * GAP, title, _legend(present, colors, names), path, notes)


@plain_text()
def draw_panels(
    rows: list[list[tuple[str, Pixels]]], legend: Mapping[str, Sequence[int]], path: str | Path, title: str = ""
) -> None:
    """Draws rows of captioned images, pixel for pixel.

    Args:
        rows: for each row its (caption, image) pairs from left to right; the images of a row have the same height.
        legend: name -> RGB (0..255), drawn below the images.
        path: the PNG to write; its folder is made.
        title: a line above the picture.
    """
    content = max(sum(picture.shape[1] + GAP for _, picture in row) - GAP for row in rows)
    _save_rows(rows, content, title, _patches(legend), path)


def _patches(legend: Mapping[str, Sequence[int]]) -> list[Patch]:
    return [Patch(facecolor=_unit(rgb), label=name) for name, rgb in legend.items()]


def _camera_rows(
    painted: Sequence[tuple[str, NDArray[np.uint8]]], cameras: Sequence[Sequence[CameraPicture]], content: int
) -> list[list[tuple[str, Pixels]]]:
    """Returns rows of captioned images: a row of cameras, repeated for each way to paint the points, side by side or,
    where that would be too many, one below the other."""
    rows = []
    for beside in cameras:
        panels = [(caption, rgb, camera) for caption, rgb in painted for camera in beside]
        across = len(panels) if len(panels) <= _MOST_ACROSS else len(beside)
        width = _width_of_each(across, content)
        dot = 3 if width > 500 else 2
        drawn = [
            (f"{caption} in {camera.name}", camera_view(camera, rgb, width, dot)) for caption, rgb, camera in panels
        ]
        rows += [drawn[start : start + across] for start in range(0, len(drawn), across)]
    return rows


def _width_of_each(count: int, content: int) -> int:
    """Computes the width, pixels, of each of `count` images side by side."""
    return (content - GAP * (count - 1)) // count


def _legend(present: NDArray[np.integer], colors: NDArray[np.uint8], names: Sequence[str]) -> list[Patch]:
    swatches = paint(np.arange(len(names)), colors).tolist()
    return [Patch(facecolor=_unit(swatches[c]), label=drawable(names[int(c)])) for c in present]


def _unit(rgb: Sequence[int]) -> tuple[float, float, float]:
    """Converts a colour from 0..255 to 0..1, as matplotlib takes it."""
    red, green, blue = rgb
    return red / 255, green / 255, blue / 255


def _save_rows(
    rows: list[list[tuple[str, Pixels]]],
    content: int,
    title: str,
    legend: list[Patch],
    path: str | Path,
    notes: Sequence[str] = (),
) -> None:
    """Draws rows of captioned images pixel for pixel, with title and notes above and the legend below."""
    lines = math.ceil(len(legend) / (content // 160))
    legend_height = 30 * lines + MARGIN
    small = [line for note in notes for line in wrap(drawable(note, _LONGEST_NOTE), content // _WIDEST_LETTER)]
    header = MARGIN + (36 if title else 0) + NOTE * len(small)
    width = content + 2 * MARGIN
    height = header + sum(TITLE + row[0][1].shape[0] + GAP for row in rows) + legend_height
    figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI, facecolor=_unit(BACKGROUND))
    if title:
        shown = drawable(title, _LONGEST_TITLE)
        figure.text(MARGIN / width, 1 - MARGIN / height, shown, color=TEXT, fontsize=17, weight="bold", va="center")
    for number, line in enumerate(small, start=1):
        below = 1 - (header - MARGIN / 2 - NOTE * (len(small) - number)) / height
        figure.text(MARGIN / width, below, line, color=TEXT, fontsize=12, va="bottom")
    top = header
    for row in rows:
        left = MARGIN
        for caption, picture in row:
            tall, wide = picture.shape[:2]
            box = (left / width, 1 - (top + TITLE + tall) / height, wide / width, tall / height)
            axes = figure.add_axes(box)
            axes.imshow(picture, interpolation="nearest", aspect="auto")
            axes.set_axis_off()
            figure.text(left / width, 1 - (top + TITLE - 9) / height, caption, color=TEXT, fontsize=13, va="bottom")
            left += wide + GAP
        top += TITLE + row[0][1].shape[0] + GAP
    figure.legend(
        handles=legend, loc="lower center", ncols=math.ceil(len(legend) / lines), frameon=False, labelcolor=TEXT,
        fontsize=13, handlelength=1.2, handleheight=1.2, columnspacing=1.6, borderaxespad=0.8,
    )  # fmt: skip
    save(figure, path)


def save(figure: Figure, path: str | Path) -> None:
    """Writes a figure as a PNG file, whole or not at all; its folder is made.

    Raises:
        OSError: the file cannot be written; the error names `path`.
    """
    with whole_file(path) as file:
        figure.savefig(file, format="png")
