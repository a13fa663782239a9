"""The result of each subset of a robustness test, and the table (CSV) that holds them."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from utils.corruptions import CLEAN, Subset
from utils.errors import UserError
from utils.files import require_regular, write_text
from utils.metrics import Convention, ScoreCard
from utils.results.conditions import Conditions
from utils.robustness.family import CONVENTIONS, Profile

_DIGITS = 6


_ONE_VIEW = "mIoU_one_view_"
_FIXED = ("subset", "corruption", "severity", "convention", "mIoU", "accuracy")


@dataclass(frozen=True)
class SubsetResult:
    """The figures of one subset (%), rounded, so that one read back is the one that was written.

    Attributes:
        subset: which.
        scans: number of scans.
        points: number of labelled points.
        miou, accuracy: by convention.
        iou: by convention, then by class; None for a class that does not count.
        one_view: the mIoU of the scans as they are, by convention, where the others are of several views; None: it is
            not known, or the same.
        conditions: of the figures, a line (`utils.results.conditions`); "" in files of earlier versions.
    """

    subset: Subset
    scans: int
    points: int
    miou: dict[Convention, float]
    accuracy: dict[Convention, float]
    iou: dict[Convention, dict[str, float | None]]
    one_view: dict[Convention, float] | None = None
    conditions: str = ""

    @staticmethod
    def of(
        subset: Subset, conditions: Conditions, scores: ScoreCard, one_view: ScoreCard | None = None
    ) -> SubsetResult:
        """Makes the result from the scores of a test; `one_view` are those of one view beside those of several."""
        by_class = {"official": scores.iou, "published": scores.published_iou}
        return SubsetResult(
            subset,
            conditions.scans,
            scores.points,
            _miou(scores),
            {"official": _percent(scores.accuracy), "published": _percent(scores.published_accuracy)},
            {
                convention: {
                    name: None if math.isnan(iou) else _percent(iou)
                    for name, iou in zip(scores.class_names, by_class[convention], strict=True)
                }
                for convention in CONVENTIONS
            },
            None if one_view is None else _miou(one_view),
            conditions.text,
        )

    @property
    def alone(self) -> SubsetResult | None:
        """The result of one view, whose other figures are not known; None where this is it, or there is none."""
        return None if self.one_view is None else replace(self, miou=self.one_view, one_view=None)


def _miou(scores: ScoreCard) -> dict[Convention, float]:
    return {"official": _percent(scores.miou), "published": _percent(scores.published_miou)}


def _percent(share: float) -> float:
    return round(100 * float(share), _DIGITS)


def write_results(results: Iterable[SubsetResult], convention: Convention, path: Path) -> None:
    """Writes the rows as CSV; a reader sees the old file or the new one, whole.

    Args:
        results: in the order of the rows.
        convention: that of the columns mIoU and accuracy; both are in columns of their own too.
        path: the file.
    """
    rows = [_row(result, convention) for result in results]
    text = io.StringIO(newline="")
    if rows:
        writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    write_text(path, text.getvalue())


def _row(result: SubsetResult, convention: Convention) -> dict[str, Any]:
    subset = result.subset
    row: dict[str, Any] = dict(
        zip(_FIXED, (subset.name, subset.corruption, subset.severity, convention), strict=False),
        mIoU=result.miou[convention],
        accuracy=result.accuracy[convention],
    )
    for which in CONVENTIONS:
        row |= {f"mIoU_{which}": result.miou[which], f"accuracy_{which}": result.accuracy[which]}
        row |= {f"{_ONE_VIEW}{which}": "" if result.one_view is None else result.one_view[which]}
    row |= {"scans": result.scans, "points": result.points, "conditions": result.conditions}
    for which in CONVENTIONS:
        row |= {f"IoU_{which} {name}": iou for name, iou in result.iou[which].items()}
    return row


def read_results(path: Path) -> list[SubsetResult]:
    """Reads the rows of a summary.csv, in their order.

    Raises:
        UserError: the file cannot be read, or is not one of ours.
    """
    try:
        require_regular(path)
        with path.open(encoding="utf-8", newline="") as file:
            rows = csv.DictReader(file)
            if rows.fieldnames is not None and not set(_FIXED) <= set(rows.fieldnames):
                raise ValueError("other columns")
            return [_result(row) for row in rows]
    except OSError as error:
        raise UserError(f"{path}: cannot read it ({error.strerror}); give a summary.csv of robust_test.py") from error
    except (ValueError, KeyError, TypeError, csv.Error) as error:
        raise UserError(
            f"{path}: not a summary.csv of robust_test.py, or a damaged one; remove or restore it"
        ) from error


def _result(row: Mapping[str, str]) -> SubsetResult:
    if None in row or None in row.values():
        raise ValueError("more or fewer cells than columns")
    iou: dict[Convention, dict[str, float | None]] = {}
    for which in CONVENTIONS:
        prefix = f"IoU_{which} "
        cells = {key.removeprefix(prefix): cell for key, cell in row.items() if key.startswith(prefix)}
        iou[which] = {name: _from_cell(cell) if cell else None for name, cell in cells.items()}
    return SubsetResult(
        Subset(row["subset"], row["corruption"], row["severity"]),
        _count(row["scans"]),
        _count(row["points"]),
        {which: _from_cell(row[f"mIoU_{which}"]) for which in CONVENTIONS},
        {which: _from_cell(row[f"accuracy_{which}"]) for which in CONVENTIONS},
        iou,
        # An earlier version has no such columns.
        {which: _from_cell(row[_ONE_VIEW + which]) for which in CONVENTIONS}
        if row.get(f"{_ONE_VIEW}official")
        else None,
        row.get("conditions", ""),
    )


def _count(cell: str) -> int:
    """Reads a number of things."""
    if not (cell.isascii() and cell.isdigit()):
        raise ValueError("a number that is none")
    return int(cell)


def _from_cell(cell: str) -> float:
    """Reads a figure in percent."""
    figure = float(cell)
    if not 0 <= figure <= 100:  # NaN neither
        raise ValueError("a percentage that is none")
    return figure


def profile_of(name: str, results: Iterable[SubsetResult], convention: Convention) -> Profile:
    """Gathers the mIoU of all rows, for the metrics."""
    clean = None
    severities: dict[str, dict[str, float]] = {}
    for result in results:
        if result.subset.corruption == CLEAN:
            clean = result.miou[convention]
        else:
            severities.setdefault(result.subset.corruption, {})[result.subset.severity] = result.miou[convention]
    return Profile(name, clean, severities, {}, {})
