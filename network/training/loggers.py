"""The experiment trackers of a training, and what they are given beside the numbers that Lightning passes on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
from numpy.typing import NDArray
from pytorch_lightning.callbacks import Checkpoint, ModelCheckpoint

from network.training.best_checkpoints import BestCheckpoints
from network.training.last_checkpoint import LastCheckpoint
from network.training.task import SegmentationTask
from network.training.trackers.csv_run import CSVRun
from network.training.trackers.run import Run, Training
from network.training.trackers.tensorboard_run import TensorBoardRun
from network.training.trackers.tracker import Tracker
from utils.command.terminal import say, say_error
from utils.labels import LabelMap
from utils.pictures.scans import draw_errors
from utils.results.run_settings import Plain
from utils.scan.records import Frame, Segmentation
from utils.scan.sensor import Sensor

PICTURES = 3
FOLDER = "pictures"
"""In the run's folder: the pictures of each validation."""


def _wandb(training: Training) -> Run:
    from network.training.trackers.wandb_run import WandbRun  # here: it is optional

    return WandbRun(training)


def _mlflow(training: Training) -> Run:
    from network.training.trackers.mlflow_run import MLflowRun  # here: it is optional

    return MLflowRun(training)


def build_trackers(names: Sequence[str], training: Training) -> list[Tracker]:
    """Builds the loggers that --logger names; `Tracking` opens them.

    Args:
        names: names of trackers.
        training: the training.
    """
    begin: Mapping[str, Callable[[Training], Run]] = {
        "tensorboard": TensorBoardRun,
        "csv": CSVRun,
        "wandb": _wandb,
        "mlflow": _mlflow,
    }
    kept = {"wandb": f"what it has not sent: wandb sync {training.folder}/wandb/*run-*"}
    return [
        Tracker(name, partial(begin[name], training), name in ("wandb", "mlflow"), kept.get(name, "")) for name in names
    ]


@dataclass(frozen=True)
class Shown:
    """A frozen record of the scans of which each validation makes pictures.

    Attributes:
        frames: the scans; all of them are among those that the first process validates.
        label_map: names and colours of the classes.
        sensor: the LiDAR that took the scans.
    """

    frames: frozenset[Frame]
    label_map: LabelMap
    sensor: Sensor

    def draw(self, segmentation: Segmentation, folder: Path, title: str, notes: Sequence[str]) -> Path:
        """Draws ground truth, prediction and errors of a scan; returns the PNG file.

        Raises:
            OSError: it cannot be written.
        """
        whole = segmentation.whole
        name = f"{whole.frame.sequence}_{whole.frame.name}"
        path = folder / f"{name}.png"
        labels, prediction = _array(whole.labels), _array(segmentation.prediction)
        colors, names = self.label_map.colors, self.label_map.names
        title = f"{whole.frame.sequence} / {whole.frame.name}, {title}"
        draw_errors(_array(whole.xyz), self.sensor, labels, prediction, colors, names, path, title, notes)
        return path


def shown_scans(count: int, world_size: int) -> list[int]:
    """Chooses scans of a validation set for pictures, spread over it: always the same ones.

    Args:
        count: number of scans.
        world_size: number of processes, of which the first validates the scans 0, `world_size` and so on.

    Returns:
        Up to `PICTURES` numbers of scans that the first process validates.
    """
    spread = ((2 * number + 1) * count // (2 * PICTURES) for number in range(PICTURES))
    return sorted({index - index % world_size for index in spread})


class Tracking(Checkpoint):
    """A callback that opens the trackers of a training, and gives them what Lightning does not.

    That is: the settings; of each validation its conditions, and pictures of a few scans, made of the predictions that
    the validation has made anyway; and the paths of the checkpoints. Only the first process does so. Lightning calls
    callbacks of class `Checkpoint` last, so the checkpoints of an epoch are there.

    Args:
        trackers: the trackers, which also must be the loggers of the trainer.
        training: the training.
        settings: what decides how it goes, by name.
        shown: the scans to draw.
    """

    def __init__(
        self, trackers: Sequence[Tracker], training: Training, settings: Mapping[str, Plain], shown: Shown
    ) -> None:
        self._trackers, self._folder = trackers, training.folder
        self._settings, self._shown = settings, shown
        self._segmented: list[Segmentation] = []
        self._said: dict[str, str] = {}

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Opens the trackers."""
        for tracker in self._trackers if trainer.is_global_zero else ():
            if where := tracker.open():
                say(f"{tracker.name}: {where}")

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Passes on the settings and the conditions of all scores."""
        assert isinstance(pl_module, SegmentationTask)
        for tracker in self._trackers:
            tracker.log_settings(self._settings, trainer.global_step)
        if pl_module.conditions is not None and not pl_module.is_pretraining:
            self._say("val/conditions", pl_module.conditions.text, trainer.global_step)

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._segmented = []

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keeps the results of the scans to draw."""
        if trainer.is_global_zero:
            self._segmented += [one for one in outputs["segmented"] if one.whole.frame in self._shown.frames]

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draws them."""
        assert isinstance(pl_module, SegmentationTask)
        step, epoch = max(trainer.global_step - 1, 0), trainer.current_epoch  # the step of the scores
        if not trainer.is_global_zero:
            return
        notes = []
        if pl_module.conditions is not None:
            notes.append(pl_module.judged.text)
            self._say("val/conditions", notes[0], step)
        for segmentation in self._segmented:
            try:
                path = self._shown.draw(
                    segmentation, self._folder / FOLDER / f"epoch_{epoch:03d}", f"epoch {epoch}", notes
                )
            except OSError as error:  # nothing depends on a picture
                say_error(f"note: {error.filename}: cannot be written ({error.strerror}); the training goes on", True)
                continue
            for tracker in self._trackers:
                tracker.log_picture(f"val/{path.stem}", path, step)
        self._segmented = []

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Passes on the paths of checkpoints that are new."""
        for callback in trainer.checkpoint_callbacks:
            kind = {BestCheckpoints: "best", LastCheckpoint: "last"}.get(type(callback))
            if kind is not None and isinstance(callback, ModelCheckpoint) and callback.best_model_path:
                path = self._folder / Path(callback.best_model_path).name  # Lightning has made it absolute
                self._say(f"checkpoint/{kind}", str(path), max(trainer.global_step - 1, 0))

    def _say(self, name: str, text: str, step: int) -> None:
        """Passes a text on, unless it is the last one of that name."""
        if self._said.get(name) != text:
            self._said[name] = text
            for tracker in self._trackers:
                tracker.log_text(name, text, step)


def _array(tensor: Any) -> NDArray[Any]:
    return np.asarray(tensor.cpu())
