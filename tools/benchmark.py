"""Measures the speed and the memory use of this project on this machine.

    python tools/benchmark.py stages    # each stage compared with a plain implementation, on the CPU
    python tools/benchmark.py growth    # how time and memory grow with points, batch, hidden size and votes
    python tools/benchmark.py loader    # scans a second from files to batches, with several loader processes
    python tools/benchmark.py export    # exported models beside their network: latency, memory, size, labels
    python tools/benchmark.py gpu       # evaluation and training with each sparse backend on a CUDA device

Each finished row is shown and written to --output; a run that is stopped still prints the tables of these rows.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

if __name__ == "__main__":  # before what takes seconds to import
    if not __package__:  # run as a file, and not with -m
        import _root  # noqa: F401
    from utils.command.start import begin

    begin()

from tools.benchmarking.exports import options as exports
from tools.benchmarking.gpu import options as gpu
from tools.benchmarking.growth import options as growth
from tools.benchmarking.loader import options as loader
from tools.benchmarking.stages import options as stages
from utils.command.flags import Parser
from utils.command.process import run_program

COMMANDS = {"stages": stages, "growth": growth, "loader": loader, "export": exports, "gpu": gpu}


def build_parser() -> Parser:
    """Builds the parser of this program; `run` of what it returns is the chosen benchmark."""
    parser = Parser(description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="|".join(COMMANDS), help="what to measure")
    for name, module in COMMANDS.items():
        text = module.__doc__ or ""
        command: argparse.ArgumentParser = commands.add_parser(name, help=text.partition("\n")[0], description=text)
        module.add_flags(command)
        command.set_defaults(run=module.run)
    return parser


def main(argv: Sequence[str]) -> int:
    """Runs the command; returns the exit code."""
    args = build_parser().parse_args(argv)
    return run_program(lambda: args.run(args))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
