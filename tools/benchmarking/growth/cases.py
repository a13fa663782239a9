"""How cost grows with the size of the input and of the network: which cases there are, and their tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from tools.benchmarking.child import OUT_OF_MEMORY, Answer
from tools.benchmarking.frame import FULL_SIZE, prepare
from tools.benchmarking.growth_row import EVALUATION, TRAINING, Job, save_batch
from tools.benchmarking.machine import GIB, device_of, total_memory
from tools.benchmarking.report import Column, Table, milliseconds
from tools.benchmarking.subject import Subject
from utils.scan.batch import collate
from utils.scan.records import Batch

Sweep = tuple[int, int]
"""Beams, and measurements of each in a turn."""
_MIB = 2**20
_NONE = "-"
_COMPANY = 0.2  # cores that others take before it is worth a remark


@dataclass(frozen=True)
class Case:
    """One input and one network.

    Attributes:
        sweep: of the made-up scan.
        scans: in the batch.
        channels: `model_params.hiden_size`.
        votes: views in an evaluation.
    """

    sweep: Sweep
    scans: int
    channels: int
    votes: int = 1


@dataclass(frozen=True)
class Question:
    """One table: what grows.

    Attributes:
        title: of the table.
        unit: what cost is divided by, to be compared.
        cases: of the rows, each with its label.
        amount: (case, points in its volume) -> how many units it has.
        trains: whether training grows with it, too.
    """

    title: str
    unit: str
    cases: Sequence[tuple[str, Case]]
    amount: Callable[[Case, int], int]
    trains: bool = True


def questions(
    base: Case, sweeps: Sequence[Sweep], batches: Sequence[int], hidden: Sequence[int], votes: Sequence[int]
) -> dict[str, Question]:
    """The tables by the name of the flag; `base` is what does not grow."""
    return {
        "points": Question(
            "Points per scan (beams x steps)",
            "point",
            [(f"{sweep[0]} x {sweep[1]}", replace(base, sweep=sweep)) for sweep in sweeps],
            lambda case, points: points,
        ),
        "batch": Question(
            "Scans per batch",
            "scan",
            [(str(scans), replace(base, scans=scans)) for scans in batches],
            lambda case, points: case.scans,
        ),
        "hidden": Question(
            "Hidden size",
            "channel",
            [(str(channels), replace(base, channels=channels)) for channels in hidden],
            lambda case, points: case.channels,
        ),
        "votes": Question(
            "Votes",
            "vote",
            [(str(number), replace(base, votes=number)) for number in votes],
            lambda case, points: case.votes,
            trains=False,
        ),
    }


@dataclass(frozen=True)
class Row:
    """One case, measured.

    Attributes:
        label, amount: what the case is called, and how many units it has.
        points: in the volume.
        answers: of each measurement.
    """

    label: str
    amount: int
    points: int
    answers: dict[str, Answer]


@dataclass
class Laboratory:
    """Measures cases; the same case is measured once, in whatever table it stands.

    Attributes:
        folder: for the made-up scans.
        job: what is the same for all measurements; its `what` and `batch` are replaced.
        workers: processes that make scans up.
        on_start: told what is going on.
    """

    folder: Path
    job: Job
    workers: int
    on_start: Callable[[str], None]
    _points: dict[Case, int] = field(default_factory=dict)
    _answers: dict[tuple[Case, str], Answer] = field(default_factory=dict)
    _subjects: dict[Sweep, Subject] = field(default_factory=dict)

    def rows(self, question: Question) -> Iterator[Row]:
        """The rows of a table, each measured when its turn comes."""
        for label, case in question.cases:
            kinds = (EVALUATION, TRAINING) if question.trains else (EVALUATION,)
            answers = {what: self._answer(case, what, f"{question.title}: {label}, {what}") for what in kinds}
            points = self._points[case]
            yield Row(label, question.amount(case, points), points, answers)

    def _answer(self, case: Case, what: str, title: str) -> Answer:
        if (case, what) not in self._answers:
            self.on_start(title)
            batch = _batch(self._subject(case.sweep), case, what)
            self._points[case] = len(batch.points)
            path = self.folder / "batch.pt"
            save_batch(batch, path)
            del batch  # not to be in memory twice
            overrides = (*self.job.overrides, f"model_params.hiden_size={case.channels}")
            self._answers[case, what] = replace(self.job, what=what, batch=str(path), overrides=overrides).run()
        return self._answers[case, what]

    def _subject(self, sweep: Sweep) -> Subject:
        if sweep not in self._subjects:
            folder = self.folder / f"{sweep[0]}x{sweep[1]}"
            folder.mkdir()
            demo = replace(FULL_SIZE, beams=sweep[0], azimuth_steps=sweep[1], workers=self.workers)
            self._subjects[sweep] = prepare(None, "", "", self.job.config, self.job.overrides, folder, demo)
        return self._subjects[sweep]


def _batch(subject: Subject, case: Case, what: str) -> Batch:
    if what == EVALUATION:
        return collate([subject.evaluation_set(case.votes)[0]] * case.scans, False)
    return collate([subject.training_set[epoch, 0] for epoch in range(case.scans)], True)


def table(question: Question, rows: Sequence[Row], remark: Callable[[str], str]) -> Table:
    """The rows as text; `remark` completes what is said of a failure."""
    kinds = (EVALUATION, TRAINING) if question.trains else (EVALUATION,)
    columns = [Column(question.title), Column("points", True), Column("voxels", True)]
    for what in kinds:
        columns += [Column(f"{what}, ms", True), Column("x", True), Column("memory, MiB", True), Column("x", True)]
    columns += [Column("runs", True)]
    remarks = [_remarks(row, remark) for row in rows]
    columns += [Column("remark")] if any(remarks) else []
    cells = []
    for row, said in zip(rows, remarks, strict=True):
        line = [row.label, f"{row.points:,}", _voxels(row)]
        for what in kinds:
            line += _number(rows, row, what, "seconds", milliseconds)
            line += _number(rows, row, what, "memory", lambda size: f"{size / _MIB:,.0f}")
        line.append(", ".join(str(_value(row, what, "runs") or _NONE) for what in kinds))
        cells.append(line + ([said] if any(remarks) else []))
    return Table(columns, cells)


def _number(rows: Sequence[Row], row: Row, what: str, name: str, text: Callable[[float], str]) -> list[str]:
    """A number, and how it compares, per unit, with the first row that has one."""
    value = _value(row, what, name)
    if value is None:
        return [_NONE, _NONE]
    first, first_amount = next((v, r.amount) for r in rows if (v := _value(r, what, name)) is not None)
    growth = f"{value / row.amount / (first / first_amount):.2f}" if first else _NONE
    return [text(value), growth]


def _value(row: Row, what: str, name: str) -> float | None:
    values = row.answers[what].values.get(what)
    return None if values is None else values[name]


def _voxels(row: Row) -> str:
    found = _value(row, EVALUATION, "voxels")
    return _NONE if found is None else f"{found:,}"


def _remarks(row: Row, remark: Callable[[str], str]) -> str:
    """Why something is missing, and whether something else ran at the same time."""
    said = {what: "; ".join(map(remark, dict.fromkeys(row.answers[what].failures.values()))) for what in row.answers}
    for what in row.answers:
        if (others := _value(row, what, "others") or 0.0) > _COMPANY:
            said[what] = f"other processes took {others:.1f} cores"
    texts = set(said.values())
    return texts.pop() if len(texts) == 1 else "; ".join(f"{what}: {text}" for what, text in said.items() if text)


def memory_before(rows: Sequence[Row]) -> tuple[float, float] | None:
    """The least and the most memory that a process had in use before it was measured, MiB."""
    found = [v / _MIB for row in rows for what in row.answers if (v := _value(row, what, "before")) is not None]
    return (min(found), max(found)) if found else None


def explain(failure: str, device: str, limit: float | None) -> str:
    """A failure for want of memory, with the memory that there is."""
    if OUT_OF_MEMORY not in failure:
        return failure
    if limit is not None:
        return f"{failure} (limit of {limit:g} GiB)"
    total = total_memory(device_of(device))
    return (
        failure if total is None else f"{failure} ({total / GIB:.0f} GiB {'machine' if device == 'cpu' else 'device'})"
    )
