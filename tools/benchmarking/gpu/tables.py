"""The tables of `benchmark.py gpu`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tools.benchmarking.child import Answer
from tools.benchmarking.flags import GPU_PRECISIONS
from tools.benchmarking.machine import GIB
from tools.benchmarking.report import NONE, Column, Table, milliseconds
from tools.benchmarking.roofline import Rates, Work, roofline_lines


@dataclass(frozen=True)
class Row:
    """One backend in one precision, measured."""

    backend: str
    precision: str
    answer: Answer

    def value(self, measurement: str, name: str) -> float | None:
        """Returns a number, or None if it was not measured."""
        return self.answer.value(measurement, name)

    def cell(self, measurement: str, name: str, text: Callable[[float], str]) -> str:
        """Returns the same number as text."""
        value = self.value(measurement, name)
        return NONE if value is None else text(value)

    def remark(self) -> str:
        """Says why something is missing."""
        reasons: dict[str, list[str]] = {}
        for measurement, reason in self.answer.failures.items():
            reasons.setdefault(reason, []).append(measurement)
        # Where nothing could be measured, it does not matter what was to be measured first.
        named = bool(self.answer.values)
        return "; ".join(
            f"{', '.join(filter(None, which))}: {reason}" if named and any(which) else reason
            for reason, which in reasons.items()
        )


@dataclass(frozen=True)
class Yardstick:
    """The speed of the device, and the work of one scan.

    Attributes:
        name: the name of the device.
        points, voxels: their numbers in the scan.
        rates, work: by precision; the work by kind of layer.
        failure: the reason why these are not known, or "".
    """

    name: str = ""
    points: int = 0
    voxels: int = 0
    rates: dict[str, Rates] = field(default_factory=dict)
    work: dict[str, dict[str, Work]] = field(default_factory=dict)
    failure: str = ""

    @staticmethod
    def of(answer: Answer) -> Yardstick:
        """Reads the answer of the child that measured the machine."""
        if (found := answer.values.get("machine")) is None:
            return Yardstick(failure="; ".join(answer.failures.values()))
        rows, inner, columns = found["shape"]
        return Yardstick(
            found["name"],
            found["points"],
            found["voxels"],
            {p: Rates(flops, found["bytes"], (rows, inner, columns)) for p, flops in found["flops"].items()},
            {p: {kind: Work(**part) for kind, part in parts.items()} for p, parts in found["work"].items()},
        )

    def facts(self) -> list[str]:
        """Describes the device and the scan."""
        if self.failure:
            return [f"The speed of the machine could not be measured: {self.failure}"]
        return [
            f"Device: {self.name}. A scan: {self.points:,} points in the volume, {self.voxels:,} voxels at scale 1."
        ]

    def closing(self, precisions: Sequence[str]) -> list[str]:
        """Describes the bounds of one scan."""
        return [
            line
            for precision in dict.fromkeys(precisions)
            if precision in self.rates
            for line in roofline_lines(
                f"3D network, {GPU_PRECISIONS[precision]}, one scan", self.work[precision], self.rates[precision], []
            )
        ]

    def share(self, precision: str, seconds: float | None) -> str:
        """Returns the bound of a scan as a share of the seconds that one took."""
        if seconds is None or precision not in self.rates:
            return NONE
        bound = max(self.rates[precision].bounds(sum(self.work[precision].values(), Work())))
        return f"{100 * bound / seconds:.1f} %"


def evaluation_table(rows: Sequence[Row], yardstick: Yardstick, batch_size: int, checked: bool) -> Table:
    """Makes the table of the evaluation, from points to labels."""
    names = ["latency, ms", "10 to 90 %", "device, ms", "roofline", f"scans/s at batch {batch_size}", "roofline"]
    names += ["votes, ms", "memory, GiB", *(["difference of logits"] if checked else [])]
    lines = []
    for row in rows:
        rate = row.value("throughput", "scans")
        median, low, high, device = (
            row.cell("latency", name, milliseconds) for name in ("median", "low", "high", "device")
        )
        line = [median, NONE if low == NONE else f"{low} to {high}", device]
        line += [yardstick.share(row.precision, row.value("latency", "median"))]
        line += [row.cell("throughput", "scans", _rate), yardstick.share(row.precision, rate and 1 / rate)]
        line += [row.cell("votes", "median", milliseconds), row.cell("throughput", "memory", _gib)]
        lines.append([*line, *([row.cell("check", "logits", _difference)] if checked else [])])
    return _table("Evaluation", names, rows, lines)


def training_table(rows: Sequence[Row], checked: bool) -> Table:
    """Makes the table of the training steps of 2DPASS with its image branch."""
    names = ["steps/s", "scans/s", "memory, GiB", "from disk, scans/s", "waited"]
    names += ["difference of gradients", "worst parameter"] if checked else []
    lines = []
    for row in rows:
        line = [row.cell("training", name, _rate) for name in ("steps", "scans")]
        line += [row.cell("training", "memory", _gib), row.cell("loading", "scans", _rate)]
        line += [row.cell("loading", "waited", lambda share: f"{100 * share:.0f} %")]
        line += [row.cell("check", name, _difference) for name in ("gradients", "worst") if checked]
        lines.append(line)
    return _table("Training, with the image branch", names, rows, lines)


def _table(title: str, names: Sequence[str], rows: Sequence[Row], lines: Sequence[Sequence[str]]) -> Table:
    columns = [Column("backend"), Column("precision"), *(Column(name, True) for name in names)]
    cells = [[row.backend, GPU_PRECISIONS[row.precision], *line] for row, line in zip(rows, lines, strict=True)]
    return Table.with_remarks(columns, cells, [row.remark() for row in rows], title)


def _rate(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _gib(size: float) -> str:
    return f"{size / GIB:.2f}"


def _difference(value: float) -> str:
    return f"{value:.1e}"
