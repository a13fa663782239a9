"""Evaluation and training of 2DPASS on one CUDA device with each sparse backend, beside what the device could do.

    python tools/benchmark_gpu.py --check
    python tools/benchmark_gpu.py --data_path dataset/SemanticKitti/dataset/sequences --sequence 00 --frame 000000
    python tools/benchmark_gpu.py --backends torch triton --precisions bf16 --output gpu.md
    python tools/benchmark_gpu.py --device cpu --backends torch --runs 3 --steps 1 --batch_size 1   # tries the code

Each backend in each precision is measured in a process of its own: one that cannot be used, or breaks, is a remark in
its row while the others go on.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that the tool runs from anywhere

if __name__ == "__main__":  # before what takes seconds to import
    from utils.command.start import begin

    begin()

os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # as in main.py

import torch

from tools.benchmarking.frame import FULL_SIZE, add_experiment_flags, add_frame_flags, prepare
from tools.benchmarking.gpu_inputs import VIEWS, VOTES, Job
from tools.benchmarking.gpu_report import Row, Yardstick, evaluation_table, training_table
from tools.benchmarking.gpu_row import BATCHES, run_job
from tools.benchmarking.machine import machine, require
from tools.benchmarking.report import console, show
from utils.command.flags import Parser, count
from utils.command.process import run_program

BACKENDS = ("torch", "triton", "spconv", "spconv-triton")


def parse_arguments(argv: Sequence[str]) -> argparse.Namespace:
    number = count(1)
    parser = Parser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--backends", nargs="+", choices=BACKENDS, default=BACKENDS, help="default: all")
    parser.add_argument("--precisions", nargs="+", choices=("32", "bf16"), default=["32", "bf16"])
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu: only to try the code")
    add_frame_flags(parser)
    parser.add_argument("--workers", type=count(0), default=16, metavar="N", help="processes that load scans")
    parser.add_argument("--batch_size", type=number, default=8, metavar="N", help="of throughput and training")
    parser.add_argument("--runs", type=number, default=50, metavar="N", help="timed calls of each latency")
    parser.add_argument("--steps", type=number, default=20, metavar="N", help="timed batches back to back")
    parser.add_argument("--check", action="store_true", help="compare logits and gradients with the torch backend's")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the tables here too, as Markdown")
    add_experiment_flags(parser)
    return parser.parse_args(argv)


def main(argv: Sequence[str]) -> None:
    args = parse_arguments(argv)
    require(args.device)
    terminal = console()
    with tempfile.TemporaryDirectory() as folder, terminal.status("making the input") as status:
        job = Job(
            folder=folder,
            config=str(args.config.resolve()),
            overrides=tuple(args.set),
            backend=None,
            device=args.device,
            precision="32",
            runs=args.runs,
            steps=args.steps,
            batch_size=args.batch_size,
            workers=args.workers,
            check=args.check,
            threads=torch.get_num_threads(),
        )
        demo = replace(FULL_SIZE, workers=os.cpu_count() or 1)
        frame = args.data_path, args.sequence, args.frame
        model = prepare(*frame, args.config, args.set, Path(folder), demo, job.copies).model
        status.update("the speed of the machine")
        yardstick = Yardstick.of(run_job(job))
        rows = []
        for backend in dict.fromkeys(args.backends):
            for precision in dict.fromkeys(args.precisions):
                status.update(f"{backend}, {precision}")
                answer = run_job(replace(job, backend=backend, precision=precision))
                rows.append(Row(backend, precision, answer))
    facts = [machine(), *yardstick.facts(), f"Network: {len(model.scale_list)} scales x {model.hiden_size} channels."]
    tables = [evaluation_table(rows, yardstick, args.batch_size, args.check), training_table(rows, args.check)]
    show(terminal, facts, tables, [*closing(job), *yardstick.closing(args.precisions)], args.output)


def closing(job: Job) -> list[str]:
    """What the columns mean."""
    lines = [
        f"Latency: points to labels of one scan, both on the device, from idle to idle, {VIEWS} different scans in "
        f"turn: median and deciles of {job.runs} calls by the host's clock, and the median by the device's.",
        f"Throughput and training: {BATCHES} different batches of {job.batch_size} scans in turn, back to back, "
        f"{job.steps} batches. Votes: {VOTES} views of one scan.",
        f"From disk: {job.loader_steps[1]} steps after {job.loader_steps[0]} to warm up, scans loaded and augmented by "
        f"{job.workers} processes (files were just written: the system has them in memory). Waited: the share of the "
        "time in which the device had nothing to do because no batch was there.",
        "Roofline: the time that the arithmetic or the memory traffic of the 3D network alone would need (the greater "
        "of both), as a share of the time measured; voxels and kernel maps are not in it.",
        "Memory: the peak of what torch allocated." if job.device == "cuda" else "Memory: the peak of the process.",
    ]
    if job.check:
        lines.append(
            "Difference: from the torch backend in fp32. Of the logits the largest, relative to the largest logit; of "
            "the 3D network's gradients in a step of 2DPASS the norm, relative to theirs. The row of torch in bf16 "
            "shows what rounding does."
        )
    return lines


if __name__ == "__main__":
    sys.exit(run_program(lambda: main(sys.argv[1:])))
