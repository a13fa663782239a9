"""A training: weights, trainer, run folder, and what is said about them."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Checkpoint

from commands.caching import keep_features
from commands.data import open_data, with_past
from dataloader.datamodule import DataModule, expected_scans
from dataloader.datasets.chosen import frame_list
from dataloader.experiment import Experiment
from dataloader.opening import Sources
from dataloader.sampler import batches_done, steps_per_epoch
from network.assemble import build_network, parameter_count
from network.models.pretraining import DistillationPretraining
from network.models.segmentation_network import SegmentationNetwork
from network.training.best_checkpoints import Patience
from network.training.callbacks import averaging_start
from network.training.loaders import Loaders
from network.training.loggers import Shown, Tracking, build_trackers, shown_scans
from network.training.resuming import TrainingState, check_resumable, is_resumable
from network.training.schedules import warmup_length
from network.training.task import SegmentationTask
from network.training.trackers.run import Training
from network.training.trackers.tracker import Tracker
from network.training.trainer import build_trainer, training_callbacks
from network.weights.configuration import beginning
from network.weights.description import describe
from network.weights.loading import holds_image_branch, load_image_branch, load_weights
from network.weights.reading import read_checkpoint
from network.weights.widening import frozen_teacher, load_to_fine_tune, refuse_narrower
from utils.command.devices import is_first_process, say_first
from utils.config.loading import save_config
from utils.config.schedules import PER_STEP, CosineWarmupParams, MultiStepLRParams
from utils.config.train import TrainParams
from utils.errors import UserError
from utils.files import remove_partials, write_text
from utils.results.conditions import Conditions, TrainedOn
from utils.results.run_folder import LAST, TRAINING_SCANS, only_training_in, training_folder
from utils.results.run_settings import TEACHER, Settings, check_settings, config_settings, flattened

_TOLD_FLAGS = (
    "baseline_only", "pretrain_distill", "fine_tune", "new_head", "pretrain2d", "debug", "stop_patience",
    "check_val_every_n_epoch", "save_top_k",
)  # fmt: skip
"""Flags that trackers are told beside those of `_run_settings`."""


def train(args: argparse.Namespace, experiment: Experiment, sources: Sources) -> None:
    """Trains; validates after every epoch; keeps the best and the last checkpoint."""
    config = experiment.config
    pl.seed_everything(args.seed, workers=True, verbose=False)
    data = open_data(experiment, images=not args.baseline_only, sources=sources, labels=not args.pretrain_distill)
    content = None if experiment.checkpoint is None else read_checkpoint(experiment.checkpoint)
    imagenet = content is None or (args.fine_tune and not _holds_resnet(content, experiment.checkpoint))
    network = build_network(config, args.baseline_only, imagenet, pretraining=args.pretrain_distill)
    if not data.debug:
        _refuse_endless_warmup(config.train_params, data.steps_per_epoch)
    settings = _run_settings(args, experiment, data, network)
    resumed = None if content is None else _take_weights(args, experiment, network, content, settings)
    if resumed is not None and (reason := _completed(args, resumed, config.train_params)):
        say_first(f"{resumed.path}: the training is complete: {reason} to go on")
        return
    kept = keep_features(experiment, data, network)
    first = is_first_process()
    folder = training_folder(experiment.root, None if resumed is None else resumed.path, make=first)
    began = ""
    if not args.pretrain2d:  # which gives weights to the image branch alone
        began = beginning(content, experiment.checkpoint, experiment.label_map, goes_on=resumed is not None)
    conditions = _conditions(args, experiment, data, began)
    task = SegmentationTask(
        network,
        config.train_params,
        experiment.label_map.names,
        data.steps_per_epoch,
        experiment.devices.count,
        monitor=args.monitor,
        seed=args.seed,
        skip_unseen=experiment.data_set.skips_unseen,
        moving=experiment.label_map.moving,
        settings=settings,
        description=describe(config, experiment.label_map, data.statistics, began),
        conditions=conditions,
    )
    begun = (0, 0)
    if resumed is not None:
        begun = (resumed.epochs, resumed.scans)
        task.batches_done = _batches_done(experiment, data, resumed)
    trackers, tracking = _trackers(args, experiment, data, settings, folder, resumed)
    trainer = _trainer(args, experiment, folder, resumed, data.steps_per_epoch, [*kept, *tracking], trackers)
    with only_training_in(folder) if first else nullcontext():
        if first:
            _announce(experiment, network, data, folder)
        trainer.fit(task, datamodule=Loaders(data, begun), ckpt_path=None if resumed is None else resumed.path)
    if task.guard.skipped:
        counted = "batches" if config.train_params.accumulate_grad_batches == 1 else "steps"
        say_first(f"{task.guard.skipped} {counted} had NaN or inf in their gradients and were skipped")
    if args.pretrain_distill:
        say_first(f"pre-trained; to train with labels: --fine_tune --checkpoint {folder / LAST}.ckpt; logs: {folder}")
        return
    best = -math.inf if (patience := trainer.early_stopping_callback) is None else float(patience.best_score)
    unkept = "" if args.save_top_k else " (--save_top_k 0: no new best checkpoint was kept)"
    score = f"best {args.monitor} {100 * best:.3f} %{unkept}" if math.isfinite(best) else "no validation yet"
    say_first(f"{score}; checkpoints, curves and logs: {folder}")
    if math.isfinite(best):
        say_first(replace(conditions, checkpoint=f"the best of all validations, {conditions.checkpoint}").text)


def _conditions(args: argparse.Namespace, experiment: Experiment, data: DataModule, began: str) -> Conditions:
    """Gathers the conditions of the scores of all validations."""
    training = experiment.config.train_params
    averaged = ""
    if args.SWA:
        first = averaging_start(training.swa_epoch_start, training.max_num_epochs)
        averaged = f", averaged from epoch {first} on (--SWA)"
    elif training.ema_decay is not None:
        averaged = f", a moving average (ema_decay {training.ema_decay:g})"
    split = experiment.label_map.split
    trained_on = TrainedOn.of(experiment.config, split.get("train", ()), split.get("valid", ()), began)
    return Conditions("validation", len(data.evaluation_set), 1, f"weights after each epoch{averaged}", trained_on)


def _trainer(
    args: argparse.Namespace,
    experiment: Experiment,
    folder: Path,
    resumed: TrainingState | None,
    steps: int,
    callbacks: Sequence[pl.Callback] = (),
    trackers: Sequence[Tracker] = (),
) -> pl.Trainer:
    """Builds the trainer of a run of so many steps an epoch; `callbacks` stand beside those of every training."""
    training, devices = experiment.config.train_params, experiment.devices
    if training.sync_batchnorm and devices.accelerator == "cpu":
        say_first(
            "note: train_params.sync_batchnorm needs GPUs; on the CPU every process keeps its own batch statistics"
        )
    swa_from = averaging_start(training.swa_epoch_start, training.max_num_epochs) if args.SWA else None
    monitor = None if args.pretrain_distill else args.monitor
    return build_trainer(
        devices,
        folder,
        [
            *(callback for callback in callbacks if not isinstance(callback, Checkpoint)),
            *training_callbacks(
                folder,
                monitor,
                args.stop_patience,
                args.save_top_k,
                swa_from,
                training.ema_decay,
                devices.peer_timeout,
            ),
            *(callback for callback in callbacks if isinstance(callback, Checkpoint)),  # they see the others' files
        ],
        resumed,
        loggers=trackers,
        max_epochs=training.max_num_epochs,
        check_val_every_n_epoch=args.check_val_every_n_epoch,
        limit_val_batches=0 if args.pretrain_distill else None,
        accumulate_grad_batches=training.accumulate_grad_batches,
        log_every_n_steps=min(10, steps),
        sync_batchnorm=training.sync_batchnorm and devices.accelerator == "gpu",
    )


def _trackers(
    args: argparse.Namespace,
    experiment: Experiment,
    data: DataModule,
    settings: Settings,
    folder: Path,
    resumed: TrainingState | None,
) -> tuple[list[Tracker], list[pl.Callback]]:
    """Builds the trackers of --logger, and the callback that gives them what they show; none without --logger."""
    if not args.logger:
        return [], []
    config = experiment.config
    steps = 0 if resumed is None else resumed.content["global_step"]
    name = f"{args.log_dir}/{folder.name}"
    training = Training(folder, config.dataset_params.pc_dataset_type, name, steps)
    flags = {f"--{flag}": getattr(args, flag) for flag in _TOLD_FLAGS} | {"--checkpoint": str(experiment.checkpoint)}
    told = flattened(config) | {key: value for key, value in settings.items() if key not in config_settings(config)}
    validated = data.evaluation_set
    frames = [validated.source.frame(index) for index in shown_scans(len(validated), experiment.devices.count)]
    shown = Shown(frozenset(frames), experiment.label_map, experiment.data_set.sensor)
    trackers = build_trackers(args.logger, training)
    return trackers, [Tracking(trackers, training, told | flags, shown)]


def _holds_resnet(content: dict[str, Any], path: Path | None) -> bool:
    assert path is not None
    return frozen_teacher(content) is None and holds_image_branch(content, path)


def _run_settings(
    args: argparse.Namespace, experiment: Experiment, data: DataModule, network: SegmentationNetwork
) -> Settings:
    """Lists what decides how a training goes, as far as it is known before it begins."""
    assert data.training_set is not None
    config, devices = experiment.config, experiment.devices
    batch_size = config.dataset_params.train_data_loader.batch_size
    accumulated = config.train_params.accumulate_grad_batches
    return config_settings(config) | {
        "--seed": args.seed,
        "--precision": devices.precision,
        "--monitor": args.monitor,
        "--SWA": args.SWA,
        "number of devices": devices.count,
        "steps per epoch": steps_per_epoch(len(data.training_set), batch_size, devices.count, accumulated),
        "training scans": data.training_set.fingerprint(),
        "validation scans": data.evaluation_set.fingerprint(),
        "classes": list(experiment.label_map.names),
        TEACHER: network.teacher_weights(),
    }


def _take_weights(
    args: argparse.Namespace,
    experiment: Experiment,
    network: SegmentationNetwork,
    content: dict[str, Any],
    settings: Settings,
) -> TrainingState | None:
    """Loads what the flags ask for; the state of a training if that is to be continued, optimiser and all."""
    checkpoint, training = experiment.checkpoint, experiment.config.train_params
    assert checkpoint is not None
    if args.pretrain2d:
        say_first(load_image_branch(network, content, checkpoint, whole_backbone=args.pretrain_distill))
        return None
    names = experiment.label_map.names
    if args.fine_tune:
        new = load_to_fine_tune(network, content, checkpoint, names, args.new_head)
        say_first(f"fine-tuning: weights of {checkpoint}, optimiser and epochs start from the beginning")
        for line in new:
            say_first(f"fine-tuning: {line}")
        return None
    refuse_narrower(network, content, checkpoint, names)
    load_weights(network, content, checkpoint)
    if not is_resumable(content):
        say_first(
            f"{checkpoint} has no optimiser state of this program: its weights are used, optimiser and epochs "
            "start from the beginning"
        )
        return None
    state = check_resumable(network, content, training, checkpoint)
    notes = check_settings(state.content, settings, checkpoint)
    within = f", and {state.scans} scans of the next" if state.scans else ""
    say_first(f"resuming from {checkpoint}, {state.epochs} of {training.max_num_epochs} epochs done{within}")
    for line in notes:
        say_first(line)
    return state


def _completed(args: argparse.Namespace, resumed: TrainingState, training: TrainParams) -> str:
    """Returns why a training ended by itself, and what would let it go on; "" if it has not ended."""
    if resumed.epochs == training.max_num_epochs:
        return f"{resumed.epochs} of {training.max_num_epochs} epochs are done; raise train_params.max_num_epochs"
    if args.pretrain_distill:
        return ""
    if waited := Patience(args.monitor, args.stop_patience).ended(resumed.content["callbacks"]):
        return f"no better {args.monitor} in {waited} validation(s); raise --stop_patience"
    return ""


def _batches_done(experiment: Experiment, data: DataModule, resumed: TrainingState) -> int:
    """Returns how many batches of its first epoch a resumed training has behind it."""
    assert data.training_set is not None
    if resumed.scans >= len(data.training_set):
        raise UserError(
            f"{resumed.path}: is of the middle of an epoch, after {resumed.scans} scans, and there are "
            f"{len(data.training_set)} training scans now; give the scans that it was trained on"
        )
    batch_size = experiment.config.dataset_params.train_data_loader.batch_size
    return batches_done(len(data.training_set), resumed.scans, batch_size, experiment.devices.count)


def _refuse_endless_warmup(training: TrainParams, steps: int) -> None:
    """Refuses a warm-up that is as long as the training of so many steps an epoch, or longer."""
    schedule = training.lr_scheduler
    if not isinstance(schedule, CosineWarmupParams):
        return
    warmup, total = warmup_length(schedule, steps), training.max_num_epochs * steps
    if warmup and warmup >= total:
        key = "warmup_epochs" if schedule.warmup_steps is None else "warmup_steps"
        raise UserError(
            f"train_params.{key}: the warm-up has {warmup} optimiser steps, and the whole training {total}: make it "
            "shorter, or set it to null"
        )


def _announce(experiment: Experiment, network: SegmentationNetwork, data: DataModule, folder: Path) -> None:
    config = experiment.config
    assert data.training_set is not None
    remove_partials(folder)  # of a run that was killed while it wrote
    save_config(config, folder / "config.yaml")
    if (fraction := config.dataset_params.label_fraction) is not None:
        write_text(folder / TRAINING_SCANS, frame_list(data.training_set.frames()))
        say_first(
            f"dataset_params.label_fraction {fraction:g}: {len(data.training_set)} scans are trained on, those listed "
            f"in {folder / TRAINING_SCANS}"
        )
    pretraining = isinstance(network, DistillationPretraining)
    validated = "; no labels, no validation" if pretraining else f" and {len(data.evaluation_set)} validation scans"
    scans = f"{len(data.training_set)} training{' scans' if pretraining else ''}{validated}{with_past(config)}"
    count = parameter_count(network) / 1e6
    say_first(f"{type(network).__name__}: {count:.2f} M parameters; {scans}; run folder {folder}")
    if (teacher := network.teacher_weights()) is not None:
        say_first(f"teacher: {teacher}, frozen; it is no part of checkpoints, and a resumed run needs the same weights")
    schedule, epochs = config.train_params.lr_scheduler, config.train_params.max_num_epochs
    if isinstance(schedule, MultiStepLRParams) and schedule.milestones[-1] >= epochs:
        late = ", ".join(str(epoch) for epoch in schedule.milestones if epoch >= epochs)
        say_first(f"note: train_params.milestones: {late} is not reached in {epochs} epochs, no decay comes of it")
    params = config.dataset_params
    expected, found = expected_scans(params), len(data.training_set)
    per_step = isinstance(config.train_params.lr_scheduler, PER_STEP)
    if per_step and expected is not None and abs(expected - found) > 0.01 * expected and not data.debug:
        say_first(
            f"note: dataset_params.training_size is {params.training_size}"
            f"{'' if params.label_fraction is None else f' ({expected} with label_fraction)'}, {found} training scans "
            "were found; the per-step learning-rate schedule is as long as training_size says (null: as long as the "
            "scans found)"
        )
