"""The loaders of a training, as Lightning asks for them."""

from __future__ import annotations

from typing import Any, Protocol

import pytorch_lightning as pl


class Loading(Protocol):
    """The maker of the loaders for the share of a process; `dataloader.datamodule.DataModule` does."""

    def train_dataloader(
        self, rank: int = 0, world_size: int = 1, pin_memory: bool = False, begun: tuple[int, int] = (0, 0)
    ) -> Any:
        """Makes the loader of the training set."""
        ...

    def val_dataloader(self, rank: int = 0, world_size: int = 1, pin_memory: bool = False) -> Any:
        """Makes the loader of the evaluation set."""
        ...


class Loaders(pl.LightningDataModule):
    """The loaders of the process that the trainer has started.

    Args:
        data: makes them.
        begun: an epoch, and its first scans that have been trained on before the run was resumed.
    """

    def __init__(self, data: Loading, begun: tuple[int, int] = (0, 0)) -> None:
        super().__init__()
        self._data, self._begun = data, begun

    def train_dataloader(self) -> Any:
        """Makes the loader of the training set."""
        return self._data.train_dataloader(**self._share(), begun=self._begun)

    def val_dataloader(self) -> Any:
        """Makes the loader of the evaluation set."""
        return self._data.val_dataloader(**self._share())

    def _share(self) -> dict[str, Any]:
        trainer = self.trainer
        assert trainer is not None
        on_gpu = trainer.strategy.root_device.type == "cuda"
        return {"rank": trainer.global_rank, "world_size": trainer.world_size, "pin_memory": on_gpu}
