"""The first steps of a training, taken again: their losses show whether a recipe still begins as it did."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from dataloader.catalogue import load_label_map
from dataloader.datamodule import training_items
from dataloader.opening import open_sources
from dataloader.sampler import EpochSampler, steps_per_epoch
from network.assemble import build_network
from network.training.loaders import Loaders
from network.training.task import SegmentationTask
from network.training.trainer import build_trainer
from utils.command.devices import Devices
from utils.config.schema import Config
from utils.scan.batch import pack
from utils.scan.packing import PackedBatch
from utils.scan.records import Batch


class _Batches:
    """The loaders of a training that has these batches, and no validation."""

    def __init__(self, batches: Sequence[PackedBatch]) -> None:
        self._batches = batches

    def train_dataloader(
        self, rank: int = 0, world_size: int = 1, pin_memory: bool = False, begun: tuple[int, int] = (0, 0)
    ) -> DataLoader[Any]:
        return DataLoader(self._batches, batch_size=None, collate_fn=None)  # type: ignore[arg-type]

    def val_dataloader(self, rank: int = 0, world_size: int = 1, pin_memory: bool = False) -> DataLoader[Any]:
        return self.train_dataloader()


class _Noting(SegmentationTask):
    """A training that notes the loss of each step."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.losses: list[float] = []

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        loss = super().training_step(batch, batch_idx)
        self.losses.append(float(loss.detach()))
        return loss


def first_losses(config: Config, seed: int, steps: int | None = None) -> list[float]:
    """Takes the first steps of the training of `main.py --config` with a config and a seed, on the CPU.

    Args:
        config: the experiment, with one scan in a batch; its training scans are on disk.
        seed: as --seed.
        steps: number of steps; None: the first epoch.

    Returns:
        The loss of each step.

    Raises:
        UserError: scans are missing.
    """
    label_map, loader = load_label_map(config), config.dataset_params.train_data_loader
    source = open_sources(config, label_map, fit=True).training
    assert source is not None
    torch.manual_seed(seed)
    network = build_network(config)
    items = training_items(config, label_map, source, images=True, seed=seed)
    keys = islice(EpochSampler(len(items), loader.shuffle, seed), steps)
    batches = [pack([items[key]], with_images=True, input_dims=config.model_params.input_dims) for key in keys]
    task = _Noting(
        network,
        config.train_params,
        label_map.names,
        steps_per_epoch(len(items), loader.batch_size, 1, config.train_params.accumulate_grad_batches),
        seed=seed,
    )
    devices = Devices("cpu", [0], 1, "32")
    trainer = build_trainer(devices, bar=False, max_epochs=1, limit_val_batches=0, log_every_n_steps=1)
    trainer.fit(task, datamodule=Loaders(_Batches(batches)))
    return task.losses
