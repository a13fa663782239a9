"""Train, test and submit: `python main.py --config config/2DPASS-semantickitti.yaml --gpu 0`."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

if __name__ == "__main__":  # before what takes seconds to import
    from utils.command.start import begin

    begin()

import pytorch_lightning as pl
from pytorch_lightning.utilities import rank_zero_only

from dataloader.datamodule import DataModule
from dataloader.datasets.catalogue import lidar_of, load_label_map, prediction_format, skips_unseen
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
from utils.command.devices import Devices, choose_devices, device_notice, loader_notice
from utils.command.flags import DEFAULT_CONFIG, Parser, add_shared_flags, count
from utils.command.process import CONTINUES, run_program
from utils.command.terminal import say
from utils.config.effects import refuse_idle
from utils.config.loading import load_config, save_config
from utils.config.model import ModelParams
from utils.config.schedules import WarmCosineParams
from utils.config.schema import Config
from utils.errors import UserError
from utils.files import remove_partials
from utils.labels import LabelMap
from utils.results.evaluation import EvaluationOutput
from utils.results.run_folder import find_checkpoint, only_training_in, run_root, test_folder, training_folder
from utils.results.run_settings import Settings, check_settings, config_settings

say = rank_zero_only(say)


def parse_arguments(argv: Sequence[str]) -> argparse.Namespace:
    """The flags of the README."""
    parser = Parser(description="2DPASS: LiDAR semantic segmentation with 2D priors")
    add_shared_flags(parser)
    parser.add_argument("--monitor", choices=SCORES, default=SCORES[0], help="the score to maximise")
    parser.add_argument(
        "--stop_patience", type=count(0), default=50, metavar="N", help="validations without a better score"
    )
    parser.add_argument(
        "--save_top_k", type=count(-1), default=1, metavar="K", help="best checkpoints to keep; -1: all"
    )
    parser.add_argument("--check_val_every_n_epoch", type=count(1), default=1, metavar="N")
    parser.add_argument("--SWA", action="store_true", help="stochastic weight averaging over the last epochs")
    parser.add_argument("--fine_tune", action="store_true", help="take the checkpoint's weights, start anew otherwise")
    parser.add_argument("--pretrain2d", action="store_true", help="take what fits the 2D branch from the checkpoint")
    parser.add_argument("--test", action="store_true", help="evaluate a checkpoint on the validation split")
    parser.add_argument("--num_vote", type=count(1, 1000), default=1, metavar="N", help="views per scan at test")
    parser.add_argument("--submit_to_server", action="store_true", help="with --test: the test split, as a submission")
    parser.add_argument("--save_prediction", action="store_true", help="with --test: keep the predicted label files")
    return parser.parse_args(argv)


def main(argv: Sequence[str]) -> None:
    args = parse_arguments(argv)
    _check_flags(args)
    tested = open_for_test(args.checkpoint, args.log_dir, args.config, args.set, say) if args.test else None
    config = load_config(args.config or DEFAULT_CONFIG, args.set) if tested is None else tested.config
    if (args.baseline_only or args.pretrain2d) and not isinstance(config.model_params, ModelParams):
        raise UserError(
            f"--baseline_only and --pretrain2d are for arch_2dpass; {config.model_params.model_architecture} "
            "(model_params.model_architecture) has no 2D branch"
        )
    if not args.test:
        refuse_idle(config, args.baseline_only, args.SWA)
    devices = choose_devices(args.gpu, args.cpu, args.num_nodes, args.precision)
    say(device_notice(devices, args.cpu))
    if (notice := loader_notice(config, fit=not args.test, debug=args.debug)) is not None:
        say(notice)
    label_map = load_label_map(config, None if tested is None else tested.label_map)
    root = run_root(config.dataset_params.pc_dataset_type, args.log_dir)
    checkpoint = find_checkpoint(args.checkpoint, root, say) if args.checkpoint and not args.test else None
    pl.seed_everything(args.seed, workers=True, verbose=False)
    data = DataModule(
        config,
        label_map,
        fit=not args.test,
        num_vote=args.num_vote,
        submit=args.submit_to_server,
        seed=args.seed,
        debug=args.debug,
        images=not (args.test or args.baseline_only),
        num_devices=devices.count,
    )
    for note in data.notes:
        say(f"note: {note}")
    if tested is not None:
        test(args, tested, devices, data, label_map, root)
    else:
        fit(args, config, devices, data, label_map, root, checkpoint)


def fit(
    args: argparse.Namespace,
    config: Config,
    devices: Devices,
    data: DataModule,
    label_map: LabelMap,
    root: Path,
    checkpoint: Path | None,
) -> None:
    """Train; validate after every epoch; keep the best and the last checkpoint."""
    network = build_network(config, args.baseline_only, imagenet=checkpoint is None)
    settings = _run_settings(args, config, devices, data, label_map)
    resumed = None if checkpoint is None else _take_weights(args, config, network, checkpoint, settings)
    first = rank_zero_only.rank == 0
    folder = training_folder(root, None if resumed is None else resumed.path, make=first)

    training = config.train_params
    task = SegmentationTask(
        network,
        training,
        label_map.names,
        data.steps_per_epoch,
        devices.count,
        monitor=args.monitor,
        seed=args.seed,
        skip_unseen=skips_unseen(config),
        settings=settings,
        description=describe(config, label_map, data.statistics),
    )
    if training.sync_batchnorm and devices.accelerator == "cpu":
        say("note: train_params.sync_batchnorm needs GPUs; on the CPU every process keeps its own batch statistics")
    swa_from = averaging_start(training.swa_epoch_start, training.max_num_epochs) if args.SWA else None
    trainer = build_trainer(
        devices,
        folder,
        training_callbacks(folder, args.monitor, args.stop_patience, args.save_top_k, swa_from),
        resumed,
        max_epochs=training.max_num_epochs,
        check_val_every_n_epoch=args.check_val_every_n_epoch,
        log_every_n_steps=min(10, data.steps_per_epoch),
        sync_batchnorm=training.sync_batchnorm and devices.accelerator == "gpu",
    )
    with only_training_in(folder) if first else nullcontext():
        _announce(config, network, data, folder)
        trainer.fit(task, datamodule=data, ckpt_path=None if resumed is None else resumed.path)
    if task.guard.skipped:
        say(f"{task.guard.skipped} batches had NaN or inf in their gradients and were skipped")
    best = -math.inf if (patience := trainer.early_stopping_callback) is None else float(patience.best_score)
    kept = "" if args.save_top_k else " (--save_top_k 0: no new best checkpoint was kept)"
    score = f"best {args.monitor} {100 * best:.3f} %{kept}" if math.isfinite(best) else "no validation yet"
    say(f"{score}; checkpoints, curves and TensorBoard logs: {folder}")


def test(
    args: argparse.Namespace,
    tested: Tested,
    devices: Devices,
    data: DataModule,
    label_map: LabelMap,
    root: Path,
) -> None:
    """Evaluate a checkpoint, over one view or many; write scores, pictures and, if asked for, a submission."""
    config, checkpoint = tested.config, tested.path
    network, content = load_for_test(config, checkpoint, tested.content)
    split = "test" if args.submit_to_server else "validation"
    if args.submit_to_server and (absent := data.evaluation_set.source.absent):
        names = " ".join(absent[:11]) + (f" and {len(absent) - 11} more" if len(absent) > 11 else "")
        say(f"note: of the test split {names} are not on disk; the server takes complete submissions only")
    say(f"testing {checkpoint} on {len(data.evaluation_set)} scans of the {split} split, {args.num_vote} vote(s) each")
    output = EvaluationOutput(
        test_folder(root),
        label_map,
        data.expected_frames,
        prediction_format(config, data.evaluated_part, label_map, has_image_branch(content, checkpoint), args.debug),
        lidar_of(config),
        args.submit_to_server,
        args.save_prediction,
        settings={"checkpoint": str(checkpoint), "num_vote": args.num_vote, "split": split},
    )
    task = SegmentationTask(
        network, config.train_params, label_map.names, output=output, skip_unseen=skips_unseen(config)
    )
    build_trainer(devices).test(task, datamodule=data, verbose=False)


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
    if args.submit_to_server and args.debug:
        raise UserError("--submit_to_server wants every frame: leave out --debug")


def _run_settings(
    args: argparse.Namespace, config: Config, devices: Devices, data: DataModule, label_map: LabelMap
) -> Settings:
    """What decides how a training goes, as far as it is known before it begins."""
    assert data.training_set is not None
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
        "classes": list(label_map.names),
    }


def _take_weights(
    args: argparse.Namespace, config: Config, network: SegmentationNetwork, checkpoint: Path, settings: Settings
) -> TrainingState | None:
    """Load what the flags ask for; the state of a training if that is to be continued, optimiser and all."""
    content = read_checkpoint(checkpoint)
    if args.pretrain2d:
        say(load_image_branch(network, content, checkpoint))
        return None
    load_weights(network, content, checkpoint)
    if args.fine_tune:
        say(f"fine-tuning: weights of {checkpoint}, optimiser and epochs start anew")
        return None
    if not is_resumable(content):
        say(f"{checkpoint} has no optimiser state of ours: its weights are taken, optimiser and epochs start anew")
        return None
    state = check_resumable(network, content, config.train_params, checkpoint)
    notes = check_settings(state.content, settings, checkpoint)
    say(f"resuming from {checkpoint}, {state.epochs} of {config.train_params.max_num_epochs} epochs done")
    for line in notes:
        say(line)
    return state


def going_on(argv: Sequence[str]) -> str:
    """How to go on after an interruption; "" after that of a test, which is begun anew."""
    return "" if "--test" in argv else CONTINUES


@rank_zero_only
def _announce(config: Config, network: SegmentationNetwork, data: DataModule, folder: Path) -> None:
    assert data.training_set is not None
    remove_partials(folder)  # of a run that was killed while it wrote
    save_config(config, folder / "config.yaml")
    say(
        f"{type(network).__name__}: {parameter_count(network) / 1e6:.2f} M parameters; "
        f"{len(data.training_set)} training and {len(data.evaluation_set)} validation scans; run folder {folder}"
    )
    expected, found = config.dataset_params.training_size, len(data.training_set)
    per_step = isinstance(config.train_params.lr_scheduler, WarmCosineParams)
    if per_step and expected is not None and abs(expected - found) > 0.01 * expected and not data.debug:
        say(
            f"note: dataset_params.training_size is {expected}, {found} training scans were found; "
            "the per-step learning-rate schedule is as long as training_size says (null: as long as the scans found)"
        )


if __name__ == "__main__":
    sys.exit(run_program(lambda: main(sys.argv[1:]), going_on(sys.argv[1:])))
