"""The output of a test: scores, confusion matrix, pictures, and predictions or a submission if asked for."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from utils.files import write_text
from utils.labels import LabelMap
from utils.locks import new_folder
from utils.metrics import ScoreCard
from utils.pictures.charts import draw_confusion
from utils.pictures.scans import draw_scan
from utils.results.conditions import Conditions
from utils.results.predictions import Expected, PredictionFormat, Sink
from utils.results.run_folder import SCORES
from utils.scan.records import Segmentation
from utils.scan.sensor import Sensor

PICTURES = 4


class EvaluationOutput:
    """The writer of all results of a test; every process writes its own scans, and the first one finishes.

    Args:
        folder: folder of the results.
        label_map: names and colours of the classes.
        expected: returns every frame of the test.
        file_format: file format of the data set's predictions.
        sensor: sensor of the scans.
        conditions: of the scores.
        submit: whether to make the zip for the benchmark server.
        save_predictions: whether to keep the prediction files.
        settings: what else is stored beside the scores.
    """

    def __init__(
        self,
        folder: Path,
        label_map: LabelMap,
        expected: Callable[[], Iterable[Expected]],
        file_format: PredictionFormat,
        sensor: Sensor,
        conditions: Conditions,
        submit: bool = False,
        save_predictions: bool = False,
        settings: Mapping[str, str | int] | None = None,
    ) -> None:
        self.folder = folder
        self._label_map, self._expected, self._format = label_map, expected, file_format
        self._sensor, self.conditions = sensor, conditions
        self._submit, self._save_predictions = submit, save_predictions
        self._settings = settings or {}
        self._sinks: dict[str, Sink] = {}
        self._drawn = 0

    def make_folder(self) -> Path:
        """Makes the folder, which no other test uses; called by one process."""
        return new_folder(self.folder)

    def open(self, folder: Path) -> None:
        """Starts to write, into the folder on which all processes agree."""
        self.folder = folder
        self._drawn = 0
        self._sinks = {}
        if self._submit:
            self._sinks["submission"] = self._format.submission(folder / "submission")
        if self._save_predictions:
            self._sinks["predictions"] = self._format.predictions(folder / "predictions")

    def write(self, segmentation: Segmentation) -> None:
        """Takes the result of one scan."""
        for sink in self._sinks.values():
            sink.write(segmentation)
        if self._drawn < PICTURES:
            self._drawn += 1
            self._draw(segmentation)

    def finish(self, scores: ScoreCard | None, one_view: ScoreCard | None = None) -> list[str]:
        """Closes all files, on the first process; returns the lines for the user.

        Args:
            scores: of the views that the conditions name; None: there are none.
            one_view: of the scans as they are, if there are more views.
        """
        lines = [f"pictures: {self.folder / 'pictures'}"]
        if scores is not None and scores.points:
            draw_confusion(
                scores,
                self._label_map.names[0],
                self.folder / "confusion.png",
                f"{self.conditions.text}{also(one_view)}",
            )
            write_text(self.folder / SCORES, json.dumps(self._record(scores, one_view), indent=2) + "\n")
            lines.append(f"scores: {self.folder / SCORES}, confusion matrix: {self.folder / 'confusion.png'}")
        expected = list(self._expected())
        for name, sink in self._sinks.items():
            lines.append(f"{name}: {sink.finish(expected)} ({len(expected)} frames)")
        return lines

    def _draw(self, segmentation: Segmentation) -> None:
        whole = segmentation.whole
        labels = whole.labels.cpu().numpy()
        draw_scan(
            whole.xyz.cpu().numpy(),
            self._sensor,
            labels if labels.any() else None,
            segmentation.prediction.cpu().numpy(),
            self._label_map.colors,
            self._label_map.names,
            self.folder / "pictures" / f"{whole.frame.sequence}_{whole.frame.name}.png",
            title=f"{whole.frame.sequence} / {whole.frame.name}",
            notes=[self.conditions.text],
        )

    def _record(self, scores: ScoreCard, one_view: ScoreCard | None) -> dict[str, object]:
        return {
            "num_vote": self.conditions.views,
            **self.conditions.record(),
            **self._settings,
            "points": scores.points,
            **_figures(scores),
            **({} if one_view is None else {"one_view": _figures(one_view)}),
        }


def also(one_view: ScoreCard | None) -> str:
    """Returns the end of a sentence with the score of one view; "" if there is none beside the other."""
    return "" if one_view is None else f"; with one view: mIoU {100 * one_view.miou:.2f} %"


def _figures(scores: ScoreCard) -> dict[str, object]:
    """Returns the scores as plain values, by name."""
    return {
        **scores.named(),
        "iou": _by_class(scores.class_names, scores.iou),
        "published_iou": _by_class(scores.class_names, scores.published_iou),
    }


def _by_class(names: Iterable[str], ious: NDArray[np.float64]) -> dict[str, float | None]:
    """Returns the IoU of each class by name; None for NaN, a class that does not count, since JSON has no NaN."""
    return {name: None if math.isnan(iou) else float(iou) for name, iou in zip(names, ious, strict=True)}
