"""Labels for scans of one's own: written, shown in the browser, or both."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass

import torch

from commands.bagging import write_bags
from dataloader.drives import Drives
from dataloader.inputs import Inputs, InputScan, OpenFiles
from dataloader.planned_bags import BagJob
from network.labelling.fits import Fits
from network.labelling.report import ProgressLines, counted, summarise
from network.labelling.run import Keep, Labelling, Outcome
from network.labelling.viewed import ViewedResults
from network.segmenter import Segmenter
from network.weights.configuration import Tested
from utils.command.alignment_flags import alignment_of
from utils.command.devices import Devices, is_first_process, say_first
from utils.command.terminal import say
from utils.fetching.references import is_reference
from utils.fp32 import set_fp32_arithmetic
from utils.results.prediction_records import PredictionRecords
from utils.scan.point_cloud import PointCloud


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
        bags: the bags to be made of the labelled scans; None: none.
    """

    args: argparse.Namespace
    tested: Tested
    devices: Devices
    files: OpenFiles
    inputs: Inputs
    drives: Drives
    read: Callable[[InputScan], PointCloud]
    bags: BagJob | None = None

    def open_network(self, device: torch.device, rank: int = 0, world_size: int = 1) -> tuple[Segmenter, Fits]:
        """Builds the network, and what compares scans with its training; a process speaks of its own scans."""
        args = self.args
        set_fp32_arithmetic(tf32=args.precision == "tf32")
        segmenter = Segmenter.of(
            self.tested,
            device=device,
            precision="32" if args.precision == "tf32" else args.precision,
            votes=args.num_vote,
            alignment=alignment_of(args),
            seed=args.seed,
        )
        if segmenter.statistics is None and args.fit != "off":
            say_first(
                f"note: {self.tested.path} has no statistics of its training scans (published checkpoints and those of "
                "earlier versions have none), so whether these scans fit is not known"
            )

        def speak(line: str, number: int) -> None:
            if number in self.share(rank, world_size):
                say(line)

        return segmenter, Fits(segmenter, self.inputs.scans, self.files.read, args.fit, speak)

    def share(self, rank: int, world_size: int) -> range:
        """Returns the numbers of the scans that a process labels; with past scans they follow each other."""
        count = len(self.inputs.scans)
        if self.drives.most:
            return range(rank * count // world_size, (rank + 1) * count // world_size)
        return range(rank, count, world_size)


def run(job: Job, records: PredictionRecords | None) -> list[str]:
    """Labels the scans of a job, and shows them if that is asked for.

    Args:
        job: what to do.
        records: what is done already, and where files go; None: nothing is written.

    Returns:
        A line for each scan that cannot be labelled.
    """
    args, problems = job.args, []
    network = job.open_network(_device_of(job.devices)) if job.devices.count == 1 else None
    results = None
    if args.view and network is not None:
        results = ViewedResults(*network, job.inputs.scans, job.read, job.drives.past)
    if records is not None:
        problems = _label(job, records, network, None if results is None else results.keep)
    if results is not None:
        from utils.viewer.server import view

        view(results, args.host, args.port)  # what has no labels yet is labelled when it is looked at
    return problems


def _label(
    job: Job, records: PredictionRecords, network: tuple[Segmenter, Fits] | None, keep: Keep | None
) -> list[str]:
    """Labels the scans that are not done, in all processes of the run, and writes the summary.

    Args:
        job: what to do.
        records: what is done already.
        network: from `Job.open_network`; None: each process opens its own.
        keep: takes each result, for the viewer.

    Returns:
        A line for each scan that cannot be labelled, and for each bag that cannot be made.
    """
    args, scans = job.args, job.inputs.scans
    past = f", with up to {counted(job.drives.most, 'scan')} before it" if job.drives.most else ""
    views = f"{counted(args.num_vote, 'view')} each{past}"
    say_first(f"labelling {counted(len(scans), 'scan')} with {job.tested.path}, {views}")

    def share(device: torch.device, rank: int, world_size: int) -> Outcome:
        segmenter, fits = network or job.open_network(device, rank, world_size)
        own = [scans[number] for number in job.share(rank, world_size)]
        past = job.drives.past
        work = Labelling(segmenter, job.read, fits, records, args.confidence, keep, past)
        return work.run(own, ProgressLines(len(own), first=rank == 0))

    if job.devices.count == 1:
        outcomes = [share(_device_of(job.devices), 0, 1)]
    else:
        from network.training.sharing import share_out  # here: Lightning takes seconds to import

        outcomes = share_out(job.devices, share)
    problems = [problem for outcome in outcomes for problem in outcome.problems]
    if is_first_process():
        if job.bags is not None:
            failed = {target for outcome in outcomes for target in outcome.failed}
            problems += write_bags(job.bags, records, failed, job.files, job.tested.classes)
        summarise(scans, job.inputs.problems, outcomes, records, args.output, str(job.tested.path))
        if not args.view and any(outcome.labelled + outcome.skipped for outcome in outcomes):
            typed = [text for text in sys.argv[1:] if text != "--overwrite"]
            if is_reference(args.checkpoint):  # it is here now, and a link may hold a password
                typed = [text.replace(args.checkpoint, str(job.tested.path)) for text in typed]
            say_first(f"look at them in the browser: python predict.py {shlex.join(typed)} --view")
    return problems


def _device_of(devices: Devices) -> torch.device:
    return torch.device("cuda", devices.ids[0]) if devices.accelerator == "gpu" else torch.device("cpu")
