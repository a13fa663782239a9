"""TensorBoard: event files in the run's folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image
from pytorch_lightning.loggers import TensorBoardLogger

from network.training.trackers.run import Ending, Training
from utils.results.run_settings import Plain


class TensorBoardRun:
    """The event file of a training, beside those of its parts before it was resumed.

    Of those, TensorBoard shows what is older than the resumed step: what was logged later is done again.

    Args:
        training: the training.
    """

    where = ""

    def __init__(self, training: Training) -> None:
        folder, steps = training.folder, training.steps
        self._logger = TensorBoardLogger(
            folder.parent.parent, folder.parent.name, folder.name, purge_step=steps or None
        )
        self._writer = self._logger.experiment

    def settings(self, values: Mapping[str, Plain], step: int) -> None:
        """Takes the settings, as a table."""
        rows = [f"| {_cell(name)} | {_cell(value)} |" for name, value in values.items()]
        self._writer.add_text("settings", "\n".join(["| setting | value |", "|---|---|", *rows]), step)

    def numbers(self, values: Mapping[str, float], step: int) -> None:
        """Takes scalars."""
        for name, value in values.items():  # not by the logger, which takes a full disk for a value of a wrong kind
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def text(self, name: str, text: str, step: int) -> None:
        """Takes a text."""
        self._writer.add_text(name, _cell(text), step)

    def picture(self, name: str, path: Path, step: int) -> None:
        """Takes a picture."""
        with Image.open(path) as image:
            self._writer.add_image(name, np.asarray(image.convert("RGB")), step, dataformats="HWC")

    def close(self, ending: Ending) -> None:
        """Closes the file."""
        self._logger.finalize(ending)


def _cell(value: object) -> str:
    """Returns a value as Markdown that shows it as it is."""
    return "".join(f"\\{c}" if c in "\\`*_{}[]<>()#+-.!|~" else c for c in str(value).replace("\n", " "))
