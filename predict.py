"""Labels for scans of your own: files, folders and bags in, labels out, or a look at them in the browser.

python predict.py --checkpoint best.ckpt scan.bin street.las drive/ bag.mcap --output out/
python predict.py --checkpoint best.ckpt scan.pcd --view
python predict.py --checkpoint multiscan.ckpt drive/ --poses poses.txt --output out/
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

if __name__ == "__main__":  # before what takes long to import
    from utils.command.start import begin

    begin()

from dataloader.drives import Drives, find_drives, poses_nearby
from dataloader.formats.open import Layout, parse_columns, parse_dtype
from dataloader.inputs import InputScan, OpenFiles, find_inputs
from dataloader.last_read import LastRead
from dataloader.planned_bags import BagJob, PlannedBag, check_bags, plan_bags
from network.labelling.ahead import READ_AHEAD
from network.trained_past import TrainedPast
from network.weights.configuration import Tested, open_for_test
from utils import locations
from utils.command.alignment_flags import add_alignment_flags, alignment_of
from utils.command.devices import choose_devices, device_notice, is_first_process
from utils.command.devices import say_first as say
from utils.command.flags import Parser, add_network_flags, count
from utils.command.importing import importing
from utils.command.past_flags import add_past_flags, check_past_flags
from utils.command.process import run_program
from utils.command.terminal import say_error
from utils.errors import UserError
from utils.fetching.references import FORMS
from utils.results.bag_files import FORMATS as BAG_FORMATS
from utils.results.bag_files import require_rosbags
from utils.results.point_files import FORMATS
from utils.results.prediction_records import BAG_FOLDER, PredictionRecords, Results, suffixes

RESUME = "the same command goes on with the scans that are not done"

_NAMED = 5  # problems that the last line repeats


def say_problem(line: str) -> None:
    """Prints what is wrong with an input, in the first process of a run."""
    if is_first_process():
        say_error(f"error: {line}")


def build_parser() -> Parser:
    """Builds the parser of the flags."""
    parser = Parser(description=__doc__)
    add = parser.add_argument
    add(
        "inputs", nargs="+", metavar="SCAN", help="files, folders (all point files in and below), patterns and URLs: "
        ".bin .pcd .ply .las .laz .npy .npz, text, ROS 1 and 2 bags, .mcap"
    )  # fmt: skip
    add("--output", metavar="FOLDER", help="where the labels go, a path or a URL; folders are mirrored there")
    add(
        "--format", nargs="+", action="extend", choices=(*FORMATS, *BAG_FORMATS), metavar="FORMAT", help="one or "
        "several of label (default: raw ids as uint32, in the order of the points), npy, ply and las, and of mcap and "
        "bag: ROS 2 bags of labelled clouds, one for each bag or folder"
    )  # fmt: skip
    add("--confidence", action="store_true", help="also write the confidence of each point (and into .ply and bags)")
    add("--overwrite", action="store_true", help="label scans again whose results are there already")
    add("--view", action="store_true", help="look at the result in the browser")
    add("--host", default="127.0.0.1", help="address of the viewer; others may look on with 0.0.0.0")
    add("--port", type=count(1, 65535), default=8080, help="port of the viewer, or the next free one")
    columns = "columns of .bin, .npy and text that do not say them, _ for one to leave out: x,y,z,i,_"
    add("--columns", type=parse_columns, metavar="NAMES", help=columns)
    add("--dtype", type=parse_dtype, metavar="TYPE", help="type of the numbers of a .bin with --columns: float64")
    add("--topic", metavar="NAME", help="topic of the points in a bag; default: the only one")
    add("--num_vote", type=count(1, 1000), default=1, metavar="N", help="views per scan (test-time augmentation)")
    add_past_flags(parser)
    add_alignment_flags(parser)
    add_network_flags(parser)
    return parser


def main(argv: Sequence[str]) -> None:
    """Runs the command: what can be checked without torch is checked first, then `commands` does the work."""
    args = build_parser().parse_args(argv)
    args.format = list(dict.fromkeys(args.format or ["label"]))
    _check_flags(args)
    tested = open_for_test(args.checkpoint, args.log_dir, args.config, args.set, say)
    devices = choose_devices(args.gpu, args.cpu, args.num_nodes, args.precision)
    if args.view and devices.count > 1:
        raise UserError("--view shows the scans of one process; leave it out, or name one device")
    say(device_notice(devices, args.cpu))
    files = OpenFiles(Layout(args.columns, args.dtype or "<f4", args.topic))
    records = None
    if args.output:
        names = suffixes(args.format, args.confidence)
        records = PredictionRecords(args.output, _settings(args, tested), names, args.overwrite)
    inputs = find_inputs(args.inputs, files, _no_scans(args))
    for problem in inputs.problems:
        say_problem(problem)
    if not inputs.scans:
        raise UserError("nothing to label: none of the inputs can be used")
    drives = _drives(args, tested, inputs.scans)
    inputs = replace(inputs, scans=drives.ordered(inputs.scans))
    read = LastRead(files.read, drives.most + READ_AHEAD) if drives.most else files.read
    if records is not None:
        records.refuse_inputs((scan.target for scan in inputs.scans), (scan.location for scan in inputs.scans))
    bags = _bags(args, tested, plan_bags(inputs.scans, drives)) if args.output and _bag_formats(args) else None
    with importing():
        from commands.labelling import Job, run

    problems = [*inputs.problems, *run(Job(args, tested, devices, files, inputs, drives, read, bags), records)]
    if problems and is_first_process():  # the others end in peace: a launcher ends all when one of them fails
        more = f" and {len(problems) - _NAMED} more" if len(problems) > _NAMED else ""
        names = ", ".join(problem.partition(": ")[0] for problem in problems[:_NAMED])
        total = len(inputs.scans) + len(inputs.problems)
        raise UserError(f"{len(problems)} of {total} inputs could not be used, as said above: {names}{more}")


def _bag_formats(args: argparse.Namespace) -> list[str]:
    return [BAG_FORMATS[name] for name in args.format if name in BAG_FORMATS]


def _bags(args: argparse.Namespace, tested: Tested, planned: Sequence[PlannedBag]) -> BagJob:
    """Returns the bags to be made, which may be written.

    Raises:
        UserError: what is there may not be replaced.
    """
    formats = _bag_formats(args)
    require_rosbags()
    records = PredictionRecords(args.output, _settings(args, tested), formats, args.overwrite, BAG_FOLDER)
    check_bags(planned, records, args.overwrite)
    return BagJob(planned, records, args.confidence)


def _no_scans(args: argparse.Namespace) -> Callable[[str], bool]:
    """Returns what tells files in folders that are no scans: results of an earlier run, poses and times."""
    results, tables = Results(), [*(args.poses or ()), *(args.times or ())]
    whole = {locations.absolute(table) for table in tables}

    def is_none(location: str) -> bool:
        name = location.rpartition("/")[2]
        return location in results or name in tables or (bool(whole) and locations.absolute(location) in whole)

    return is_none


def _drives(args: argparse.Namespace, tested: Tested, scans: Sequence[InputScan]) -> Drives:
    """Finds the past of the scans, or says that there is none.

    Raises:
        UserError: the network takes no past scans, or the poses do not fit.
    """
    trained = TrainedPast.of(tested.config)
    most = _past_scans(args, tested)
    if not args.poses:
        if trained.scans and args.past_scans is None:
            near = poses_nearby(scans)
            there = f", such as --poses {near}" if near else ""
            say(
                f"note: {trained}, and sees none here: expect worse labels; give the poses of the sensor with --poses"
                f"{there}, or --past_scans 0 if there are none"
            )
        return Drives()
    if args.past_scans == 0:
        return Drives()
    if not trained.taken:
        raise UserError(f"--poses: {trained} ({tested.path}); leave it out, or name a multi-scan checkpoint")
    if not most:
        raise UserError(f"--poses: {tested.path} was trained with past_scans 0; say how many to use with --past_scans")
    if args.times and trained.ages == "scans":
        raise UserError(f"--times: {tested.path} has learned ages in scans, not in seconds; leave it out")
    drives = find_drives(scans, args.poses, args.times or (), most, trained.ages, say)
    if not any(drives.past(scan) for scan in scans):
        say("note: none of these scans has a past: past scans are those among the inputs; name the folder of the drive")
    if trained.thinned:
        say(f"note: {tested.path} was trained with past points thinned by their class; here all of them are kept")
    return drives


def _settings(args: argparse.Namespace, tested: Tested) -> dict[str, Any]:
    """Lists what decides the labels of a scan, for a run that goes on with an earlier one."""
    return {
        "checkpoint": tested.sha256,
        "config": f"{args.config or ''} {' '.join(args.set)}".strip(),
        "num_vote": args.num_vote,
        "seed": args.seed if args.num_vote > 1 else 0,
        "precision": args.precision,
        "alignment": alignment_of(args).flags(),
        "fit": args.fit == "auto",
        "layout": f"{','.join(args.columns or ())} {args.dtype or ''} {args.topic or ''}".strip(),
        # What poses and times say is part of the version of each scan. Earlier versions have not written this.
        "past_scans": _past_scans(args, tested) or None,
    }


def _past_scans(args: argparse.Namespace, tested: Tested) -> int:
    """Returns how many past scans a scan may have in this run."""
    if not args.poses:
        return 0
    return TrainedPast.of(tested.config).scans if args.past_scans is None else args.past_scans


def _check_flags(args: argparse.Namespace) -> None:
    if not args.checkpoint:
        raise UserError(f"predict.py needs --checkpoint: {FORMS}")
    if not args.output and not args.view:
        raise UserError("give --output FOLDER for the labels, or --view to look at them in the browser, or both")
    if args.overwrite and not args.output:
        raise UserError("--overwrite goes with --output")
    if "bag" in args.format and args.output and locations.path_of(args.output) is None:
        raise UserError(f"--format bag makes a folder, which {args.output} cannot take whole; use --format mcap")
    if args.dtype and not args.columns:
        raise UserError("--dtype goes with --columns, which says what the numbers are")
    check_past_flags(args)


if __name__ == "__main__":
    sys.exit(run_program(lambda: main(sys.argv[1:]), resume=RESUME))
