"""A training of a second, as `main.py` sets one up, on made-up batches."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from dataloader.sampler import EpochSampler, batches_done
from network.training.resuming import TrainingState
from network.training.task import SegmentationTask
from network.training.trainer import build_trainer, training_callbacks
from tests.support.networks import CLASSES, make_batch, make_network_3d
from utils.command.devices import Devices
from utils.config.optimizers import AdamParams, SGDParams
from utils.config.schedules import PlateauParams, WarmCosineParams
from utils.config.train import TrainParams
from utils.scan.records import Batch, Frame, WholeScan

# Under which keys checkpoints hold the states of early stopping and of the best checkpoints.
EARLY = "EarlyStopping{'monitor': 'val/mIoU', 'mode': 'max'}"
BEST = (
    "ModelCheckpoint{'monitor': 'val/mIoU', 'mode': 'max', 'every_n_train_steps': 0, 'every_n_epochs': 1, "
    "'train_time_interval': None}"
)
ADAM = TrainParams(max_num_epochs=2, learning_rate=0.01, optimizer=AdamParams(), lr_scheduler=WarmCosineParams())
PLATEAU = TrainParams(
    max_num_epochs=2,
    learning_rate=0.01,
    optimizer=SGDParams(),
    lr_scheduler=PlateauParams(decay_step=1, decay_rate=0.5),
)


def make_network(channels: int = 4):
    """Makes a tiny 3D network with one scale besides the finest."""
    return make_network_3d((2,), channels)


def evaluated_batch(points: int = 60) -> Batch:
    """Makes a scan to validate on, whose points all go through the network."""
    batch = make_batch((points,))
    everything = torch.ones(points, dtype=torch.bool), torch.arange(points)
    whole = WholeScan(Frame("08", "000000", "000000"), batch.points[:, :3], batch.labels.to(torch.uint8), *everything)
    return replace(batch, whole=(whole,))


def train(
    folder: Path,
    training: TrainParams = ADAM,
    resumed: TrainingState | None = None,
    save_top_k: int = 1,
    patience: int = 50,
    swa_from_epoch: int | None = None,
    batches: int = 2,
    **settings: Any,
) -> pl.Trainer:
    """Trains in `folder` (version_<n> of a run), two batches an epoch, with the checkpoints of a real training."""
    torch.manual_seed(0)
    accumulated = training.accumulate_grad_batches
    names, known = [f"class {i}" for i in range(CLASSES)], {"--seed": 0, "classes": ["a"]}
    task = SegmentationTask(make_network(), training, names, math.ceil(batches / accumulated), settings=known)
    trainer = build_trainer(
        Devices("cpu", [0], 1, "32"),
        folder,
        training_callbacks(folder, "val/mIoU", patience, save_top_k, swa_from_epoch, training.ema_decay),
        resumed,
        max_epochs=training.max_num_epochs,
        log_every_n_steps=1,
        accumulate_grad_batches=accumulated,
        **settings,
    )
    made: Any = {(epoch, i): make_batch((60,), i) for epoch in range(training.max_num_epochs) for i in range(batches)}
    sampler = EpochSampler(batches)
    if resumed is not None:
        sampler.begin_within(resumed.epochs, resumed.scans)
        task.batches_done = batches_done(batches, resumed.scans, 1, 1)
    scans: Any = [evaluated_batch()]
    path = None if resumed is None else resumed.path
    loader = DataLoader(made, batch_size=None, sampler=sampler, generator=torch.Generator())
    trainer.fit(task, loader, DataLoader(scans, batch_size=None), ckpt_path=path)
    return trainer
