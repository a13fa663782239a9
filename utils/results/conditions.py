"""The conditions of a score, beside the network: they stand wherever a score is printed or written.

Scores of several views, of a split that was trained on or of a part of the labels do not compare with others.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from utils.config.schema import Config
from utils.files import read_text
from utils.results.run_folder import SCORES


@dataclass(frozen=True)
class TrainedOn:
    """A frozen record of what a network was trained on, as its checkpoint says.

    Attributes:
        evaluated: whether scans of the split that is evaluated were among it.
        fraction: the share of the training scans that were (`dataset_params.label_fraction`); None: all.
        began: the checkpoint from which its fine-tuning began, and what that was trained on, a phrase; "": none.
    """

    evaluated: bool
    fraction: float | None = None
    began: str = ""

    @staticmethod
    def of(config: Config, trained: Collection[str], evaluated: Iterable[str], began: str = "") -> TrainedOn:
        """Gathers it from the config of the training.

        Args:
            config: of the training.
            trained: the sequences that its label mapping lists for training; empty where the split is elsewhere.
            evaluated: those that are evaluated.
            began: see above.
        """
        return TrainedOn(
            config.train_params.trainval or not set(trained).isdisjoint(evaluated),
            config.dataset_params.label_fraction,
            began,
        )

    @property
    def text(self) -> str:
        """A phrase."""
        part = "" if self.fraction is None else f", on {100 * self.fraction:g} % of the training scans"
        began = f", fine-tuned from {self.began}" if self.began else ""
        scans = "also trained on scans of this split" if self.evaluated else "not trained on this split"
        return f"{scans}{part}{began}"


@dataclass(frozen=True)
class Conditions:
    """A frozen record of the conditions of a score.

    Attributes:
        split: "validation" or "test".
        scans: number of scans that were evaluated; fewer than the split has with --debug. 0: not known.
        views: test-time views of each scan; 1: the scan as it is.
        checkpoint: the file of the weights; or which weights these are, in a training.
        trained_on: what they were trained on; None: not known, as of published checkpoints.
        subset: of corrupted scans, its name; "": the scans are as measured.
        checkpoint_sha256: of the file of the weights, in hexadecimal digits; "": not known.
    """

    split: str
    scans: int
    views: int
    checkpoint: str
    trained_on: TrainedOn | None
    subset: str = ""
    checkpoint_sha256: str = ""

    @property
    def one_view(self) -> Conditions:
        """The same with one view."""
        return replace(self, views=1)

    @property
    def views_text(self) -> str:
        """The number of views in words."""
        return "one view" if self.views == 1 else f"{self.views} views"

    @property
    def text(self) -> str:
        """One line of text."""
        subset = f" ({self.subset})" if self.subset else ""
        trained = "what it was trained on is not known" if self.trained_on is None else self.trained_on.text
        number = f"{self.scans} scan{'s' if self.scans != 1 else ''} of " if self.scans else ""
        scans = f"{number}the {self.split} split{subset}"
        return f"{scans}, {self.views_text}; {self.checkpoint}, {trained}"

    @staticmethod
    def of_record(record: Mapping[str, Any]) -> Conditions:
        """Reads back what `record` has written; earlier versions have written less.

        Raises:
            KeyError: the views or the checkpoint are missing.
            TypeError: a value has another type, as anybody may have edited the file.
        """

        known = _typed(record.get("trained_on_split"), bool, type(None))
        fraction = _typed(record.get("label_fraction"), float, int, type(None))
        return Conditions(
            _typed(record.get("split", "validation"), str),
            _typed(record.get("scans", 0), int),
            _typed(record.get("views", record["num_vote"]), int),
            _typed(record["checkpoint"], str),
            None if known is None else TrainedOn(known, fraction, _typed(record.get("began_with", ""), str)),
            _typed(record.get("subset", ""), str),
            _typed(record.get("checkpoint_sha256", ""), str),
        )

    def record(self) -> dict[str, str | int | float | bool | None]:
        """Returns the plain values that stand beside a score in a file, by name."""
        known = {} if self.trained_on is None else asdict(self.trained_on)
        return {
            "split": self.split,
            "scans": self.scans,
            "views": self.views,
            "checkpoint": self.checkpoint,
            **({"checkpoint_sha256": self.checkpoint_sha256} if self.checkpoint_sha256 else {}),
            "trained_on_split": known.get("evaluated"),
            "label_fraction": known.get("fraction"),
            **({"began_with": known["began"]} if known.get("began") else {}),
            **({"subset": self.subset} if self.subset else {}),
        }


def _typed(value: Any, *kinds: type) -> Any:
    """Returns a value that has one of the types."""
    if type(value) not in kinds:
        raise TypeError(f"{type(value).__name__} where {kinds[0].__name__} is expected")
    return value


_UNKNOWN = "the conditions of its test are not known"
_KEPT_IN = ("predictions", "submission")
"""Folders that a test makes beside its scores, for its predictions."""


def conditions_of_prediction(path: Path) -> str:
    """Returns a line about the conditions under which a test has made a file with a prediction.

    Scores of it are comparable under the same conditions only. They are read from the scores that lie beside the folder
    of the predictions; those of predict.py and of a test split have no scores.

    Args:
        path: the file.
    """
    for folder in path.absolute().parents:
        scores = folder.parent / SCORES
        if folder.name in _KEPT_IN and os.path.exists(scores):
            try:
                return Conditions.of_record(json.loads(read_text(scores))).text
            except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
                return f"{_UNKNOWN}: {scores} is not readable"
    return _UNKNOWN
