"""Work on a numbered list, shared by the processes of a run as Lightning, torchrun or SLURM starts them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from network.training.trainer import build_trainer
from utils.command import stopping
from utils.command.devices import Devices
from utils.command.failures import lost_peer

Made = TypeVar("Made")


class _Share(pl.LightningModule):
    """A module that does its work in one step: the share of this process."""

    def __init__(self, work: Callable[[torch.device, int, int], Any]) -> None:
        super().__init__()
        self._work = work
        self.made: list[Any] = []

    def predict_step(self, batch: Any, batch_idx: int) -> bool:
        """Carries the work out, and gathers what all processes have made."""
        trainer = self.trainer
        try:
            own = self._work(trainer.strategy.root_device, trainer.global_rank, trainer.world_size)
        except BaseException as error:
            if lost_peer(error) is None:  # otherwise the lost process may still have to print its reason
                stopping.end_others()
            raise
        self.made = [own]
        if trainer.world_size > 1:
            self.made = [None] * trainer.world_size
            torch.distributed.all_gather_object(self.made, own)
        return True  # Lightning warns of None


def share_out(devices: Devices, work: Callable[[torch.device, int, int], Made]) -> list[Made]:
    """Runs `work(device, rank, number of processes)` in every process, and returns what each has made, in all of them.

    Args:
        devices: where to run.
        work: the share of a process; what it makes can be pickled.
    """
    module = _Share(work)
    trainer = build_trainer(devices, bar=False)
    one_step: Any = [0]
    trainer.predict(module, DataLoader(one_step), return_predictions=False)
    return module.made
