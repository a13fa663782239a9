"""The test of main.py, once per corruption: `python robust_test.py --checkpoint <path> --num_vote 12 --gpu 0`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

if __name__ == "__main__":  # before what takes long to import
    from utils.command.start import begin

    begin()

from dataloader.datasets.corrupted_set import CorruptedSet, names_of
from dataloader.experiment import open_experiment
from network.weights.configuration import open_for_test
from utils.command.devices import say_first
from utils.command.flags import Parser, add_shared_flags, count
from utils.command.importing import importing
from utils.command.process import run_program
from utils.corruptions import FAMILIES
from utils.errors import UserError
from utils.fetching.references import FORMS
from utils.robustness.conditions import Conditions
from utils.robustness.family import CONVENTIONS, PROTOCOLS, load_family
from utils.robustness.run import find_baseline


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
    add(
        "--output",
        metavar="FOLDER",
        help="parent folder of robust_test_<date>; default: beside the checkpoint, "
        "or logs/<dataset>/<log_dir> if that is published or fetched",
    )
    add("--restart", action="store_true", help="start in a new folder, even if an earlier run could be continued")
    return parser


def parse_arguments(argv: Sequence[str]) -> argparse.Namespace:
    """Reads the command line."""
    return build_parser().parse_args(argv)


def main(argv: Sequence[str]) -> None:
    """Runs the command: what can be checked without torch is checked first, then `commands` does the work."""
    args = parse_arguments(argv)
    _check_flags(args)
    tested = open_for_test(args.checkpoint, args.log_dir, args.config, args.set, say_first)
    experiment = open_experiment(args, tested)
    family = load_family(args.family, experiment.data_set.name)
    corrupted = CorruptedSet.find(family, experiment.data_set, experiment.request("valid"), args.corruption_path)
    for note in experiment.notes:
        say_first(note)
    root, made_with, trained_on = corrupted.root, corrupted.made_with, tested.trained_on(experiment.label_map)
    conditions = Conditions.of(args, tested.config, tested.path, root, made_with, trained_on)
    baseline, remarks = find_baseline(args.baseline, family, args.convention, args.num_vote, root, made_with)
    sources, missing = corrupted.open(family.select(args.subsets) if args.subsets else family.subsets)
    corrupted.refuse_missing(list(sources), missing, args.allow_missing)
    if missing:
        say_first(f"missing and left out: {names_of(missing)}")
    with importing():
        from commands.robustness import RobustReport, test_subsets, write_report

    run = test_subsets(args, experiment, tested, corrupted, sources, conditions)
    write_report(run, RobustReport(family, run.results, args.convention, baseline, conditions, remarks))


def _check_flags(args: argparse.Namespace) -> None:
    if not args.checkpoint:
        raise UserError(f"robust_test.py needs --checkpoint: {FORMS}")
    protocol = PROTOCOLS[args.family]
    args.num_vote = args.num_vote or protocol.num_vote
    if args.num_vote > 1 and not protocol.votes_allowed:
        raise UserError(
            f"--num_vote {args.num_vote}: Robo3D's protocol allows no test-time augmentation; leave out --num_vote, or "
            "give 1"
        )


if __name__ == "__main__":
    sys.exit(
        run_program(
            lambda: main(sys.argv[1:]),
            resume="the same command (without --restart) goes on after the last finished subset",
        )
    )
