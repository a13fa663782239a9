"""Train, test and submit: `python main.py --config config/2DPASS-semantickitti.yaml --gpu 0`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace

if __name__ == "__main__":  # before what takes long to import
    from utils.command.start import begin

    begin()

from dataloader.experiment import Experiment, open_experiment
from network.teachers.published import find_weights
from network.weights.configuration import open_for_test
from network.weights.pretrained import check_use
from network.weights.reading import read_outline
from utils.command.devices import is_first_process, say_first
from utils.command.flags import Parser, add_shared_flags, count
from utils.command.importing import importing
from utils.command.process import CONTINUES, run_program
from utils.command.requeue import requeue_when_asked
from utils.command.trackers import DEFAULT_TRACKERS, NO_TRACKER, TRACKERS, chosen_trackers
from utils.config.effects import idle_image_keys, refuse_idle
from utils.config.model import ModelParams
from utils.config.pretraining import label_free
from utils.errors import UserError
from utils.fetching.references import FORMS
from utils.metrics import SCORES
from utils.results.run_folder import LAST, find_checkpoint, has_checkpoint

_OF_VALIDATION = ("monitor", "stop_patience", "save_top_k", "check_val_every_n_epoch")
"""Flags about the validations of a training; a pre-training has none."""
_OF_TRAINING = (*_OF_VALIDATION, "logger", "SWA", "resume", "fine_tune", "new_head", "pretrain2d", "pretrain_distill")
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
    add(
        "--logger",
        choices=(*TRACKERS, NO_TRACKER),
        nargs="+",
        default=list(DEFAULT_TRACKERS),
        metavar="TRACKER",
        help=f"where losses, scores and pictures go: {', '.join(TRACKERS)}, several at once, or {NO_TRACKER}; "
        f"default: {' '.join(DEFAULT_TRACKERS)}",
    )
    add("--SWA", action="store_true", help="stochastic weight averaging over the last epochs")
    add("--fine_tune", action="store_true", help="start a new training from the weights of --checkpoint")
    new = "with --fine_tune: start the last layers new, for other classes than those of --checkpoint"
    add("--new_head", action="store_true", help=new)
    add("--pretrain2d", action="store_true", help="load the tensors of --checkpoint that fit the 2D branch")
    help_ = "pre-train the 3D network without labels: it learns the features of the frozen image network"
    add("--pretrain_distill", action="store_true", help=help_)
    again = (
        "go on where the newest run of --log_dir stopped, or begin one; under SLURM, SIGUSR1 also puts the job back "
        "into the queue"
    )
    add("--resume", action="store_true", help=again)
    add("--test", action="store_true", help="evaluate a checkpoint on the validation split")
    add("--num_vote", type=count(1, 1000), default=1, metavar="N", help="views per scan at test")
    add("--submit_to_server", action="store_true", help="with --test: make a submission of the test split")
    add("--save_prediction", action="store_true", help="with --test: keep the predicted label files")
    return parser


def parse_arguments(argv: Sequence[str]) -> argparse.Namespace:
    """Reads the command line."""
    return build_parser().parse_args(argv)


def main(argv: Sequence[str]) -> None:
    """Runs the command.

    Flags, config, description of the checkpoint and folders of scans are checked first: that takes no torch, so what
    is wrong with them is said at once. `commands` does the work.
    """
    args = parse_arguments(argv)
    _check_flags(args)
    if args.resume:
        requeue_when_asked(speaks=is_first_process())
    tested = open_for_test(args.checkpoint, args.log_dir, args.config, args.set, say_first) if args.test else None
    experiment = open_experiment(args, tested)
    if args.resume:
        experiment = _resumed(args, experiment)
    if (args.baseline_only or args.pretrain2d) and not isinstance(experiment.config.model_params, ModelParams):
        raise UserError(
            f"--baseline_only and --pretrain2d are for arch_2dpass; "
            f"{experiment.config.model_params.model_architecture} (model_params.model_architecture) has no 2D branch"
        )
    notes: list[str] = []
    if tested is None:
        refuse_idle(experiment.config, args.baseline_only, args.SWA)
        _refuse_to_pretrain(args, experiment.config.model_params)
        experiment = _for_pretraining(args, experiment)
        notes += idle_image_keys(experiment.config, args.baseline_only)
    for note in (*experiment.notes, *notes):
        say_first(note)
    if tested is None:
        sources = experiment.open_sources(fit=True, images=not args.baseline_only, labels=not args.pretrain_distill)
        model = experiment.config.model_params
        if not args.baseline_only and isinstance(model, ModelParams) and model.frozen_teacher:
            find_weights(model.backbone_2d)
        with importing():
            from commands.training import train

        train(args, experiment, sources)
    else:
        sources = experiment.open_sources(fit=False, submit=args.submit_to_server)
        with importing():
            from commands.testing import test

        test(args, experiment, tested, sources)


def _for_pretraining(args: argparse.Namespace, experiment: Experiment) -> Experiment:
    """Returns the experiment as a pre-training has it, if it is one; refuses checkpoints that one cannot go on with."""
    if experiment.checkpoint is not None and not (args.fine_tune or args.pretrain2d):
        check_use(read_outline(experiment.checkpoint), experiment.checkpoint, args.pretrain_distill)
    if not args.pretrain_distill:
        return experiment
    config, notes = label_free(experiment.config, teacher_given=experiment.checkpoint is not None)
    return replace(experiment, config=config, notes=(*experiment.notes, *notes))


def _resumed(args: argparse.Namespace, experiment: Experiment) -> Experiment:
    """Returns the experiment with the last checkpoint of its run, if there is one.

    What the flags say about the beginning of a run is past then.
    """
    if not has_checkpoint(LAST, experiment.root):
        return experiment
    args.checkpoint, args.fine_tune, args.new_head, args.pretrain2d = LAST, False, False, False
    return replace(experiment, checkpoint=find_checkpoint(LAST, experiment.root))


def _check_flags(args: argparse.Namespace) -> None:
    if args.test and not args.checkpoint:
        raise UserError(f"--test needs --checkpoint: {FORMS}")
    if (args.fine_tune or args.pretrain2d) and not args.checkpoint:
        raise UserError("--fine_tune and --pretrain2d need --checkpoint: the weights to start from")
    if args.fine_tune and args.pretrain2d:
        raise UserError("--fine_tune takes all weights, --pretrain2d those of the 2D branch: give one of them")
    if args.resume and args.checkpoint in (LAST, "best"):
        raise UserError(
            f"--resume finds the last checkpoint of --log_dir by itself: leave out --checkpoint {args.checkpoint}"
        )
    if args.new_head and not args.fine_tune:
        raise UserError("--new_head goes with --fine_tune, which takes all other weights from --checkpoint")
    if (args.submit_to_server or args.save_prediction) and not args.test:
        raise UserError("--submit_to_server and --save_prediction go with --test")
    if args.num_vote > 1 and not args.test:
        raise UserError("--num_vote goes with --test; validation during training looks at each scan once")
    default = build_parser().get_default
    if args.pretrain_distill and (args.baseline_only or args.fine_tune):
        raise UserError("--pretrain_distill trains a new 3D network with a teacher: no --baseline_only, no --fine_tune")
    if args.pretrain_distill and (idle := [f"--{n}" for n in _OF_VALIDATION if getattr(args, n) != default(n)]):
        raise UserError(f"{' '.join(idle)}: about validations, of which --pretrain_distill has none; leave it out")
    if args.test and (idle := [f"--{name}" for name in _OF_TRAINING if getattr(args, name) != default(name)]):
        raise UserError(f"{' '.join(idle)}: for a training, without an effect on --test; leave out one or the other")
    if not args.test:
        args.logger = chosen_trackers(args.logger)
    if args.submit_to_server and args.debug:
        raise UserError("--submit_to_server wants every frame: leave out --debug")


def _refuse_to_pretrain(args: argparse.Namespace, model: object) -> None:
    if args.pretrain2d and isinstance(model, ModelParams) and model.frozen_teacher:
        raise UserError(
            f"--pretrain2d loads weights of a ResNet-34, but model_params.backbone_2d is {model.backbone_2d}, which "
            "comes with its own and is not trained: leave out one of them"
        )


def going_on(argv: Sequence[str]) -> str:
    """Tells how to go on after an interruption; "" after that of a test, which starts again from its beginning."""
    return "" if "--test" in argv else CONTINUES


if __name__ == "__main__":
    sys.exit(run_program(lambda: main(sys.argv[1:]), going_on(sys.argv[1:])))
