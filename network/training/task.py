"""Training and validation of any network of the project; tests need no Lightning, see `network.testing`."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from network.evaluation.graphed import GraphedEvaluation
from network.evaluation.voting import segment
from network.models.pretraining import DistillationPretraining
from network.models.segmentation_network import SegmentationNetwork
from network.training.epoch_means import EpochMeans
from network.training.gradient_guard import GradientGuard
from network.training.optimizers import build_optimizer, fill_momentum, trained_parameters
from network.training.resuming import fixed_on_resume
from network.training.schedules import Schedule, build_scheduler
from network.weights.description import DESCRIPTION
from network.weights.pretrained import PRETRAINING
from utils.config.schedules import PlateauParams
from utils.config.train import TrainParams
from utils.metrics import format_table
from utils.point_counts import SegmentationMetrics
from utils.results.conditions import Conditions
from utils.results.run_settings import Settings
from utils.scan.records import Batch, Segmentation


class SegmentationTask(pl.LightningModule):
    """Steps, scores and optimisation around a network with `predict(batch)` and `training_losses(batch)`.

    Args:
        network: any network of `assemble`.
        training: settings of the optimiser and of its schedule.
        class_names: K names, the ignored class first.
        steps_per_epoch: optimiser steps per epoch, for the schedules that count steps.
        num_devices: number of processes, for the published warm-up.
        monitor: the score that a plateau schedule watches.
        seed: seed of what is random in the network.
        skip_unseen: how classes that never occur count; see `SegmentationMetrics`.
        moving: learning ids of the classes that move, for a mean of their own.
        settings: stored in checkpoints, to be compared by `utils.results.run_settings` when the run is resumed.
        description: stored in checkpoints, so that they can be used without the config; see
            `network.weights.description`.
        conditions: of the scores of validations; None: not known.
    """

    def __init__(
        self,
        network: SegmentationNetwork,
        training: TrainParams,
        class_names: Sequence[str],
        steps_per_epoch: int = 1,
        num_devices: int = 1,
        monitor: str = "val/mIoU",
        seed: int = 0,
        skip_unseen: bool = False,
        moving: Sequence[int] = (),
        settings: Settings | None = None,
        description: Mapping[str, Any] | None = None,
        conditions: Conditions | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.training_params = training
        self.steps_per_epoch, self.num_devices = steps_per_epoch, num_devices
        self.monitor, self.seed = monitor, seed
        # Plain values, whatever classes of text or number they had: a checkpoint with others could not be read again.
        self.settings: Settings = json.loads(json.dumps(settings or {}))
        self.description = None if description is None else json.loads(json.dumps(description))
        self.is_pretraining = isinstance(network, DistillationPretraining)  # it has no scores
        self.conditions = conditions
        self.metrics = SegmentationMetrics(class_names, skip_unseen, moving)
        self.validated = False  # in the current epoch
        self.average = ""  # a phrase: of which weights a validation judges the average; "": no average
        self.best_miou = 0.0
        self.guard = GradientGuard(network)
        self.means = EpochMeans()
        self.scans = 0  # of this epoch, that all processes have trained on; 0 once it is complete
        self.batches_done = 0  # batches of the first epoch that were done before the run was resumed
        self._first_batch = 0  # of this epoch that this run trains on
        self._schedule: Schedule | None = None
        self._plateau: ReduceLROnPlateau | None = None
        self._plateau_state: dict[str, Any] | None = None
        self._evaluation: GraphedEvaluation | None = None

    def setup(self, stage: str) -> None:
        """Warms up the network, before the processes of a distributed training wait for each other."""
        dtype = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}.get(str(self.trainer.precision))
        device = self.trainer.strategy.root_device
        self.network.warm_up(device, dtype or torch.float32, training=True)

    # ---- training

    def on_train_start(self) -> None:
        fill_momentum(self.trainer.optimizers[0])

    def on_train_epoch_start(self) -> None:
        self.validated = False
        assert self._schedule is not None
        batches = int(self.trainer.num_training_batches)
        accumulated = self.trainer.accumulate_grad_batches
        self._schedule.place(self.current_epoch, math.ceil(batches / accumulated), self.batches_done // accumulated)
        self._first_batch, self.batches_done = self.batches_done, 0
        self.guard.remember()

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        # What is random in the network depends on epoch, batch and process alone: a resumed run repeats it, and no two
        # processes drop the same features.
        place = (self.seed, self.current_epoch, batch_idx, self.trainer.global_rank)
        torch.manual_seed(int(np.random.SeedSequence(place).generate_state(1, np.uint64)[0]))
        if batch_idx % self.trainer.accumulate_grad_batches == 0:  # the first batch of a step
            self.guard.remember()

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Computes and logs the losses of a batch; returns their weighted sum, a scalar.

        A step over several batches takes the mean of their gradients. Lightning divides by `accumulate_grad_batches`,
        also in the last step of an epoch, which may have fewer, and in the first of a run that was resumed within an
        epoch with other batches than before.
        """
        losses = self.network.training_losses(batch)
        named = {f"train/{name}": value.detach() for name, value in losses.items()}
        self.log_dict({f"{name}_step": value for name, value in named.items()}, batch_size=batch.num_scans)
        self.means.add(named, batch.num_scans)
        # Only the last batch of an epoch may be a smaller one in some processes.
        self.scans = 0 if self.trainer.is_last_batch else self.scans + batch.num_scans * self.trainer.world_size
        self.log("loss", losses["loss"].detach(), prog_bar=True, logger=False, batch_size=batch.num_scans)
        every: int = self.trainer.log_every_n_steps  # type: ignore[attr-defined]
        if (self.global_step + 1) % every == 0:  # sent to a GPU, a number makes the host wait
            rate = self.trainer.optimizers[0].param_groups[0]["lr"]
            self.log("train/learning_rate", rate, batch_size=batch.num_scans)
        most = self.trainer.accumulate_grad_batches
        start = batch_idx - batch_idx % most
        in_step = min(start + most, int(self.trainer.num_training_batches)) - max(start, self._first_batch)
        return losses["loss"] if in_step == most else losses["loss"] * (most / in_step)

    def configure_gradient_clipping(
        self,
        optimizer: Any,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clips the gradients of a step by norm; where they hold NaN or inf, the step changes nothing and is counted.

        The schedule advances all the same.
        """
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), self.training_params.gradient_clip_norm)
        self.guard.judge(norm, self.trainer.optimizers[0])

    def on_train_epoch_end(self) -> None:
        self.log_dict({f"{name}_epoch": mean for name, mean in self.means.take().items()})
        self.log("train/skipped_batches", float(self.guard.skipped))

    def configure_optimizers(self) -> Any:
        """Builds the optimiser, and the schedule in the form that Lightning asks for."""
        p = self.training_params
        optimizer = self._build_optimizer(trained_parameters(self.network))
        schedule = self._schedule = build_scheduler(
            optimizer, p.lr_scheduler, p.max_num_epochs, self.steps_per_epoch, self.num_devices
        )
        if isinstance(schedule.scheduler, ReduceLROnPlateau):
            # Lightning would advance it after the epoch's checkpoint is written, and a resumed run would miss a step.
            self._plateau = schedule.scheduler
            if self._plateau_state is not None:
                counted = ("best", "num_bad_epochs", "cooldown_counter", "last_epoch")
                self._plateau.load_state_dict({key: self._plateau_state[key] for key in counted})
            return optimizer
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule.scheduler, "interval": schedule.interval},
        }

    def _build_optimizer(self, parameters: Iterable[nn.Parameter]) -> Optimizer:
        return build_optimizer(parameters, self.training_params.optimizer, self.training_params.learning_rate)

    # ---- validation

    def on_validation_epoch_start(self) -> None:
        self.metrics.reset()
        if self.trainer.world_size > 1:
            # Every process has BatchNorm statistics of its own; the checkpoint holds those of the first.
            for buffer in self.network.buffers():
                torch.distributed.broadcast(buffer, src=0)

    def validation_step(self, batch: Batch, batch_idx: int) -> dict[str, list[Segmentation]]:
        """Segments the scans of a batch and counts their scores; returns the results as "segmented", for callbacks.

        Outputs that are NaN or infinite lower the score; `GradientGuard` handles their gradients.
        """
        found = segment(self.network, batch) if self._evaluation is None else self._evaluation.segment(batch)
        for segmentation in found:
            self.metrics.update(segmentation.prediction, segmentation.whole.labels, segmentation.whole.inside)
        return {"segmented": found}

    def on_validation_epoch_end(self) -> None:
        scores = self.metrics.scores()
        self.best_miou = max(self.best_miou, scores.miou)
        self.validated = True
        named = {**scores.named(), "val/best_miou": self.best_miou}
        self.log_dict(named)
        if self._plateau is not None:  # before a checkpoint of this validation is written
            self._plateau.step(float(named[self.monitor]))
        per_class = zip(scores.class_names, map(float, scores.iou), strict=True)  # for trackers
        self.log_dict({f"val_iou/{name}": iou for name, iou in per_class if not math.isnan(iou)})
        self.print(format_table(scores, self.best_miou))
        if self.conditions is not None:
            self.print(self.judged.text)

    @property
    def judged(self) -> Conditions:
        """The conditions of the validation of this epoch, which must be known.

        Raises:
            ValueError: they are not known.
        """
        if self.conditions is None:
            raise ValueError("the conditions of validations are not known")
        weights = self.average or f"weights of epoch {self.current_epoch}"
        return replace(self.conditions, checkpoint=weights)

    # ---- checkpoints

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["2dpass"] = {
            "best_miou": self.best_miou,
            "skipped_batches": self.guard.skipped,
            "scans_of_epoch": self.scans,
            "means_of_epoch": self.means.state() if self.scans else {},
            "geometry": self.network.geometry(),
            "settings": self.settings,
            "train_params": fixed_on_resume(self.training_params),
            "plateau": None if self._plateau is None else self._plateau.state_dict(),
            **({PRETRAINING: True} if self.is_pretraining else {}),
            **({} if self.description is None else {DESCRIPTION: self.description}),
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restores the state of a training: only what does not follow from the settings comes from the file.

        A checkpoint is written at the end of an epoch, or after a step of one. Lightning would end an epoch a second
        time, with the number of steps that it had then; here the next epoch begins as it does in an uninterrupted
        training, and one in the middle of which the run was interrupted goes on behind the scans that are done.
        """
        (options,) = self._build_optimizer([nn.Parameter(torch.zeros(1))]).param_groups
        stored = ("params", "lr") if isinstance(self.training_params.lr_scheduler, PlateauParams) else ("params",)
        for state in checkpoint["optimizer_states"]:
            state["param_groups"] = [options | {key: group[key] for key in stored} for group in state["param_groups"]]
        _begin_after(self.trainer, checkpoint["epoch"] + 1, checkpoint["global_step"])
        ours = checkpoint["2dpass"]
        self.scans = ours.get("scans_of_epoch", 0)
        if self.scans:
            self.means.restore(ours["means_of_epoch"])
            _begin_within(self.trainer, self.batches_done)
        self.best_miou = ours.get("best_miou", 0.0)
        self.guard.skipped = ours.get("skipped_batches", 0)
        if ours.get("settings", {}).get("--monitor", self.monitor) == self.monitor:  # other scores do not compare
            self._plateau_state = ours.get("plateau")


def _begin_after(trainer: pl.Trainer, epochs: int, steps: int) -> None:
    """Sets the counters of the trainer to those after so many epochs and optimiser steps."""
    progress, loop = trainer.fit_loop.epoch_progress, trainer.fit_loop.epoch_loop
    for counts in (progress.total, progress.current):
        for name in ("ready", "started", "processed", "completed"):
            setattr(counts, name, epochs)
    done = loop.automatic_optimization.optim_progress.optimizer.step.total
    done.ready = done.completed = steps
    loop._batches_that_stepped = steps  # what loggers count


def _begin_within(trainer: pl.Trainer, batches: int) -> None:
    """Lets the first epoch begin with so many of its batches done; its loader yields the rest."""
    loop = trainer.fit_loop.epoch_loop
    start = loop.on_run_start

    def on_run_start(fetcher: Any) -> None:
        loop.on_run_start = start  # type: ignore[method-assign]
        for counts in (loop.batch_progress.total, loop.batch_progress.current):
            for name in ("ready", "started", "processed", "completed"):
                setattr(counts, name, batches)
        start(fetcher)

    loop.on_run_start = on_run_start  # type: ignore[method-assign]
