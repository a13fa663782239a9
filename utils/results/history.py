"""The history of a training: a line of JSON per epoch, as `network.training.callbacks.History` writes it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from utils.files import read_text
from utils.results.run_folder import HISTORY


def read_history(folder: Path) -> list[dict[str, float]]:
    """Reads the numbers in the history of a run: one dict per epoch, in order; damaged lines are left out.

    If an epoch was trained twice, the later line counts. A missing or unreadable file is an empty history.
    """
    return [{name: value for name, value in line.items() if type(value) in (int, float)} for line in read_lines(folder)]


def read_lines(folder: Path) -> list[dict[str, Any]]:
    """Reads the history as `read_history` does, with what is no number: the conditions of the scores."""
    try:
        text = read_text(folder / HISTORY, errors="replace")
    except OSError:
        return []
    by_epoch = {line["epoch"]: line for line in map(_history_line, text.splitlines()) if line is not None}
    return [by_epoch[epoch] for epoch in sorted(by_epoch)]


def _history_line(text: str) -> dict[str, Any] | None:
    try:
        line = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(line, dict) or type(line.get("epoch")) is not int:
        return None
    return line
