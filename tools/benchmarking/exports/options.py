"""Compares exported models with the network that they come from: latency, memory, file size, labels that differ.

    python tools/benchmark.py export                                  # random weights, on a made-up sweep
    python tools/benchmark.py export --checkpoint checkpoint/demo --scans 000000.bin 000001.bin --output table.md
    python tools/benchmark.py export --checkpoint best --compile      # the program of AOTInductor, too: minutes

Each way of labelling is measured in a process of its own, which has what a user of that way needs: the one of ONNX has
no torch. The processes take turns, all with the same number of threads (OMP_NUM_THREADS).
"""

from __future__ import annotations

import argparse
from pathlib import Path

from dataloader.formats.layout import parse_columns
from network.export.model_file import MODELS, WEIGHTS
from tools.benchmarking.flags import CONFIG, LIMIT, add_experiment_flags, positive
from utils.command.flags import count
from utils.command.importing import importing
from utils.errors import UserError
from utils.fetching.references import FORMS


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of `export`."""
    add = parser.add_argument
    add("--checkpoint", metavar="NAME", help=f"{FORMS}; default: random weights")
    add("--log_dir", metavar="NAME", help="name of the run of `last` or `best`")
    add("--scans", nargs="+", type=Path, metavar="FILE", help="of points, as for predict.py (default: a demo)")
    add("--columns", type=parse_columns, metavar="NAMES", help="of the scans, as for predict.py, such as x,y,z,i")
    add("--formats", nargs="+", choices=tuple(MODELS), default=list(MODELS), help="of exports (default: all)")
    add("--weights", nargs="+", choices=WEIGHTS, help="of models in ONNX (default: all)")
    add("--compile", action="store_true", help="torch: compile the program, too, which takes minutes")
    add("--turns", type=count(1), default=3, metavar="N", help="processes of each, one after another (%(default)s)")
    add(
        "--limit", type=positive, default=LIMIT, metavar="SECONDS",
        help="that a process may take; then its row says so (%(default)g)",
    )  # fmt: skip
    add_experiment_flags(parser, runs=5)
    parser.set_defaults(config=None)  # a checkpoint holds its own


def run(args: argparse.Namespace) -> None:
    """Measures what the flags ask for.

    Raises:
        UserError: a flag has no effect beside the others.
    """
    for flag, without in (("--log_dir", "--checkpoint"), ("--columns", "--scans")):
        if getattr(args, flag[2:]) is not None and getattr(args, without[2:]) is None:
            raise UserError(f"{flag} has no effect without {without}; leave it out")
    for flag, given, wanted in (("--weights", args.weights, "onnx"), ("--compile", args.compile, "torch")):
        if given and wanted not in args.formats:
            raise UserError(f"{flag} has no effect without {wanted} in --formats; leave it out")
    if args.checkpoint is None and args.config is None:
        args.config = CONFIG
    with importing():
        from tools.benchmarking.exports import command

    command.run(args)
