"""Measures how time and memory grow with the points of a scan, the scans of a batch, the hidden size and the votes.

    python tools/benchmark.py growth
    python tools/benchmark.py growth --tables points --sweeps 128x4096 256x8192 --output growth.md
    python tools/benchmark.py growth --tables batch --memory_limit 4       # where it breaks, on any machine
    python tools/benchmark.py growth --device cuda --precision bf16

Scans are made-up sweeps. Every number comes from a process of its own, so that its memory is its own, and so that one
which fails (memory runs out, say) or takes longer than --limit is a remark in its row while the others go on.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from tools.benchmarking.flags import PRECISIONS, add_experiment_flags, add_process_flags, positive
from tools.benchmarking.frame import FULL_SIZE, configure
from tools.benchmarking.growth.cases import Case, Laboratory, Question, Row, Sweep, questions
from tools.benchmarking.growth.row import Job
from tools.benchmarking.growth.table import explain, memory_before, table
from tools.benchmarking.machine import machine, require
from tools.benchmarking.report import Report, console, growing
from utils.command.flags import count
from utils.config.model import ModelParams

TABLES = ("points", "batch", "hidden", "votes")
SWEEPS = ((16, 640), (32, 960), (FULL_SIZE.beams, FULL_SIZE.azimuth_steps), (128, 2400), (256, 4096))


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of `growth`."""
    number = count(1)
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=TABLES, help="what grows (default: all)")
    parser.add_argument("--sweeps", nargs="+", type=_sweep, default=SWEEPS, metavar="BEAMSxSTEPS", help="of points")
    parser.add_argument("--batches", nargs="+", type=number, default=[1, 2, 4, 8], metavar="N", help="scans per batch")
    parser.add_argument("--hidden", nargs="+", type=number, default=[32, 64, 128, 256], metavar="C", help="hidden size")
    parser.add_argument("--votes", nargs="+", type=number, default=[1, 2, 4, 8, 12], metavar="N", help="views per scan")
    parser.add_argument(
        "--sweep", type=_sweep, default=SWEEPS[2], metavar="BEAMSxSTEPS", help="of the tables other than points"
    )
    parser.add_argument("--precision", choices=PRECISIONS, default="32", help="of the networks")
    parser.add_argument("--budget", type=positive, default=3.0, metavar="S", help="seconds to repeat a number for")
    parser.add_argument(
        "--memory_limit", type=positive, metavar="GIB", help="memory that each process may take, on CUDA of the device"
    )
    add_process_flags(parser, "cpu")
    add_experiment_flags(parser, runs=5)


def _sweep(text: str) -> Sweep:
    beams, _, steps = text.partition("x")
    if not (beams.isdigit() and steps.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is no sweep such as 64x2048")
    return int(beams), int(steps)


def run(args: argparse.Namespace) -> None:
    """Measures the tables that the flags ask for."""
    require(args.device)
    terminal = console()
    with tempfile.TemporaryDirectory() as folder, terminal.status("starting") as status:
        # Scans of a batch are to have equally many points, or the rows would not compare.
        overrides = ("dataset_params.train_data_loader.dropout_aug=false", *args.set)
        model = configure(args.config, overrides, Path(folder)).model_params
        assert isinstance(model, ModelParams)
        config = str(args.config.resolve())
        repeated = args.runs, args.budget, args.memory_limit, torch.get_num_threads()
        job = Job("", "", config, overrides, args.device, args.precision, *repeated)
        laboratory = Laboratory(Path(folder), job, args.limit, status.update)
        base = Case(args.sweep, 1, model.hiden_size)
        asked = questions(base, args.sweeps, args.batches, args.hidden, args.votes)
        facts = [
            machine(),
            f"Device: {args.device}, precision {args.precision}; {len(model.scale_list)} scales.",
            f"Where it does not grow: one scan of {base.sweep[0]} beams x {base.sweep[1]}, {base.channels} channels, "
            "one vote. Points: in the volume. Voxels: at scale 1.",
        ]
        found: dict[str, list[Row]] = {}
        with growing(terminal, args.output, lambda: report(args, facts, asked, found)) as row_done:
            for name in dict.fromkeys(args.tables):
                for row in laboratory.rows(asked[name]):
                    found.setdefault(name, []).append(row)
                    row_done()


def report(
    args: argparse.Namespace, facts: Sequence[str], asked: Mapping[str, Question], found: Mapping[str, Sequence[Row]]
) -> Report:
    """Reports the finished rows as tables, with an explanation."""
    tables = [
        table(asked[name], rows, lambda text: explain(text, args.device, args.memory_limit))
        for name, rows in found.items()
    ]
    units = ", ".join(f"per {asked[name].unit}" for name in found)
    return Report(facts, tables, closing(args, units, [row for rows in found.values() for row in rows]))


def closing(args: argparse.Namespace, units: str, rows: Sequence[Row]) -> list[str]:
    """Explains the columns."""
    lines = [
        "Evaluation: from points to labels, with the 3D network. Training step: 2DPASS with its image branch and the "
        "optimiser's step.",
        f"x: the number left of it {units} (of its table), relative to the first row; 1.00 is growth in proportion.",
        f"Times are medians. Runs: of how many calls, evaluation and training; a number is repeated {args.runs} times, "
        f"or until {args.budget:g} s have passed. A first call that takes longer is the only one. Where other "
        "processes took part of the machine, threads wait for each other, and times are many times too long.",
    ]
    if (before := memory_before(rows)) is not None:
        held = "libraries, network and batch" if args.device == "cpu" else "network and batch on the device"
        lines.append(
            f"Memory: the most that the calls add to what their process holds before ({before[0]:,.0f} to "
            f"{before[1]:,.0f} MiB: {held})."
        )
    if args.memory_limit is not None:
        lines.append(
            f"Each process may take {args.memory_limit:g} GiB (--memory_limit), what it holds before included."
        )
    return lines
