"""Measures how many scans a second the loaders deliver, from files to batches, and how many bytes they move.

    python tools/benchmark.py loader                                      # on copies of a made-up sweep of full size
    python tools/benchmark.py loader --data_path dataset/SemanticKitti/dataset/sequences --sequence 00 --frame 000000
    python tools/benchmark.py loader --workers 0 8 16 --items training --caches warm --output loader.md

Scans are copies of one frame, each lacking other points. No network runs beside the loaders.
"""

from __future__ import annotations

import argparse

from tools.benchmarking.flags import add_experiment_flags, add_frame_flags
from utils.command.flags import count
from utils.command.importing import importing

TRAINING, EVALUATION = "training", "evaluation"
WARM, COLD = "warm", "cold"


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of `loader`."""
    parser.add_argument(
        "--workers", nargs="+", type=count(0), default=[0, 1, 2, 4], metavar="N", help="loader processes (0 1 2 4)"
    )
    kinds, caches = (TRAINING, EVALUATION), (WARM, COLD)
    parser.add_argument("--items", nargs="+", choices=kinds, default=kinds, help="of which loader (default: both)")
    parser.add_argument(
        "--caches", nargs="+", choices=caches, default=caches,
        help="files are in memory (warm) or read from the disk (cold) (default: both)",
    )  # fmt: skip
    parser.add_argument("--scans", type=count(1), default=64, metavar="N", help="scans of each loader (%(default)s)")
    add_frame_flags(parser)
    add_experiment_flags(parser, runs=3)


def run(args: argparse.Namespace) -> None:
    """Measures what the flags ask for."""
    with importing():
        from tools.benchmarking.loader import command

    command.run(args)
