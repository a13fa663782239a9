"""Weights & Biases: a run on its server, or offline in the run's folder."""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import WandbLogger

from network.training.trackers.run import Ending, Training
from network.training.trackers.run_ids import keep_run, known_run
from network.training.trackers.tracker import CLOSING, OPENING, first_line
from utils.results.run_settings import Plain

_EXIT_CODES: Mapping[Ending, int] = {"finished": 0, "failed": 1, "killed": 255}  # the last as W&B does after Ctrl-C
_UNASKED = {
    "SILENT": "true", "CONSOLE": "off", "DISABLE_CODE": "true", "DISABLE_GIT": "true", "ERROR_REPORTING": "false",
    "X_DISABLE_META": "true", "X_DISABLE_STATS": "true", "X_DISABLE_MACHINE_INFO": "true",
    "X_SAVE_REQUIREMENTS": "false",
}  # fmt: skip
"""Settings of W&B, by variables of the environment, which may say otherwise: what it would do unasked is off."""


class WandbRun:
    """A run of W&B. What its own environment variables say counts: WANDB_PROJECT, WANDB_ENTITY, WANDB_MODE and so on.

    Source code, console, measurements of the machine and reports to its makers are off.

    Args:
        training: the training.
    """

    def __init__(self, training: Training) -> None:
        for variable, value in _UNASKED.items():
            os.environ.setdefault(f"WANDB_{variable}", value)
        import wandb  # here: it is optional
        from wandb.errors import CommError

        folder = training.folder
        name = os.environ.get("WANDB_RUN_ID") or known_run(folder, "wandb") or uuid.uuid4().hex[:12]
        keep_run(folder, "wandb", name)
        settings = wandb.Settings(
            login_timeout=10.0,
            init_timeout=0.8 * OPENING,
            finish_timeout=0.8 * CLOSING["finished"],
            finish_timeout_raises=True,
        )
        self._logger = WandbLogger(
            name=None if "WANDB_NAME" in os.environ else training.name,
            project=os.environ.get("WANDB_PROJECT") or training.dataset,
            save_dir=folder,
            id=name,
            settings=settings,
        )
        self._logger._wandb_init.pop("anonymous")  # W&B warns of it, whatever its value
        unreachable = ""
        try:
            self._run: Any = self._logger.experiment
        except (CommError, TimeoutError) as error:
            unreachable = f"{first_line(error)}; "
            self._logger._wandb_init["mode"] = "offline"
            wandb.teardown(exit_code=1)  # or the name of the run would still be in use
            self._run = self._logger.experiment
        offline = f"{unreachable}offline; to upload it: wandb sync {folder}/wandb/offline-run-*-{name}"
        self.where = offline if self._run.offline else self._run.url or ""

    def settings(self, values: Mapping[str, Plain], step: int) -> None:
        """Takes the settings as the run's config."""
        self._run.config.update(dict(values), allow_val_change=True)

    def numbers(self, values: Mapping[str, float], step: int) -> None:
        """Takes numbers."""
        self._logger.log_metrics(values, step)

    def text(self, name: str, text: str, step: int) -> None:
        """Takes a text, into the summary of the run."""
        self._run.summary[name] = text

    def picture(self, name: str, path: Path, step: int) -> None:
        """Takes a picture."""
        self._logger.log_image(name, [str(path)], step)

    def close(self, ending: Ending) -> None:
        """Ends the run; waits until all is uploaded, but not for ever."""
        self._run.finish(exit_code=_EXIT_CODES[ending])
