"""The measurement of the stages, ours beside the plain way."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from network.native.library import library
from network.native.linear import linear
from tools.benchmarking.frame import Origin, describe, prepare
from tools.benchmarking.host import peak_memory
from tools.benchmarking.machine import machine, native_code
from tools.benchmarking.report import Column, Report, Table, console, growing, milliseconds
from tools.benchmarking.roofline import Rates, copy_rate, matrix_rate, network_work, roofline_lines
from tools.benchmarking.stages.catalogue import all_stages
from tools.benchmarking.stages.stage import CPU, Measurement, measure
from tools.benchmarking.subject import Subject
from utils.errors import UserError

MATRIX_ROWS = 8192  # as many as the convolutions multiply at a time: they stay in the cache
COLUMNS = (
    "stage", "ours (native), ms", "ours (torch), ms", "plain way", "plain, ms", "native ratio", "torch ratio",
    "largest difference",
)  # fmt: skip
NOTE = (
    "Ratios: how many times as long the plain way takes. Where a stage has no native code, both columns of ours are "
    "one measurement. Difference: the largest absolute one, of the largest absolute value; for label map, voxels, "
    "kernel maps and points to labels, how many entries differ, of how many."
)


def run(args: argparse.Namespace) -> None:
    """Measures the stages that the flags ask for."""
    terminal = console()
    with tempfile.TemporaryDirectory() as folder, terminal.status("making the input") as status:
        origin = Origin(args.data_path, args.sequence, args.frame)
        subject = prepare(origin, args.config, args.set, Path(folder))
        stages = all_stages(subject, args.precisions, lambda name: _is_wanted(name, args.stages))
        if not stages:
            raise UserError(
                f"--stages {' '.join(args.stages)}: no stage has such a name; leave the flag out to see all"
            )
        facts = [machine(), native_code(), *describe(subject)]
        measurements: list[Measurement] = []
        closing = [f"Medians of {args.runs} calls each, in turns.", NOTE]
        with growing(terminal, args.output, lambda: Report(facts, [table(measurements)], closing)) as row_done:
            for name, make in stages.items():
                status.update(name)
                measurements.append(measure(make(), args.runs))
                row_done()
            if (memory := peak_memory()) is not None:
                closing.append(f"Peak memory of the process, plain versions included: {memory / 2**30:.2f} GiB.")
            status.update("the speed of the machine")
            closing += list(roofline(subject, measurements))


def _is_wanted(name: str, texts: Sequence[str] | None) -> bool:
    return texts is None or any(text.lower() in name.lower() for text in texts)


def roofline(subject: Subject, measurements: Sequence[Measurement]) -> Iterator[str]:
    """Yields lines on the time that arithmetic and memory alone would take for the 3D network, and the measured one."""
    shape = (MATRIX_ROWS, subject.model.hiden_size, subject.model.hiden_size)
    for measurement in measurements:
        name = measurement.stage.name
        if name.startswith("3D network"):
            dtype = torch.bfloat16 if name.endswith("bf16") else torch.float32
            products = {"torch": matrix_rate(CPU, dtype, shape)}
            if library() is not None:
                products["native"] = matrix_rate(CPU, dtype, shape, product=linear)
            fastest = max(products, key=lambda way: products[way])
            yield f"Matrix products, {name.rpartition(' ')[2]}: " + ", ".join(
                f"{rate / 1e9:,.0f} GFLOP/s by {way}" for way, rate in products.items()
            )
            rates = Rates(products[fastest], copy_rate(CPU), shape)
            work = network_work(subject.network, subject.voxels, dtype.itemsize)
            measured = [("ours", measurement.ours)]
            if measurement.torch is not None:
                measured = [("native", measurement.ours), ("torch", measurement.torch)]
            yield from roofline_lines(name, work, rates, measured)


def cells(measurement: Measurement) -> tuple[str, ...]:
    """Writes a measurement as the columns of the table."""
    stage, m = measurement.stage, measurement
    in_torch = m.ours if m.torch is None else m.torch
    ratios = [f"{m.plain / took:.1f} x" for took in (m.ours, in_torch)]
    times = [milliseconds(took) for took in (m.ours, in_torch, m.plain)]
    return (stage.name, *times[:2], stage.plain_name, times[2], *ratios, str(m.difference))


def table(measurements: Sequence[Measurement]) -> Table:
    """Makes the table of all measurements."""
    columns = [Column(name, name.endswith(("ms", "ratio"))) for name in COLUMNS]
    return Table(columns, [cells(measurement) for measurement in measurements])
