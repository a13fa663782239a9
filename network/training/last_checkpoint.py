"""`last.ckpt`: from where a run that was killed goes on."""

from __future__ import annotations

import math
import time
from pathlib import Path

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback, ModelCheckpoint

BYTES_PER_SECOND = 10_000_000


class LightningsKey(Callback):
    """A callback whose state has the name in checkpoints that its base class gives it, one of Lightning's.

    Checkpoints of earlier versions, which had that class itself, have it under this name.
    """

    @property
    def state_key(self) -> str:
        """The key of its state in a checkpoint."""
        lightnings = next(base for base in type(self).__mro__ if base.__module__.startswith(pl.__name__))
        return super().state_key.replace(type(self).__qualname__, lightnings.__qualname__, 1)


class LastCheckpoint(LightningsKey, ModelCheckpoint):
    """Writes the checkpoint of the last finished epoch, but not all the time where epochs are short.

    It is written after the last epoch, and after every epoch that ends at least as many seconds after the last writing
    as the file has tens of megabytes. So a run of one-step epochs does not write its 213 MB fifty times over, and a run
    that is killed has lost no more than those 21 seconds and the epochs that they touch.

    Args:
        folder: the run's folder.
        name: of the file, without .ckpt.
    """

    def __init__(self, folder: Path, name: str) -> None:
        super().__init__(
            dirpath=folder, filename=name, save_on_train_epoch_end=True, every_n_epochs=1, enable_version_counter=False
        )
        self._path = folder / f"{name}.ckpt"
        self._next = -math.inf  # when it may be written, by the monotonic clock

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        final = trainer.should_stop or trainer.current_epoch + 1 == trainer.max_epochs
        # The processes write together, and their clocks differ.
        if not trainer.strategy.broadcast(final or time.monotonic() >= self._next):
            return
        super().on_train_epoch_end(trainer, pl_module)
        if trainer.is_global_zero:
            self._next = time.monotonic() + self._path.stat().st_size / BYTES_PER_SECOND
