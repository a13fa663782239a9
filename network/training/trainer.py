"""The Lightning trainer of this project: devices, precision and callbacks."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import pytorch_lightning as pl
from pytorch_lightning.callbacks import (
    Callback,
    ModelCheckpoint,
)
from pytorch_lightning.loggers import Logger

from network.training.best_checkpoints import BestCheckpoints, Patience
from network.training.callbacks import History, LateWeightAveraging, MovingAverage, ProgressBar
from network.training.checkpoint_io import WholeFileCheckpoints
from network.training.last_checkpoint import LastCheckpoint
from network.training.processes import Processes, leave_signals_alone
from network.training.resuming import TrainingState
from utils.command.devices import PEER_TIMEOUT, Devices
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
    bar: bool = True,
    loggers: Sequence[Logger] = (),
    **settings: Any,
) -> pl.Trainer:
    """Builds a trainer that runs on `devices`.

    Args:
        devices: the devices and the precision.
        folder: the run's folder; None for a test.
        callbacks: callbacks beside the progress bar, see `training_callbacks`.
        resumed: state of the training to resume; its path must also be given to `fit`.
        bar: show a progress bar.
        loggers: loggers of Lightning.
        settings: further arguments of `pl.Trainer`.
    """
    for library in ("pytorch_lightning", "lightning_fabric"):  # they set their own level when they are imported
        logging.getLogger(library).setLevel(logging.WARNING)
    set_fp32_arithmetic(tf32=devices.precision == "tf32")
    # On a GPU, reading the loss for the bar makes the host wait, so it is refreshed less often.
    watched = sys.stderr.isatty() and devices.accelerator == "cpu"
    strategy: Any = "auto"
    if devices.count > 1:
        # BatchNorm buffers are not broadcast at every step: the task does that before an evaluation. Otherwise
        # evaluation steps would wait for each other for ever, because their number differs between processes.
        strategy = Processes(
            process_group_backend="gloo" if devices.accelerator == "cpu" else None,
            broadcast_buffers=False,
            gradient_as_bucket_view=True,
            timeout=timedelta(seconds=devices.peer_timeout),
        )
    trainer = pl.Trainer(
        accelerator=devices.accelerator,
        devices=devices.ids if devices.accelerator == "gpu" else devices.per_node,
        num_nodes=devices.num_nodes,
        strategy=strategy,
        precision=_PRECISION[devices.precision],
        plugins=[WholeFileCheckpoints(resumed)],
        use_distributed_sampler=False,  # the data module distributes scans itself, without padding in evaluation
        num_sanity_val_steps=0,
        default_root_dir=folder,  # under SLURM, Lightning resumes from any hpc_ckpt_<n>.ckpt that it finds there
        logger=list(loggers),
        callbacks=[*([ProgressBar(refresh_rate=1 if watched else 10)] if bar else []), *callbacks],
        enable_progress_bar=bar,
        enable_model_summary=False,
        enable_checkpointing=any(isinstance(c, ModelCheckpoint) for c in callbacks),
        **settings,
    )
    leave_signals_alone(trainer)
    return trainer


def training_callbacks(
    folder: Path,
    monitor: str | None,
    stop_patience: int,
    save_top_k: int,
    swa_from_epoch: int | None,
    ema_decay: float | None = None,
    peer_timeout: int = PEER_TIMEOUT,
) -> list[Callback]:
    """Builds the callbacks of a training: checkpoints (best and last), early stopping, training curve, averaging.

    Args:
        folder: the run's folder.
        monitor: name of the score to maximise; None: there are no scores, and nothing depends on them.
        stop_patience: number of validations without a better score after which training stops.
        save_top_k: number of best checkpoints to keep; -1 keeps all.
        swa_from_epoch: first epoch that --SWA averages; None for no averaging.
        ema_decay: decay of a moving average of the weights, instead of --SWA; None for none.
        peer_timeout: seconds after which a process that does not answer counts as lost.
    """
    averaging: list[Callback] = [] if swa_from_epoch is None else [LateWeightAveraging(swa_from_epoch)]
    if ema_decay is not None:
        averaging = [MovingAverage(ema_decay)]
    # Averaging comes first, so that the checkpoints, which come later, hold the average.
    scored = [] if monitor is None else [Patience(monitor, stop_patience), BestCheckpoints(folder, monitor, save_top_k)]
    return [
        *averaging,
        *scored,
        LastCheckpoint(folder, LAST, peer_timeout),
        History(folder),
    ]
