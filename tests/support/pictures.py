"""Runs without the pictures that they draw at every epoch and after a test, which take a third of a small run."""

from __future__ import annotations

from pathlib import Path

import pytest


def leave_out_pictures(patch: pytest.MonkeyPatch) -> None:
    """Has the runs of a test draw no curves, no confusion matrices and no scans, at validations and at tests.

    `tests/test_main.py` and `tests/test_every_config.py` look at these of whole runs, `tests/utils/pictures/` at each.
    """
    leave_out_charts(patch)
    patch.setattr("network.training.loggers.PICTURES", 0)
    patch.setattr("utils.results.evaluation.PICTURES", 0)


def leave_out_charts(patch: pytest.MonkeyPatch) -> None:
    """Has the runs of a test draw no curves and no confusion matrices; scans are drawn."""
    patch.setattr("network.training.callbacks.draw_training_curve", _no_picture)
    patch.setattr("utils.results.evaluation.draw_confusion", _no_picture)


def _no_picture(content: object, *words: object) -> None:
    """Draws nothing, and makes the folder of the picture as drawing does."""
    (path,) = (word for word in words if isinstance(word, Path))
    path.parent.mkdir(parents=True, exist_ok=True)
