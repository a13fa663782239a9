"""Measures evaluation and training on one CUDA device with each sparse backend, beside what the device could do.

    python tools/benchmark.py gpu --check
    python tools/benchmark.py gpu --data_path dataset/SemanticKitti/dataset/sequences --sequence 00 --frame 000000
    python tools/benchmark.py gpu --backends torch triton --precisions bf16 --output gpu.md
    python tools/benchmark.py gpu --device cpu --backends torch --runs 3 --steps 1 --batch_size 1   # tries the code

Each backend in each precision is measured in a process of its own: one that cannot be used, breaks, or takes longer
than --limit is a remark in its row while the others go on.
"""

from __future__ import annotations

import argparse

from tools.benchmarking.flags import (
    GPU_PRECISIONS,
    add_experiment_flags,
    add_frame_flags,
    add_precisions_flag,
    add_process_flags,
)
from utils.command.flags import count
from utils.command.importing import importing

BACKENDS = ("torch", "triton", "spconv", "spconv-triton")


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of `gpu`."""
    number = count(1)
    parser.add_argument("--backends", nargs="+", choices=BACKENDS, default=BACKENDS, help="default: all")
    add_precisions_flag(parser, GPU_PRECISIONS)
    add_process_flags(parser, "cuda")
    add_frame_flags(parser)
    parser.add_argument("--workers", type=count(0), default=16, metavar="N", help="processes that load scans")
    parser.add_argument("--batch_size", type=number, default=8, metavar="N", help="of throughput and training")
    parser.add_argument("--steps", type=number, default=20, metavar="N", help="timed batches back to back")
    parser.add_argument("--check", action="store_true", help="compare logits and gradients with the torch backend's")
    add_experiment_flags(parser, runs=50)


def run(args: argparse.Namespace) -> None:
    """Measures what the flags ask for."""
    with importing():
        from tools.benchmarking.gpu import command

    command.run(args)
