"""Train, test and submit: `python main.py --config config/2DPASS-semantickitti.yaml --gpu 0`."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # before what takes seconds to import
    from utils.command.start import begin

    begin()

import pytorch_lightning as pl
from pytorch_lightning.utilities import rank_zero_only

from dataloader.datamodule import DataModule
from dataloader.experiment import Experiment, open_experiment
from dataloader.sampler import steps_per_epoch
from network.assemble import build_network, load_for_test, parameter_count
from network.models.segmentation_network import SegmentationNetwork
from network.training.callbacks import averaging_start
from network.training.resuming import TrainingState, check_resumable, is_resumable
from network.training.task import SCORES, SegmentationTask
from network.training.trainer import build_trainer, training_callbacks
from network.weights.configuration import Tested, open_for_test
from network.weights.description import describe
from network.weights.loading import has_image_branch, load_image_branch, load_weights
from network.weights.reading import read_checkpoint
from network.weights.widening import load_to_fine_tune, refuse_narrower
from utils.command.flags import Parser, add_shared_flags, count
from utils.command.process import CONTINUES, run_program
from utils.command.terminal import say
from utils.config.effects import refuse_idle
from utils.config.loading import save_config
from utils.config.model import ModelParams
from utils.config.schedules import WarmCosineParams
from utils.config.schema import Config
from utils.errors import UserError
from utils.files import remove_partials
from utils.results.evaluation import EvaluationOutput
from utils.results.run_folder import only_training_in, test_folder, training_folder
from utils.results.run_settings import Settings, check_settings, config_settings

say = rank_zero_only(say)

_OF_TRAINING = ("monitor", "stop_patience", "save_top_k", "check_val_every_n_epoch", "SWA", "fine_tune", "pretrain2d")
"""Flags that a test does not look at."""


def build_parser() -> Parser:
    """Builds the parser of the flags."""
    parser = Parser(description="2DPASS: LiDAR semantic segmentation with 2D priors")
    add_shared_flags(parser)
    add = parser.add_argument
    add("--monitor", choices=SCORES, default=SCORES[0], help="the score to maximise")
    add(
        "--stop_patience",
        type=count(0),
        default=50,
        metavar="N",
        help="validations without a better score before the training stops",
    )
    add("--save_top_k", type=count(-1), default=1, metavar="K", help="best checkpoints to keep; -1: all")
    every = "epochs from one validation to the next"
    add("--check_val_every_n_epoch", type=count(1), default=1, metavar="N", help=every)
    add("--SWA", action="store_true", help="stochastic weight averaging over the last epochs")
    add("--fine_tune", action="store_true", help="start a new training from the weights of --checkpoint")
    add("--pretrain2d", action="store_true", help="load the tensors of --checkpoint that fit the 2D branch")
    add("--test", action="store_true", help="evaluate a checkpoint on the validation split")
    add("--num_vote", type=count(1, 1000), default=1, metavar="N", help="views per scan at test")
    add("--submit_to_server", action="store_true", help="with --test: make a submission of the test split")
    add("--save_prediction", action="store_true", help="with --test: keep the predicted label files")
    return parser


def parse_arguments(argv: Sequence[str]) -> argparse.Namespace:
    """Reads the command line."""
    return build_parser().parse_args(argv)


def main(argv: Sequence[str]) -> None:
    """Runs the command."""
    args = parse_arguments(argv)
    _check_flags(args)
    tested = open_for_test(args.checkpoint, args.log_dir, args.config, args.set, say) if args.test else None
    experiment = open_experiment(args, tested)
    if (args.baseline_only or args.pretrain2d) and not isinstance(experiment.config.model_params, ModelParams):
        raise UserError(
            f"--baseline_only and --pretrain2d are for arch_2dpass; "
            f"{experiment.config.model_params.model_architecture} (model_params.model_architecture) has no 2D branch"
        )
    if tested is None:
        refuse_idle(experiment.config, args.baseline_only, args.SWA)
    for note in experiment.notes:
        say(note)
    pl.seed_everything(args.seed, workers=True, verbose=False)
    if tested is None:
        fit(args, experiment)
    else:
        test(args, experiment, tested)


def fit(args: argparse.Namespace, experiment: Experiment) -> None:
    """Trains; validates after every epoch; keeps the best and the last checkpoint."""
    config = experiment.config
    data = _open_data(experiment, fit=True, images=not args.baseline_only)
    network = build_network(config, args.baseline_only, imagenet=experiment.checkpoint is None)
    settings = _run_settings(args, experiment, data)
    resumed = _take_weights(args, experiment, network, settings)
    first = rank_zero_only.rank == 0
    folder = training_folder(experiment.root, None if resumed is None else resumed.path, make=first)
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
        description=describe(config, experiment.label_map, data.statistics),
    )
    trainer = _trainer(args, experiment, folder, resumed, data.steps_per_epoch)
    with only_training_in(folder) if first else nullcontext():
        _announce(experiment, network, data, folder)
        trainer.fit(task, datamodule=data, ckpt_path=None if resumed is None else resumed.path)
    if task.guard.skipped:
        say(f"{task.guard.skipped} batches had NaN or inf in their gradients and were skipped")
    best = -math.inf if (patience := trainer.early_stopping_callback) is None else float(patience.best_score)
    kept = "" if args.save_top_k else " (--save_top_k 0: no new best checkpoint was kept)"
    score = f"best {args.monitor} {100 * best:.3f} %{kept}" if math.isfinite(best) else "no validation yet"
    say(f"{score}; checkpoints, curves and TensorBoard logs: {folder}")


def test(args: argparse.Namespace, experiment: Experiment, tested: Tested) -> None:
    """Evaluates a checkpoint, over one view or many; writes scores, pictures and, if asked for, a submission."""
    config, checkpoint, data_set = experiment.config, tested.path, experiment.data_set
    data = _open_data(experiment, fit=False, num_vote=args.num_vote, submit=args.submit_to_server, images=False)
    network, content = load_for_test(config, checkpoint, tested.content)
    split = "test" if args.submit_to_server else "validation"
    if args.submit_to_server and (absent := data.evaluation_set.source.absent):
        names = " ".join(absent[:11]) + (f" and {len(absent) - 11} more" if len(absent) > 11 else "")
        say(f"note: of the test split {names} are not on disk; the server takes complete submissions only")
    scans = f"{len(data.evaluation_set)} scans of the {split} split{_with_past(config)}"
    say(f"testing {checkpoint} on {scans}, {args.num_vote} vote(s) each")
    key = config.dataset_params.past_key
    past = {key: config.dataset_params.past} if config.model_params.input_dims > 4 else {}
    evaluated = experiment.request(data.evaluated_part)
    output = EvaluationOutput(
        test_folder(experiment.root),
        experiment.label_map,
        data.expected_frames,
        data_set.prediction_format(evaluated, has_image_branch(content, checkpoint)),
        data_set.sensor,
        args.submit_to_server,
        args.save_prediction,
        settings={"checkpoint": str(checkpoint), "num_vote": args.num_vote, "split": split, **past},
    )
    task = SegmentationTask(
        network,
        config.train_params,
        experiment.label_map.names,
        output=output,
        skip_unseen=data_set.skips_unseen,
        moving=experiment.label_map.moving,
    )
    build_trainer(experiment.devices).test(task, datamodule=data, verbose=False)


def _open_data(experiment: Experiment, **how: Any) -> DataModule:
    """Opens the scans, and says what is doubtful about them."""
    data = experiment.data(**how)
    for note in data.notes:
        say(f"note: {note}")
    return data


def _check_flags(args: argparse.Namespace) -> None:
    if args.test and not args.checkpoint:
        raise UserError("--test needs --checkpoint: a path, or `best` or `last` of --log_dir")
    if (args.fine_tune or args.pretrain2d) and not args.checkpoint:
        raise UserError("--fine_tune and --pretrain2d need --checkpoint: the weights to start from")
    if args.fine_tune and args.pretrain2d:
        raise UserError("--fine_tune takes all weights, --pretrain2d those of the 2D branch: give one of them")
    if (args.submit_to_server or args.save_prediction) and not args.test:
        raise UserError("--submit_to_server and --save_prediction go with --test")
    if args.num_vote > 1 and not args.test:
        raise UserError("--num_vote goes with --test; validation during training looks at each scan once")
    default = build_parser().get_default
    if args.test and (idle := [f"--{name}" for name in _OF_TRAINING if getattr(args, name) != default(name)]):
        raise UserError(f"{' '.join(idle)}: for a training, without an effect on --test; leave out one or the other")
    if args.submit_to_server and args.debug:
        raise UserError("--submit_to_server wants every frame: leave out --debug")


def _trainer(
    args: argparse.Namespace, experiment: Experiment, folder: Path, resumed: TrainingState | None, steps: int
) -> pl.Trainer:
    """Builds the trainer of a run of so many steps an epoch."""
    training, devices = experiment.config.train_params, experiment.devices
    if training.sync_batchnorm and devices.accelerator == "cpu":
        say("note: train_params.sync_batchnorm needs GPUs; on the CPU every process keeps its own batch statistics")
    swa_from = averaging_start(training.swa_epoch_start, training.max_num_epochs) if args.SWA else None
    return build_trainer(
        devices,
        folder,
        training_callbacks(folder, args.monitor, args.stop_patience, args.save_top_k, swa_from),
        resumed,
        max_epochs=training.max_num_epochs,
        check_val_every_n_epoch=args.check_val_every_n_epoch,
        log_every_n_steps=min(10, steps),
        sync_batchnorm=training.sync_batchnorm and devices.accelerator == "gpu",
    )


def _run_settings(args: argparse.Namespace, experiment: Experiment, data: DataModule) -> Settings:
    """Lists what decides how a training goes, as far as it is known before it begins."""
    assert data.training_set is not None
    config, devices = experiment.config, experiment.devices
    batch_size = config.dataset_params.train_data_loader.batch_size
    return config_settings(config) | {
        "--seed": args.seed,
        "--precision": devices.precision,
        "--monitor": args.monitor,
        "--SWA": args.SWA,
        "number of devices": devices.count,
        "steps per epoch": steps_per_epoch(len(data.training_set), batch_size, devices.count),
        "training scans": data.training_set.fingerprint(),
        "validation scans": data.evaluation_set.fingerprint(),
        "classes": list(experiment.label_map.names),
    }


def _take_weights(
    args: argparse.Namespace, experiment: Experiment, network: SegmentationNetwork, settings: Settings
) -> TrainingState | None:
    """Loads what the flags ask for; the state of a training if that is to be continued, optimiser and all."""
    checkpoint, training = experiment.checkpoint, experiment.config.train_params
    if checkpoint is None:
        return None
    content = read_checkpoint(checkpoint)
    if args.pretrain2d:
        say(load_image_branch(network, content, checkpoint))
        return None
    names = experiment.label_map.names
    if args.fine_tune:
        new = load_to_fine_tune(network, content, checkpoint, names)
        say(f"fine-tuning: weights of {checkpoint}, optimiser and epochs start from the beginning")
        for line in new:
            say(f"fine-tuning: {line}")
        return None
    refuse_narrower(network, content, checkpoint, names)
    load_weights(network, content, checkpoint)
    if not is_resumable(content):
        say(
            f"{checkpoint} has no optimiser state of this program: its weights are used, optimiser and epochs "
            "start from the beginning"
        )
        return None
    state = check_resumable(network, content, training, checkpoint)
    notes = check_settings(state.content, settings, checkpoint)
    say(f"resuming from {checkpoint}, {state.epochs} of {training.max_num_epochs} epochs done")
    for line in notes:
        say(line)
    return state


def going_on(argv: Sequence[str]) -> str:
    """Tells how to go on after an interruption; "" after that of a test, which starts again from its beginning."""
    return "" if "--test" in argv else CONTINUES


@rank_zero_only
def _announce(experiment: Experiment, network: SegmentationNetwork, data: DataModule, folder: Path) -> None:
    config = experiment.config
    assert data.training_set is not None
    remove_partials(folder)  # of a run that was killed while it wrote
    save_config(config, folder / "config.yaml")
    say(
        f"{type(network).__name__}: {parameter_count(network) / 1e6:.2f} M parameters; "
        f"{len(data.training_set)} training and {len(data.evaluation_set)} validation scans"
        f"{_with_past(config)}; run folder {folder}"
    )
    expected, found = config.dataset_params.training_size, len(data.training_set)
    per_step = isinstance(config.train_params.lr_scheduler, WarmCosineParams)
    if per_step and expected is not None and abs(expected - found) > 0.01 * expected and not data.debug:
        say(
            f"note: dataset_params.training_size is {expected}, {found} training scans were found; "
            "the per-step learning-rate schedule is as long as training_size says (null: as long as the scans found)"
        )


def _with_past(config: Config) -> str:
    """Tells how many past sweeps each scan has with it; "" if none."""
    past = config.dataset_params.past
    return f" (each with up to {past} before it)" if past else ""


if __name__ == "__main__":
    sys.exit(run_program(lambda: main(sys.argv[1:]), going_on(sys.argv[1:])))
