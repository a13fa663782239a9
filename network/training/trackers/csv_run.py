"""A table of all numbers and texts, metrics.csv in the run's folder."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning_fabric.loggers.csv_logs import _ExperimentWriter
from pytorch_lightning.loggers import CSVLogger

from network.training.trackers.run import Ending, Training
from utils.errors import UserError
from utils.files import read_text, write_text
from utils.results.run_settings import Plain

_TABLE = _ExperimentWriter.NAME_METRICS_FILE


class _Rows(_ExperimentWriter):
    """Lightning's table, except that a resumed training goes on with the rows that are there.

    Args:
        folder: the run's folder.
        steps: rows from this step on are removed, since the training does these steps again.
    """

    def __init__(self, folder: Path, steps: int) -> None:
        self._steps = steps
        super().__init__(str(folder))

    def _check_log_dir_exists(self) -> None:
        """Reads the rows that are there, where Lightning would remove the file."""
        path = Path(self.metrics_file_path)
        rows = _rows_of(path) if path.exists() else []
        kept = [row for row in rows if (row["step"] or "").isdecimal() and int(row["step"]) < self._steps]
        self.metrics_keys = sorted({name for row in kept for name in row})
        if kept:
            self._write(kept)
        else:
            path.unlink(missing_ok=True)

    def _rewrite_with_new_header(self, fieldnames: list[str]) -> None:
        self._write(_rows_of(Path(self.metrics_file_path)))

    def _write(self, rows: list[dict[str, Any]]) -> None:
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, self.metrics_keys)
        writer.writeheader()
        writer.writerows(rows)
        write_text(self.metrics_file_path, text.getvalue())


def _rows_of(path: Path) -> list[dict[str, str]]:
    """Reads the whole rows of a table; a run that was killed may have left a part of one at the end.

    Raises:
        UserError: it is no such table.
    """
    text = read_text(path, errors="replace")
    whole = text[: text.rfind("\n") + 1]
    try:
        rows = list(csv.DictReader(io.StringIO(whole, newline=""), strict=True))
    except csv.Error as error:
        raise UserError(f"{path}: {error}; move it away") from error
    if rows and "step" not in rows[0]:
        raise UserError(f"{path}: no table of a training; move it away")
    return [row for row in rows if None not in row and None not in row.values()]


class CSVRun:
    """The table of a training. Its settings are in config.yaml beside it, and its pictures in pictures/.

    Args:
        training: the training.
    """

    where = ""

    def __init__(self, training: Training) -> None:
        folder = training.folder
        self._logger = CSVLogger(folder.parent.parent, folder.parent.name, folder.name)
        self._logger._experiment = _Rows(folder, training.steps)

    def settings(self, values: Mapping[str, Plain], step: int) -> None:
        """Takes the settings as a table of their own, settings.csv."""
        text = io.StringIO(newline="")
        csv.writer(text).writerows([("setting", "value"), *values.items()])
        write_text(Path(self._logger.log_dir) / "settings.csv", text.getvalue())

    def numbers(self, values: Mapping[str, float], step: int) -> None:
        """Takes a row."""
        self._logger.log_metrics(dict(values), step)
        self._logger.save()

    def text(self, name: str, text: str, step: int) -> None:
        """Takes a row with a text."""
        self.numbers({name: text}, step)  # type: ignore[dict-item]

    def picture(self, name: str, path: Path, step: int) -> None:
        """Takes a row with the path of the picture."""
        self.text(name, str(path), step)

    def close(self, ending: Ending) -> None:
        """Ends nothing: each row is on the disk."""
