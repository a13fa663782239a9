"""The scores of a published folder: of tests of this very checkpoint, and of no other."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from network.weights.configuration import Tested
from tools.publishing.origin import Origin
from utils.errors import UserError
from utils.files import read_text
from utils.names import shown
from utils.results.conditions import Conditions
from utils.results.published import MODEL
from utils.results.run_folder import SCORES
from utils.text import printable

_MAX_BYTES = 1 << 20
SAME, WEIGHTS = "same_weights", "weights_sha256"
"""What is written beside each test: whether it was one of the published weights as they are, and their digest."""


@dataclass(frozen=True)
class Scores:
    """A frozen record of the scores of one test.

    Attributes:
        record: what scores.json of the test holds, without paths.
        conditions: of the test.
        same_weights: whether the published weights are those that were tested, to the last bit; else they were rounded
            after the test.
    """

    record: dict[str, Any]
    conditions: Conditions
    same_weights: bool

    @property
    def miou(self) -> float:
        """The mIoU as the benchmark computes it, 0..1."""
        return self.record["val/mIoU"]

    @property
    def ious(self) -> dict[str, float | None]:
        """The IoU of each class by name, 0..1; None where the class does not count."""
        return self.record["iou"]

    @property
    def with_one_view(self) -> dict[str, Any]:
        """The scores of the scans as they are."""
        return self.record.get("one_view", self.record)


def read_scores(path: Path, tested: Tested, origin: Origin, exact: bool) -> Scores:
    """Reads the scores of a test.

    Args:
        path: scores.json of the test, or the folder with it.
        tested: the checkpoint that is published.
        origin: where its weights come from.
        exact: whether they are published as they are.

    Raises:
        UserError: they are not of this checkpoint, or damaged.
    """
    path = path / SCORES if path.is_dir() else path
    record = _read(path)
    if not _whole(record, tested.classes.names[1:]):
        raise _damaged(path)
    digest, name = record.get("checkpoint_sha256"), Path(record["checkpoint"]).name
    if not digest:
        raise UserError(f"{path}: does not say which file was tested, as earlier versions did not; test again")
    if digest not in (tested.sha256, origin.source):
        raise UserError(
            f"{path}: is of a test of another checkpoint ({shown(name)}), not of {tested.path}; test that one"
        )
    before = digest != tested.sha256 and bool(origin.rounded)  # it was tested before an earlier rounding
    return _published(record, printable(name), exact and not before)


def kept_scores(folder: Path, names: tuple[str, ...], weights: str) -> list[Scores]:
    """Reads back the scores in a published folder, which is published again.

    Args:
        folder: the folder.
        names: of the classes, without 0.
        weights: digest of the weights, see `tools.publishing.weights.digest_of`.

    Raises:
        UserError: the file is damaged, or is not of these weights.
    """
    path = folder / SCORES
    if not path.exists():
        return []
    records = _read(path).get("tests")
    if not isinstance(records, list) or not all(_whole(record, names) for record in records):
        raise _damaged(path)
    if any(record.get(WEIGHTS) != weights for record in records):
        raise UserError(
            f"{path}: is of other weights than {folder / MODEL}; remove it, or restore the one that was there"
        )
    return [_published(record, printable(record["checkpoint"]), record.get(SAME) is True) for record in records]


def scores_text(scores: Iterable[Scores], weights: str) -> str:
    """Makes the text of scores.json of a published folder; `weights` is their digest."""
    return json.dumps({"tests": [{**s.record, WEIGHTS: weights} for s in scores]}, indent=2) + "\n"


def _published(record: Mapping[str, Any], name: str, same: bool) -> Scores:
    """Returns a record with the name of the tested file in place of its path."""
    named = {**record, "checkpoint": name, SAME: same}
    return Scores(named, Conditions.of_record(named), same)


def _read(path: Path) -> dict[str, Any]:
    try:
        text = read_text(path)
        record = json.loads(text) if len(text) <= _MAX_BYTES else None
        json.dumps(record, allow_nan=False)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); --scores takes scores.json of a test") from None
    except (ValueError, RecursionError):
        raise _damaged(path) from None
    if not isinstance(record, dict):
        raise _damaged(path)
    return record


def _whole(record: Any, names: tuple[str, ...]) -> bool:
    """Returns whether a record has conditions, and scores of classes with these names."""
    try:
        Conditions.of_record(record)
    except (KeyError, TypeError, AttributeError):
        return False
    return all(_shares(scores, names) for scores in (record, record.get("one_view", record)))


def _shares(scores: Any, names: tuple[str, ...]) -> bool:
    if not isinstance(scores, dict) or not isinstance(ious := scores.get("iou"), dict):
        return False
    overall = [scores.get(name) for name in ("val/mIoU", "val/mIoU_published", "val/acc")]
    shares = [*overall, *(iou for iou in ious.values() if iou is not None)]
    return tuple(ious) == names and all(type(x) in (int, float) and math.isfinite(x) and 0 <= x <= 1 for x in shares)


def _damaged(path: Path) -> UserError:
    return UserError(f"{path}: not readable as the scores of a test by main.py --test; test again")
