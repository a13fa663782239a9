"""Times each stage beside the plain way of doing it, on the CPU, in one run, and compares the results of both.

    python tools/benchmark.py stages                                      # on a made-up sweep of 64 beams x 2048
    python tools/benchmark.py stages --data_path dataset/SemanticKitti/dataset/sequences --sequence 00 --frame 000000
    python tools/benchmark.py stages --stages item voxels --output table.md

Ours and plain take turns, so that whatever else the machine does hits both; times are medians after a warm-up.
What the plain way is can be read in tools/benchmarking/plain/.
"""

from __future__ import annotations

import argparse

from tools.benchmarking.flags import add_experiment_flags, add_frame_flags, add_precisions_flag
from utils.command.importing import importing


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of `stages`."""
    add_frame_flags(parser)
    add_precisions_flag(parser)
    parser.add_argument("--stages", nargs="+", metavar="TEXT", help="only stages whose name contains one of these")
    add_experiment_flags(parser, runs=5)


def run(args: argparse.Namespace) -> None:
    """Measures what the flags ask for."""
    with importing():
        from tools.benchmarking.stages import command

    command.run(args)
