"""Callbacks of a training: the progress bar, the history with its curves, and averaged weights."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import (
    Checkpoint,
    TQDMProgressBar,
    WeightAveraging,
)
from torch.optim.swa_utils import get_ema_multi_avg_fn

from network.training.task import SegmentationTask
from utils.command import stopping
from utils.command.failures import lost_peer
from utils.command.terminal import say_error
from utils.files import write_text
from utils.pictures.charts import draw_training_curve
from utils.results.history import read_history as read_history
from utils.results.history import read_lines
from utils.results.run_folder import HISTORY


class ProgressBar(TQDMProgressBar):
    """Lightning's progress bar with the loss as its only number."""

    def get_metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Any]:
        """Returns the numbers to show: the loss, once there is one."""
        metrics = super().get_metrics(trainer, pl_module)
        return {name: metrics[name] for name in ("loss",) if name in metrics}

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Ends the other processes, and the line of the bar: the next message of the command starts on a new line."""
        if lost_peer(exception) is None:  # otherwise the lost process may still have to print its reason
            stopping.end_others()
        for bar in (self._val_progress_bar, self._test_progress_bar, self._train_progress_bar):
            if bar is not None:
                bar.close()


# Which values of the history the picture shows -> the name that it shows.
_CURVES = {
    "epoch": "epoch",
    "train/loss_epoch": "loss, total",
    "train/loss_3d_epoch": "loss, 3D network",
    "train/loss_fusion_epoch": "loss, fusion",
    "val/mIoU": "mIoU",
    "val/mIoU_published": "mIoU, published convention",
    "val/mIoU_moving": "mIoU, moving classes",
    "val/mIoU_static": "mIoU, static classes",
}


_PICTURE = "training_curve.png"


class History(Checkpoint):
    """A callback that writes one line of JSON per epoch and draws the training curve; a resumed run continues both.

    Lightning calls callbacks of class `Checkpoint` after all others, in the order of the list. This one is last, so
    the checkpoint of an epoch is not lost if the history cannot be written.

    Args:
        folder: the run's folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, SegmentationTask)
        metrics = {name: round(float(value), 6) for name, value in trainer.callback_metrics.items()}
        values: dict[str, Any] = {name: value for name, value in metrics.items() if name.endswith("_epoch")}
        conditions = pl_module.conditions
        if not trainer.is_global_zero:
            return
        if pl_module.validated:  # otherwise Lightning still has the scores of an earlier epoch
            values |= {name: value for name, value in metrics.items() if name.startswith("val/")}
            values |= {} if conditions is None else {"conditions": pl_module.judged.record()}
        epoch = trainer.current_epoch
        # A training that was resumed from an earlier checkpoint repeats epochs: their old lines go.
        before = [line for line in read_lines(self.folder) if line["epoch"] < epoch]
        history = [*before, {"epoch": epoch, **values}]
        write_text(self.folder / HISTORY, "".join(json.dumps(line) + "\n" for line in history))
        curves = [{_CURVES[k]: v for k, v in line.items() if k in _CURVES} for line in history]
        try:
            draw_training_curve(curves, self.folder / _PICTURE, "" if conditions is None else conditions.text)
        except OSError as error:  # nothing depends on the picture
            say_error(
                f"note: {self.folder / _PICTURE}: cannot be written ({error.strerror}); the training goes on",
                below_a_bar=True,
            )


class LateWeightAveraging(WeightAveraging):
    """Stochastic weight averaging (--SWA): the mean of the weights after each of the last epochs.

    From the first averaged epoch on, validation and checkpoints use the mean. BatchNorm statistics are averaged too.

    Args:
        start_epoch: first epoch, counted from 0, whose weights are averaged.
    """

    def __init__(self, start_epoch: int) -> None:
        super().__init__(use_buffers=True)
        self.start_epoch = start_epoch
        self._trainer: pl.Trainer | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._trainer = trainer

    def should_update(self, step_idx: int | None = None, epoch_idx: int | None = None) -> bool:
        """Returns whether to average now: after the last step of an epoch, before the validation that follows."""
        trainer = self._trainer
        return (
            step_idx is not None
            and trainer is not None
            and trainer.is_last_batch
            and trainer.current_epoch >= self.start_epoch
        )

    @property
    def _has_average(self) -> bool:
        return self._average_model is not None and int(self._average_model.n_averaged) > 0

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, SegmentationTask)
        if self._has_average:
            pl_module.average = (
                f"mean of the weights after epochs {self.start_epoch} to {trainer.current_epoch} (--SWA)"
            )
            super().on_validation_epoch_start(trainer, pl_module)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._has_average:
            super().on_validation_epoch_end(trainer, pl_module)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._has_average:
            super().on_train_end(trainer, pl_module)

    def on_save_checkpoint(self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict) -> None:
        if self._has_average:
            super().on_save_checkpoint(trainer, pl_module, checkpoint)

    def on_load_checkpoint(self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict) -> None:
        if "averaging_state" not in checkpoint:
            return
        if checkpoint["epoch"] < self.start_epoch:
            # The run now has more epochs than when it was started, so averaging starts later than this average did.
            pl_module.load_state_dict(checkpoint["current_model_state"])
        else:
            super().on_load_checkpoint(trainer, pl_module, checkpoint)


class MovingAverage(WeightAveraging):
    """Exponential moving average of the weights (`train_params.ema_decay`), updated by every optimiser step.

    The first step sets it to the weights. Validation and checkpoints use it. BatchNorm statistics are averaged too.

    Args:
        decay: share of the average that a step keeps.
    """

    def __init__(self, decay: float) -> None:
        super().__init__(use_buffers=True, multi_avg_fn=get_ema_multi_avg_fn(decay))
        self.decay = decay

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, SegmentationTask)
        if self._average_model is not None:
            name = f"moving average of the weights (ema_decay {self.decay:g})"
            pl_module.average = f"{name} after epoch {trainer.current_epoch}"
        super().on_validation_epoch_start(trainer, pl_module)

    def on_load_checkpoint(self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict) -> None:
        if "averaging_state" in checkpoint:  # otherwise the run had none so far, and the next step begins it
            super().on_load_checkpoint(trainer, pl_module, checkpoint)


def averaging_start(share: float, epochs: int) -> int:
    """Computes the first epoch to average; at least the last epoch is averaged.

    Args:
        share: `train_params.swa_epoch_start`, as a share of the epochs.
        epochs: number of epochs.
    """
    return min(math.floor(share * epochs), epochs - 1)
