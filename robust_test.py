"""The test of main.py, once per corruption: `python robust_test.py --checkpoint <path> --num_vote 12 --gpu 0`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

if __name__ == "__main__":  # before what takes seconds to import
    from utils.command.start import begin

    begin()

import pytorch_lightning as pl
from pytorch_lightning.utilities import rank_zero_only

from dataloader.datasets.corrupted_set import CorruptedSet, names_of
from dataloader.datasets.source import Source
from dataloader.experiment import Experiment, open_experiment
from network.assemble import load_for_test
from network.models.segmentation_network import SegmentationNetwork
from network.training.task import SegmentationTask
from network.training.trainer import build_trainer
from network.weights.configuration import open_for_test
from network.weights.loading import has_image_branch
from utils.command.flags import Parser, add_shared_flags, count
from utils.command.process import run_program
from utils.command.terminal import say
from utils.corruptions import FAMILIES, Subset
from utils.errors import UserError
from utils.paths import expand_home
from utils.robustness.conditions import Conditions
from utils.robustness.family import CONVENTIONS, PROTOCOLS, load_family
from utils.robustness.output import SubsetOutput
from utils.robustness.report import RobustReport
from utils.robustness.results import SubsetResult
from utils.robustness.run import RobustRun, find_baseline, find_run, open_run

say = rank_zero_only(say)


def build_parser() -> Parser:
    """Builds the parser of the flags."""
    parser = Parser(description="2DPASS: how much of the mIoU corrupted scans leave")
    add_shared_flags(parser)
    add = parser.add_argument
    add("--family", choices=FAMILIES, default="yan", help="corruptions of Yan et al. (IJCV 2024) or Robo3D (2023)")
    add(
        "--corruption_path",
        metavar="FOLDER",
        help="the corrupted scans; default: the data_path of val_data_loader with `sequences` replaced by "
        "SemanticKITTI-C (yan) or Robo3D/SemanticKITTI-C, or for nuScenes Robo3D/nuScenes-C beside it",
    )
    add("--subsets", nargs="+", metavar="NAME", help="corruptions (fog) or subsets (fog_light) to test; default: all")
    add("--allow_missing", action="store_true", help="leave out subsets that are not on disk")
    votes = ", ".join(f"{protocol.num_vote} ({family})" for family, protocol in PROTOCOLS.items())
    add("--num_vote", type=count(1, 1000), metavar="N", help=f"views per scan; default: {votes}")
    add("--convention", choices=CONVENTIONS, default="official", help="convention of the mIoU in the report")
    add("--baseline", metavar="NAME", help="reference: a published row, a summary.csv of this program, or `none`")
    add("--save_prediction", action="store_true", help="keep the predicted label files")
    add("--output", metavar="FOLDER", help="parent folder of robust_test_<date>; default: beside the checkpoint")
    add("--restart", action="store_true", help="start in a new folder, even if an earlier run could be continued")
    return parser


def parse_arguments(argv: Sequence[str]) -> argparse.Namespace:
    """Reads the command line."""
    return build_parser().parse_args(argv)


def main(argv: Sequence[str]) -> None:
    """Runs the command."""
    args = parse_arguments(argv)
    _check_flags(args)
    tested = open_for_test(args.checkpoint, args.log_dir, args.config, args.set, say)
    experiment = open_experiment(args, tested)
    family = load_family(args.family, experiment.data_set.name)
    corrupted = CorruptedSet.find(family, experiment.data_set, experiment.request("valid"), args.corruption_path)
    for note in experiment.notes:
        say(note)
    root, made_with = corrupted.root, corrupted.made_with
    conditions = Conditions.of(args, tested.config, tested.path, root, made_with)
    baseline, remarks = find_baseline(args.baseline, family, args.convention, args.num_vote, root, made_with)
    sources, missing = corrupted.open(family.select(args.subsets) if args.subsets else family.subsets)
    corrupted.refuse_missing(list(sources), missing, args.allow_missing)
    if missing:
        say(f"missing and left out: {names_of(missing)}")
    pl.seed_everything(args.seed, workers=True, verbose=False)

    scans = {subset: experiment.evaluated(source) for subset, source in sources.items()}
    parent = expand_home(args.output) if args.output else tested.path.parent
    settings = conditions.settings(family, experiment.config, args.save_prediction)
    run = None if args.restart else find_run(parent, settings, family)
    if run is not None and not run.lacking(scans):
        say(f"all {len(sources)} subsets are finished in {run.folder}; --restart tests them again")
    else:
        # Before there is a folder: a checkpoint of another network leaves none.
        network, content = load_for_test(tested.config, tested.path, tested.content)
        run = open_run(parent, settings, family, args.restart, first=rank_zero_only.rank == 0)
        with run.claim(scans) as todo:
            evaluate(args, experiment, corrupted, network, content, sources, todo, run)
    _report(run, RobustReport(family, (), args.convention, baseline, conditions, remarks))


def evaluate(
    args: argparse.Namespace,
    experiment: Experiment,
    corrupted: CorruptedSet,
    network: SegmentationNetwork,
    content: Mapping[str, Any],
    sources: Mapping[Subset, Source],
    todo: Sequence[Subset],
    run: RobustRun,
) -> None:
    """Tests the subsets of `todo`; each result is kept as soon as it is there."""
    checkpoint, num_vote, done = experiment.checkpoint, args.num_vote, len(sources) - len(todo)
    going_on = f"; {done} of {len(sources)} subsets are finished there" if done else ""
    say(f"testing {checkpoint}, {num_vote} vote(s) each; results in {run.folder}{going_on}")
    assert checkpoint is not None
    uses_camera = has_image_branch(content, checkpoint)
    trainer = build_trainer(experiment.devices)
    for number, (subset, source) in enumerate(sources.items(), start=1):
        if subset not in todo:
            continue
        data = experiment.data(fit=False, num_vote=num_vote, images=False, source=source)
        say(f"[{number} of {len(sources)}] {subset.name}: {len(data.evaluation_set)} scans")
        output = SubsetOutput(
            run.folder / "subsets" / subset.name,
            experiment.label_map,
            data.expected_frames,
            corrupted.prediction_format(source, uses_camera),
            experiment.data_set.sensor,
            save_predictions=args.save_prediction,
            settings={"checkpoint": str(checkpoint), "num_vote": num_vote, "subset": subset.name},
        )
        task = SegmentationTask(
            network,
            experiment.config.train_params,
            experiment.label_map.names,
            output=output,
            skip_unseen=experiment.data_set.skips_unseen,
            moving=experiment.label_map.moving,
        )
        trainer.test(task, datamodule=data, verbose=False)
        assert task.scores is not None
        if task.scores.points == 0:
            raise UserError(f"{corrupted.root / subset.name}: no point has a label that counts; make the subset again")
        result = SubsetResult.of(subset, len(data.evaluation_set), task.scores)
        if trainer.is_global_zero:
            run.add(result, args.convention)
        miou, accuracy = result.miou[args.convention], result.accuracy[args.convention]
        say(f"[{number} of {len(sources)}] {subset.name}: mIoU {miou:.2f} %, accuracy {accuracy:.2f} %")


def _check_flags(args: argparse.Namespace) -> None:
    if not args.checkpoint:
        raise UserError("robust_test.py needs --checkpoint: a path, or `best` or `last` of --log_dir")
    protocol = PROTOCOLS[args.family]
    args.num_vote = args.num_vote or protocol.num_vote
    if args.num_vote > 1 and not protocol.votes_allowed:
        raise UserError(
            f"--num_vote {args.num_vote}: Robo3D's protocol allows no test-time augmentation; leave out --num_vote, or "
            "give 1"
        )


@rank_zero_only
def _report(run: RobustRun, report: RobustReport) -> None:
    """Writes the tables and the picture, and says the figures."""
    run.write(report.convention)
    written = replace(report, results=run.results).write(run.folder)
    for line in [*written, f"scores and pictures of each subset: {run.folder / 'subsets'}"]:
        say(line)


if __name__ == "__main__":
    sys.exit(
        run_program(
            lambda: main(sys.argv[1:]),
            resume="the same command (without --restart) goes on after the last finished subset",
        )
    )
