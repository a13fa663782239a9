"""The checkpoint `last.ckpt`, from which an interrupted run is resumed; a run that is asked to end writes it first."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback, ModelCheckpoint

from network.training.agreement import Agreement
from utils.command import stopping
from utils.command.devices import PEER_TIMEOUT

BYTES_PER_SECOND = 10_000_000


class LightningsKey(Callback):
    """A callback whose state is stored in checkpoints under the name of its base class in Lightning.

    Earlier versions used that class itself, so their checkpoints have the state under this name.
    """

    @property
    def state_key(self) -> str:
        """The key under which a checkpoint stores the state of this callback."""
        lightnings = next(base for base in type(self).__mro__ if base.__module__.startswith(pl.__name__))
        return super().state_key.replace(type(self).__qualname__, lightnings.__qualname__, 1)


class LastCheckpoint(LightningsKey, ModelCheckpoint):
    """Writes the checkpoint to resume from: of the last finished epoch, or of a step in the middle of one.

    It is written after the last epoch, and after every epoch that ends at least as many seconds after the last writing
    as the file has tens of megabytes. So a run of one-step epochs does not write its 213 MB fifty times over, and a run
    that is killed has lost no more than those 21 seconds and the epochs that they touch. On the same condition it is
    written before the last step of an epoch that is validated, so that a kill in a long validation costs that alone.

    A run that is asked to (`stopping.requested`) writes it after a step on which its processes agree, and ends before
    the next one, when loggers have the numbers of the last. What is asked in a validation, where processes cannot
    agree, ends the run at once.

    Args:
        folder: the run's folder.
        name: name of the file, without .ckpt.
        timeout: seconds after which a process that does not answer counts as lost.
    """

    def __init__(self, folder: Path, name: str, timeout: float = PEER_TIMEOUT) -> None:
        super().__init__(
            dirpath=folder, filename=name, save_on_train_epoch_end=True, every_n_epochs=1, enable_version_counter=False
        )
        self._path = folder / f"{name}.ckpt"
        self._next = -math.inf  # earliest time of the next writing, by the monotonic clock
        self._timeout = timeout
        self._agreement: Agreement | None = None
        self._saved: tuple[int, str] | None = None  # the signal that asked for it, and where: the run ends

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Lets the run save from now on, when a signal asks it to end."""
        super().on_train_start(trainer, pl_module)
        self._agreement = Agreement(trainer.world_size, self._timeout)
        stopping.saving_first(True)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Ends a run that has saved after an epoch."""
        self._stop_if_saved(trainer)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Ends a run that has saved in the middle of an epoch."""
        super().on_train_batch_start(trainer, pl_module, batch, batch_idx)
        self._stop_if_saved(trainer)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Writes after a step if the processes were asked to save; the last step leads to the epoch's end."""
        assert self._agreement is not None
        done, accumulated = batch_idx + 1, trainer.accumulate_grad_batches
        if trainer.is_last_batch or done % accumulated:
            return
        before_validation = done + accumulated >= trainer.num_training_batches and _is_validated(trainer)
        if number := self._agreement.after_a_step():
            self._write(trainer)
            self._saved = number, f"saved after {done} of {trainer.num_training_batches} steps of an epoch"
        elif before_validation and self._is_due(trainer):
            self._write(trainer)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Ends a run that was asked to, and lets signals end it at once as long as it validates."""
        super().on_validation_start(trainer, pl_module)
        if self._agreement is not None:
            if number := self._agreement.now():
                self._stop(trainer, number, "before a validation")
            stopping.saving_first(False)
            if number := stopping.requested():  # that came since
                self._stop(trainer, number, "before a validation")

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_validation_end(trainer, pl_module)
        if self._agreement is not None:
            stopping.saving_first(True)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Lets signals end the run at once: it is complete."""
        stopping.nothing_to_save()
        super().on_train_end(trainer, pl_module)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Lets signals end a run at once that has failed."""
        stopping.nothing_to_save()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert self._agreement is not None
        final = trainer.should_stop or trainer.current_epoch + 1 == trainer.max_epochs
        asked = 0 if final else self._agreement.now()
        if final or asked or self._is_due(trainer):
            super().on_train_epoch_end(trainer, pl_module)
            self._note_time(trainer)
        if asked:
            self._saved = asked, f"saved after epoch {trainer.current_epoch}"

    def _is_due(self, trainer: pl.Trainer) -> bool:
        """Returns whether it is time; the processes write together, and their clocks differ."""
        return trainer.strategy.broadcast(time.monotonic() >= self._next)

    def _write(self, trainer: pl.Trainer) -> None:
        self._save_checkpoint(trainer, str(self._path))
        self._note_time(trainer)

    def _note_time(self, trainer: pl.Trainer) -> None:
        if trainer.is_global_zero:
            self._next = time.monotonic() + self._path.stat().st_size / BYTES_PER_SECOND

    def _stop_if_saved(self, trainer: pl.Trainer) -> None:
        if self._saved is not None:
            self._stop(trainer, *self._saved)

    def _stop(self, trainer: pl.Trainer, number: int, where: str) -> None:
        go_on = f"--checkpoint last continues from {self._path}"
        if not self._path.exists():  # a first epoch of one step
            go_on = "nothing is saved yet, the training begins again"
        line = f"interrupted, {where}; {go_on}"
        stopping.stop(number, line if trainer.is_global_zero else "")


def _is_validated(trainer: pl.Trainer) -> bool:
    """Returns whether a validation follows on the epoch."""
    every = trainer.check_val_every_n_epoch
    return bool(trainer.limit_val_batches) and bool(every) and (trainer.current_epoch + 1) % (every or 1) == 0
