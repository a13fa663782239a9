"""A callback that fills the cache of a frozen teacher before the first step, in all processes of the run together."""

from __future__ import annotations

from collections.abc import Sequence

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

from network.teachers.cache import Read, fill
from network.teachers.teacher import Encoder
from utils.feature_files import FeatureFiles, Picture


class TeacherFeatures(Callback):
    """Computes the features of all training images that are not kept yet, in the arithmetic of the training.

    Args:
        files: where they are kept.
        pictures: all that the training looks at.
        encoder: the teacher.
        read: reads a picture.
    """

    def __init__(self, files: FeatureFiles, pictures: Sequence[Picture], encoder: Encoder, read: Read) -> None:
        self._files, self._pictures, self._encoder, self._read = files, pictures, encoder, read

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Fills the cache; each process begins at another place of the list, so that they rarely meet."""
        first = trainer.global_rank * len(self._pictures) // trainer.world_size
        mine = [*self._pictures[first:], *self._pictures[:first]]
        device = trainer.strategy.root_device
        fill(self._files, mine, self._encoder, self._read, device, trainer.precision_plugin.forward_context)
