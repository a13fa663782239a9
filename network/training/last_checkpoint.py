"""The checkpoint `last.ckpt`, from which an interrupted run is resumed."""

from __future__ import annotations

import math
import time
from pathlib import Path

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback, ModelCheckpoint

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
    """Writes the checkpoint of the last finished epoch, but less often than every epoch where epochs are short.

    It is written after the last epoch, and after every epoch that ends at least as many seconds after the last writing
    as the file has tens of megabytes. So a run of one-step epochs does not write its 213 MB fifty times over, and a run
    that is killed has lost no more than those 21 seconds and the epochs that they touch.

    Args:
        folder: the run's folder.
        name: name of the file, without .ckpt.
    """

    def __init__(self, folder: Path, name: str) -> None:
        super().__init__(
            dirpath=folder, filename=name, save_on_train_epoch_end=True, every_n_epochs=1, enable_version_counter=False
        )
        self._path = folder / f"{name}.ckpt"
        self._next = -math.inf  # earliest time of the next writing, by the monotonic clock

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        final = trainer.should_stop or trainer.current_epoch + 1 == trainer.max_epochs
        # The processes write together, and their clocks differ.
        if not trainer.strategy.broadcast(final or time.monotonic() >= self._next):
            return
        super().on_train_epoch_end(trainer, pl_module)
        if trainer.is_global_zero:
            self._next = time.monotonic() + self._path.stat().st_size / BYTES_PER_SECOND
