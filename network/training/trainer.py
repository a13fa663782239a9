"""The Lightning trainer of this project: devices, precision, and what happens around the epochs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import pytorch_lightning as pl
from pytorch_lightning.callbacks import (
    Callback,
    ModelCheckpoint,
)
from pytorch_lightning.loggers import TensorBoardLogger

from network.training.best_checkpoints import BestCheckpoints, Patience
from network.training.callbacks import History, LateWeightAveraging, ProgressBar
from network.training.checkpoint_io import WholeFileCheckpoints
from network.training.last_checkpoint import LastCheckpoint
from network.training.processes import Processes, leave_signals_alone
from network.training.resuming import TrainingState
from utils.command.devices import Devices
from utils.fp32 import set_fp32_arithmetic
from utils.results.run_folder import LAST

_PRECISION: dict[str, Literal["32-true", "bf16-mixed", "16-mixed"]] = {
    "32": "32-true",
    "tf32": "32-true",
    "bf16": "bf16-mixed",
    "16": "16-mixed",
}


def build_trainer(
    devices: Devices,
    folder: Path | None = None,
    callbacks: Sequence[Callback] = (),
    resumed: TrainingState | None = None,
    **settings: Any,
) -> pl.Trainer:
    """A trainer on `devices`; with `folder` it logs to TensorBoard there.

    Args:
        devices: where to run.
        folder: the run's folder; None for a test.
        callbacks: see `training_callbacks`.
        resumed: the training to go on with; its path is to be given to `fit`.
        settings: further arguments of `pl.Trainer`.
    """
    set_fp32_arithmetic(tf32=devices.precision == "tf32")
    # On a GPU, reading the loss for the bar makes the host wait.
    watched = sys.stderr.isatty() and devices.accelerator == "cpu"
    strategy: Any = "auto"
    if devices.count > 1:
        # BatchNorm buffers are not broadcast at every step: the task does that before an evaluation, and evaluation
        # steps, which differ in number between processes, would otherwise wait for each other for ever.
        strategy = Processes(
            process_group_backend="gloo" if devices.accelerator == "cpu" else None,
            broadcast_buffers=False,
            gradient_as_bucket_view=True,
        )
    trainer = pl.Trainer(
        accelerator=devices.accelerator,
        devices=devices.ids if devices.accelerator == "gpu" else devices.per_node,
        num_nodes=devices.num_nodes,
        strategy=strategy,
        precision=_PRECISION[devices.precision],
        plugins=[WholeFileCheckpoints(resumed)],
        use_distributed_sampler=False,  # the data module shares scans out itself, without padding the evaluation
        num_sanity_val_steps=0,
        default_root_dir=folder,  # under SLURM, Lightning takes up any hpc_ckpt_<n>.ckpt that it finds there
        logger=False if folder is None else TensorBoardLogger(folder.parent.parent, folder.parent.name, folder.name),
        callbacks=[ProgressBar(refresh_rate=1 if watched else 10), *callbacks],
        enable_model_summary=False,
        enable_checkpointing=any(isinstance(c, ModelCheckpoint) for c in callbacks),
        **settings,
    )
    leave_signals_alone(trainer)
    return trainer


def training_callbacks(
    folder: Path, monitor: str, stop_patience: int, save_top_k: int, swa_from_epoch: int | None
) -> list[Callback]:
    """Checkpoints (best and last), early stopping, the training curve, and averaging if wanted.

    Args:
        folder: the run's folder.
        monitor: the score to maximise.
        stop_patience: validations without a better score before training stops.
        save_top_k: how many of the best checkpoints are kept; -1: every one.
        swa_from_epoch: first epoch that --SWA averages; None: no averaging.
    """
    averaging = [] if swa_from_epoch is None else [LateWeightAveraging(swa_from_epoch)]
    # Averaging comes first: the checkpoints behind it then hold the average.
    return [
        *averaging,
        Patience(monitor, stop_patience),
        History(folder),
        BestCheckpoints(folder, monitor, save_top_k),
        LastCheckpoint(folder, LAST),
    ]
