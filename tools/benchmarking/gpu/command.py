"""The measurement on a device, backend by backend."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from tools.benchmarking.frame import Origin, prepare
from tools.benchmarking.gpu.inputs import VIEWS, VOTES, Job
from tools.benchmarking.gpu.row import BATCHES, run_job
from tools.benchmarking.gpu.tables import Row, Yardstick, evaluation_table, training_table
from tools.benchmarking.machine import machine, require
from tools.benchmarking.report import Report, console, growing


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
        "With the Triton backend an evaluation is a CUDA graph, if TWODPASS_CUDA_GRAPH is on; a step is not.",
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
