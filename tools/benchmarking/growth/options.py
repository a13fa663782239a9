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

from tools.benchmarking.flags import PRECISIONS, add_experiment_flags, add_process_flags, positive
from utils.command.flags import count
from utils.command.importing import importing

TABLES = ("points", "batch", "hidden", "votes")
SWEEPS = ((16, 640), (32, 960), (64, 2048), (128, 2400), (256, 4096))


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


def _sweep(text: str) -> tuple[int, int]:
    """Reads beams and steps of a sweep."""
    beams, _, steps = text.partition("x")
    if not (beams.isdigit() and steps.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is no sweep such as 64x2048")
    return int(beams), int(steps)


def run(args: argparse.Namespace) -> None:
    """Measures what the flags ask for."""
    with importing():
        from tools.benchmarking.growth import command

    command.run(args)
