"""Labels for scans of your own: files, folders and bags in, labels out, or a look at them in the browser.

python predict.py --checkpoint best.ckpt scan.bin street.las drive/ bag.mcap --output out/
python predict.py --checkpoint best.ckpt scan.pcd --view
python predict.py --checkpoint multiscan.ckpt drive/ --poses poses.txt --output out/
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

if __name__ == "__main__":  # before what takes seconds to import
    from utils.command.start import begin

    begin()

import torch

from dataloader.drives import Drives, find_drives, poses_nearby
from dataloader.formats.open import Layout, parse_columns, parse_dtype
from dataloader.inputs import Inputs, InputScan, OpenFiles, find_inputs
from dataloader.last_read import LastRead
from network.labelling.fits import Fits
from network.labelling.report import ProgressLines, counted, summarise
from network.labelling.run import READ_AHEAD, Keep, Labelling, Outcome, suffixes
from network.labelling.viewed import ViewedResults
from network.past import TrainedPast
from network.segmenter import Segmenter
from network.weights.configuration import Tested, open_for_test
from utils import locations
from utils.command.alignment_flags import add_alignment_flags, alignment_of
from utils.command.devices import Devices, choose_devices, device_notice, is_first_process
from utils.command.flags import Parser, add_network_flags, count
from utils.command.past_flags import add_past_flags, check_past_flags
from utils.command.process import run_program
from utils.command.terminal import say as print_lines
from utils.command.terminal import say_error
from utils.errors import UserError
from utils.files import sha256_of
from utils.fp32 import set_fp32_arithmetic
from utils.results.point_files import FORMATS
from utils.results.prediction_records import PredictionRecords, Results
from utils.scan.point_cloud import PointCloud

RESUME = "the same command goes on with the scans that are not done"

_NAMED = 5  # problems that the last line repeats


def say(line: str) -> None:
    """Prints a line for the user, in the first process of a run."""
    if is_first_process():
        print_lines(line)


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
        "--format", nargs="+", action="extend", choices=tuple(FORMATS), metavar="FORMAT", help="of the labels, one or "
        "several of label, npy, ply and las; default label: raw ids as uint32, in the order of the points"
    )  # fmt: skip
    add("--confidence", action="store_true", help="also write the confidence of each point (and into .ply)")
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


@dataclass(frozen=True)
class Job:
    """A frozen record of what a command line asks for.

    Attributes:
        args: the flags.
        tested: the checkpoint.
        devices: where to run.
        files: reads the scans.
        inputs: the scans.
        drives: their past.
        read: reads a scan, and keeps those that are the past of others.
    """

    args: argparse.Namespace
    tested: Tested
    devices: Devices
    files: OpenFiles
    inputs: Inputs
    drives: Drives
    read: Callable[[InputScan], PointCloud]

    def open_network(self, device: torch.device, rank: int = 0, world_size: int = 1) -> tuple[Segmenter, Fits]:
        """Builds the network, and what compares scans with its training; a process speaks of its own scans."""
        args = self.args
        segmenter = Segmenter.of(
            self.tested,
            device=device,
            precision="32" if args.precision == "tf32" else args.precision,
            votes=args.num_vote,
            alignment=alignment_of(args),
            seed=args.seed,
        )
        if segmenter.statistics is None and args.fit != "off":
            say(
                f"note: {self.tested.path} has no statistics of its training scans (published checkpoints and those of "
                "earlier versions have none), so whether these scans fit is not known"
            )

        def speak(line: str, number: int) -> None:
            if number in self.share(rank, world_size):
                print_lines(line)

        return segmenter, Fits(segmenter, self.inputs.scans, self.files.read, args.fit, speak)

    def share(self, rank: int, world_size: int) -> range:
        """Returns the numbers of the scans that a process labels; with past scans they follow each other."""
        count = len(self.inputs.scans)
        if self.drives.most:
            return range(rank * count // world_size, (rank + 1) * count // world_size)
        return range(rank, count, world_size)


def main(argv: Sequence[str]) -> None:
    """Runs the command."""
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
    set_fp32_arithmetic(tf32=args.precision == "tf32")
    drives = _drives(args, tested, inputs.scans)
    inputs = replace(inputs, scans=drives.ordered(inputs.scans))
    read = LastRead(files.read, drives.most + READ_AHEAD) if drives.most else files.read
    job, problems = Job(args, tested, devices, files, inputs, drives, read), list(inputs.problems)
    if records is not None:
        records.refuse_inputs((scan.target for scan in inputs.scans), (scan.location for scan in inputs.scans))
    network = job.open_network(_device_of(devices)) if devices.count == 1 else None
    results = None
    if args.view and network is not None:
        results = ViewedResults(*network, inputs.scans, read, drives.past)
    if records is not None:
        problems += label(job, records, network, None if results is None else results.keep)
    if results is not None:
        from utils.viewer.server import view

        view(results, args.host, args.port)  # what has no labels yet is labelled when it is looked at
    if problems and is_first_process():  # the others end in peace: a launcher ends all when one of them fails
        more = f" and {len(problems) - _NAMED} more" if len(problems) > _NAMED else ""
        names = ", ".join(problem.partition(": ")[0] for problem in problems[:_NAMED])
        total = len(inputs.scans) + len(inputs.problems)
        raise UserError(f"{len(problems)} of {total} inputs could not be used, as said above: {names}{more}")


def label(job: Job, records: PredictionRecords, network: tuple[Segmenter, Fits] | None, keep: Keep | None) -> list[str]:
    """Labels the scans that are not done, in all processes of the run, and writes the summary.

    Args:
        job: what to do.
        records: what is done already.
        network: from `Job.open_network`; None: each process opens its own.
        keep: takes each result, for the viewer.

    Returns:
        A line for each scan that cannot be labelled.
    """
    args, scans = job.args, job.inputs.scans
    past = f", with up to {counted(job.drives.most, 'scan')} before it" if job.drives.most else ""
    views = f"{counted(args.num_vote, 'view')} each{past}"
    say(f"labelling {counted(len(scans), 'scan')} with {job.tested.path}, {views}")

    def share(device: torch.device, rank: int, world_size: int) -> Outcome:
        segmenter, fits = network or job.open_network(device, rank, world_size)
        own = [scans[number] for number in job.share(rank, world_size)]
        past = job.drives.past
        work = Labelling(segmenter, job.read, fits, records, args.format, args.confidence, keep, past)
        return work.run(own, ProgressLines(len(own), first=rank == 0))

    if job.devices.count == 1:
        outcomes = [share(_device_of(job.devices), 0, 1)]
    else:
        from network.training.sharing import share_out  # here: Lightning takes seconds to import

        outcomes = share_out(job.devices, share)
    if is_first_process():
        summarise(scans, job.inputs.problems, outcomes, records, args.output, str(job.tested.path))
        if not args.view and any(outcome.labelled + outcome.skipped for outcome in outcomes):
            typed = [text for text in sys.argv[1:] if text != "--overwrite"]
            say(f"look at them in the browser: python predict.py {shlex.join(typed)} --view")
    return [problem for outcome in outcomes for problem in outcome.problems]


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
        "checkpoint": sha256_of(tested.path),
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
        raise UserError("predict.py needs --checkpoint: a path, or `best` or `last` of --log_dir")
    if not args.output and not args.view:
        raise UserError("give --output FOLDER for the labels, or --view to look at them in the browser, or both")
    if args.overwrite and not args.output:
        raise UserError("--overwrite goes with --output")
    if args.dtype and not args.columns:
        raise UserError("--dtype goes with --columns, which says what the numbers are")
    check_past_flags(args)


def _device_of(devices: Devices) -> torch.device:
    return torch.device("cuda", devices.ids[0]) if devices.accelerator == "gpu" else torch.device("cpu")


if __name__ == "__main__":
    sys.exit(run_program(lambda: main(sys.argv[1:]), resume=RESUME))
