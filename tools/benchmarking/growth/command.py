"""The measurement of how time and memory grow."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from tools.benchmarking.frame import configure
from tools.benchmarking.growth.cases import Case, Laboratory, Question, Row, questions
from tools.benchmarking.growth.row import Job
from tools.benchmarking.growth.table import explain, memory_before, table
from tools.benchmarking.machine import machine, require
from tools.benchmarking.report import Report, console, growing
from utils.config.model import ModelParams


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
