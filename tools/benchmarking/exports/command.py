"""The comparison of exported models with the network that they come from."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from network.assemble import load_for_test
from network.export.model_file import WEIGHTS, refuse
from network.weights.configuration import Tested, open_for_test
from tools.benchmarking.exports.inputs import Points, describe_inputs, make_checkpoint, read_scans
from tools.benchmarking.exports.table import table
from tools.benchmarking.exports.ways import Checkpoint, Trial, ways
from tools.benchmarking.machine import machine, native_code
from tools.benchmarking.report import Report, console, growing
from utils.command.terminal import say
from utils.config.loading import load_config


def run(args: argparse.Namespace) -> None:
    """Measures what the flags ask for."""
    terminal = console()
    with tempfile.TemporaryDirectory() as name, terminal.status("making the input") as status:
        folder = Path(name)
        named = None if args.checkpoint is None else _open(args)
        scans = read_scans(args.scans, args.columns, folder)
        tested = named or _random(args, scans[0], folder / "random.ckpt")
        network, _ = load_for_test(tested.config, tested.path, tested.content)
        facts = [machine(), native_code(), *describe_inputs(args, tested, network, scans)]
        files = tuple(str(folder / f"scan_{number}.npy") for number in range(len(scans)))
        for file, points in zip(files, scans, strict=True):
            np.save(file, points)
        trials = _trials(args, tested, folder)
        done: list[Trial] = []
        with growing(terminal, args.output, lambda: report(facts, done, scans, args)) as row_done:
            for trial in trials:
                status.update(f"export: {trial.way.name}, {trial.way.weights}")
                trial.export()
            for left in reversed(range(args.turns)):
                for trial in trials:
                    status.update(f"{trial.way.name}, {trial.way.weights}; turns left: {left}")
                    trial.take_turn(files, args.runs, torch.get_num_threads(), args.limit)
                    if not left:
                        done.append(trial)
                        row_done()


def _open(args: argparse.Namespace) -> Tested:
    """Opens the checkpoint that the flags name.

    Raises:
        UserError: there is none, it has no config, or it cannot be exported.
    """
    config = None if args.config is None else str(args.config)
    tested = open_for_test(args.checkpoint, args.log_dir or "default", config, args.set, say)
    refuse(tested)
    return tested


def _random(args: argparse.Namespace, points: Points, path: Path) -> Tested:
    make_checkpoint(load_config(args.config, args.set), points, path)
    tested = open_for_test(str(path), "default", None, (), say)
    refuse(tested)
    return tested


def _trials(args: argparse.Namespace, tested: Tested, folder: Path) -> list[Trial]:
    if args.checkpoint is None:  # it holds its config
        checkpoint = Checkpoint(tested.path, None, ())
    else:
        checkpoint = Checkpoint(tested.path, None if args.config is None else str(args.config), tuple(args.set))
    asked = ways(args.formats, args.weights or WEIGHTS, args.compile)
    return [Trial(way, checkpoint, folder / str(number)) for number, way in enumerate(asked)]


def report(facts: Sequence[str], done: Sequence[Trial], scans: Sequence[Points], args: argparse.Namespace) -> Report:
    """Reports the finished rows as a table, with an explanation."""
    tables = [table(done, list(map(len, scans)))] if done else []
    all_scans = "the scan" if len(scans) == 1 else f"the {len(scans)} scans"
    closing = [
        f"From the points of a scan to the label of each. Each way, in turns with the others: {args.turns} times a "
        f"process that labels {all_scans} {args.runs} times, after a first time. Times are per scan.",
        "Memory: the largest size of a process, its libraries included. File: what is loaded; a checkpoint may hold "
        "more than the network. Labels that differ: from those of the first row, of each scan.",
    ]
    return Report(facts, tables, closing)
