"""Times each stage beside the plain way of doing it, on the CPU, in one run, and compares the results of both.

    python tools/benchmark.py                                      # on a made-up sweep of 64 beams x 2048
    python tools/benchmark.py --data_path dataset/SemanticKitti/dataset/sequences --sequence 00 --frame 000000
    python tools/benchmark.py --stages item voxels --output table.md

Ours and plain take turns, so that whatever else the machine does hits both; times are medians after a warm-up.
What the plain way is can be read in tools/benchmarking/plain_versions.py and plain_network.py.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that the tool runs from anywhere

if __name__ == "__main__":  # before what takes seconds to import
    from utils.command.start import begin

    begin()

os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # as in main.py

import torch

from tools.benchmarking import frame as frames
from tools.benchmarking.frame import FULL_SIZE, add_experiment_flags, add_frame_flags, describe
from tools.benchmarking.machine import machine, peak_memory
from tools.benchmarking.report import Column, Table, console, milliseconds, show
from tools.benchmarking.roofline import Rates, copy_rate, matrix_rate, network_work, roofline_lines
from tools.benchmarking.stage import Measurement, measure
from tools.benchmarking.stages import all_stages
from tools.benchmarking.subject import Subject
from utils.command.flags import Parser
from utils.command.process import run_program
from utils.errors import UserError

MATRIX_ROWS = 8192  # as many as the convolutions multiply at a time: they stay in the cache
COLUMNS = ("stage", "ours, ms", "plain way", "plain, ms", "ratio", "largest difference")
NOTE = (
    "Difference: the largest absolute one, of the largest absolute value; for label map, voxels, kernel maps and "
    "points to labels, how many entries differ, of how many."
)


def parse_arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = Parser(description=(__doc__ or "").splitlines()[0])
    add_frame_flags(parser)
    parser.add_argument("--runs", type=int, default=5, metavar="N", help="timed calls of each, after a warm-up")
    parser.add_argument("--precision", nargs="+", choices=("32", "bf16"), default=["32", "bf16"], help="of networks")
    parser.add_argument("--stages", nargs="+", metavar="TEXT", help="only stages whose name contains one of these")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the table here too, as Markdown")
    add_experiment_flags(parser)
    return parser.parse_args(argv)


def main(argv: Sequence[str]) -> None:
    args = parse_arguments(argv)
    if args.runs < 1:
        raise UserError("--runs takes a count of 1 or more")
    terminal = console()
    with tempfile.TemporaryDirectory() as folder, terminal.status("making the input") as status:
        subject = prepare(args.data_path, args.sequence, args.frame, args.config, args.set, Path(folder))
        facts = [machine(), *describe(subject)]
        measurements = []
        for stage in all_stages(subject, args.precision, lambda name: _is_wanted(name, args.stages)):
            status.update(stage.name)
            measurements.append(measure(stage, args.runs))
        if not measurements:
            raise UserError(
                f"--stages {' '.join(args.stages)}: no stage has such a name; leave the flag out to see all"
            )
        closing = [f"Medians of {args.runs} calls each, in turns.", NOTE]
        if (memory := peak_memory()) is not None:
            closing.append(f"Peak memory of the process, plain versions included: {memory / 2**30:.2f} GiB.")
        status.update("the speed of the machine")
        closing += roofline(subject, measurements)
    show(terminal, facts, [table(measurements)], closing, args.output)


def _is_wanted(name: str, texts: Sequence[str] | None) -> bool:
    return texts is None or any(text.lower() in name.lower() for text in texts)


def prepare(
    data_path: Path | None, sequence: str, frame: str, config: str | Path, overrides: Sequence[str], folder: Path
) -> Subject:
    """As `tools.benchmarking.frame.prepare`; without a `data_path`, a full-size sweep is made up."""
    demo = replace(FULL_SIZE, workers=os.cpu_count() or 1)
    return frames.prepare(data_path, sequence, frame, config, overrides, folder, demo)


def roofline(subject: Subject, measurements: Sequence[Measurement]) -> list[str]:
    """What arithmetic and memory alone would take of the 3D network, beside what was measured of it."""
    return [line for measurement in measurements for line in _roofline_of(subject, measurement)]


def _roofline_of(subject: Subject, measurement: Measurement) -> Iterator[str]:
    name = measurement.stage.name
    if not name.startswith("3D network"):
        return
    dtype = torch.bfloat16 if name.endswith("bf16") else torch.float32
    channels = subject.model.hiden_size
    shape = (MATRIX_ROWS, channels, channels)
    rates = Rates(matrix_rate(torch.device("cpu"), dtype, shape), copy_rate(torch.device("cpu")), shape)
    work = network_work(subject.network, subject.voxels, dtype.itemsize)
    yield from roofline_lines(name, work, rates, [("ours", measurement.ours)])


def cells(measurement: Measurement) -> tuple[str, ...]:
    """A measurement as the columns of the table."""
    stage, m = measurement.stage, measurement
    ratio = f"{m.plain / m.ours:.1f} x"
    return (stage.name, milliseconds(m.ours), stage.plain_name, milliseconds(m.plain), ratio, str(m.difference))


def table(measurements: Sequence[Measurement]) -> Table:
    columns = [Column(name, name.endswith("ms") or name == "ratio") for name in COLUMNS]
    return Table(columns, [cells(measurement) for measurement in measurements])


if __name__ == "__main__":
    sys.exit(run_program(lambda: main(sys.argv[1:])))
