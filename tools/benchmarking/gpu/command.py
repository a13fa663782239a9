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
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from tools.benchmarking.flags import (
    GPU_PRECISIONS,
    add_experiment_flags,
    add_frame_flags,
    add_precisions_flag,
    add_process_flags,
)
from tools.benchmarking.frame import Origin, prepare
from tools.benchmarking.gpu.inputs import VIEWS, VOTES, Job
from tools.benchmarking.gpu.row import BATCHES, run_job
from tools.benchmarking.gpu.tables import Row, Yardstick, evaluation_table, training_table
from tools.benchmarking.machine import machine, require
from tools.benchmarking.report import Report, console, growing
from utils.command.flags import count

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
    """Measures the backends that the flags ask for."""
    require(args.device)
    terminal = console()
    with tempfile.TemporaryDirectory() as folder, terminal.status("making the input") as status:
        job = _job(args, folder)
        origin = Origin(args.data_path, args.sequence, args.frame)
        model = prepare(origin, args.config, args.set, Path(folder), copies=job.copies).model
        status.update("the speed of the machine")
        yardstick = Yardstick.of(run_job(job, args.limit))
        network = f"Network: {len(model.scale_list)} scales x {model.hiden_size} channels."
        facts = [machine(), *yardstick.facts(), network]
        rows: list[Row] = []
        with growing(terminal, args.output, lambda: report(args, job, facts, yardstick, rows)) as row_done:
            for backend in dict.fromkeys(args.backends):
                for precision in dict.fromkeys(args.precisions):
                    status.update(f"{backend}, {precision}")
                    answer = run_job(replace(job, backend=backend, precision=precision), args.limit)
                    rows.append(Row(backend, precision, answer))
                    row_done()


def _job(args: argparse.Namespace, folder: str) -> Job:
    """Makes the part of the job that is the same for all rows; alone, it measures the machine."""
    return Job(
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


def report(
    args: argparse.Namespace, job: Job, facts: Sequence[str], yardstick: Yardstick, rows: Sequence[Row]
) -> Report:
    """Reports the finished rows as tables, with an explanation."""
    tables = [evaluation_table(rows, yardstick, job.batch_size, job.check), training_table(rows, job.check)]
    return Report(facts, tables, [*closing(job), *yardstick.closing(args.precisions)])


def closing(job: Job) -> list[str]:
    """Explains the columns."""
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
            "shows what rounding does, that of torch in TF32 what its products do."
        )
    return lines
