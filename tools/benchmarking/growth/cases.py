"""The cases of `benchmark.py growth` and their measurement: cost against the size of input and network."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from tools.benchmarking.child import Answer
from tools.benchmarking.frame import Origin, full_size, prepare
from tools.benchmarking.growth.row import EVALUATION, TRAINING, Job, save_batch
from tools.benchmarking.subject import Subject
from utils.scan.batch import collate
from utils.scan.records import Batch

Sweep = tuple[int, int]
"""The number of beams, and of measurements of each beam in a turn."""


@dataclass(frozen=True)
class Case:
    """One input and one network.

    Attributes:
        sweep: size of the made-up scan.
        scans: scans in the batch.
        channels: `model_params.hiden_size`.
        votes: views in an evaluation.
    """

    sweep: Sweep
    scans: int
    channels: int
    votes: int = 1


@dataclass(frozen=True)
class Question:
    """One table of the benchmark: the quantity that grows, and its cases.

    Attributes:
        title: title of the table.
        unit: the name of the unit by which costs are divided before they are compared.
        cases: the case of each row, with its label.
        amount: (case, points in its volume) -> its number of units.
        trains: whether training is measured, too.
    """

    title: str
    unit: str
    cases: Sequence[tuple[str, Case]]
    amount: Callable[[Case, int], int]
    trains: bool = True

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of measurement that are made of each case."""
        return (EVALUATION, TRAINING) if self.trains else (EVALUATION,)


def questions(
    base: Case, sweeps: Sequence[Sweep], batches: Sequence[int], hidden: Sequence[int], votes: Sequence[int]
) -> dict[str, Question]:
    """Returns the tables by the name of the flag; `base` holds the sizes that stay as they are."""
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
        label, amount: the name of the case, and its number of units.
        points: points in the volume.
        answers: the answer of each measurement.
    """

    label: str
    amount: int
    points: int
    answers: dict[str, Answer]


@dataclass
class Laboratory:
    """Measures cases; the same case is measured once, in whatever table it stands.

    Attributes:
        folder: the folder of the made-up scans.
        job: the common part of all measurements; its `what` and `batch` are replaced.
        limit: seconds that a measurement may take.
        on_start: called with the name of each measurement before it begins.
    """

    folder: Path
    job: Job
    limit: float | None
    on_start: Callable[[str], None]
    _points: dict[Case, int] = field(default_factory=dict)
    _answers: dict[tuple[Case, str], Answer] = field(default_factory=dict)
    _subjects: dict[Sweep, Subject] = field(default_factory=dict)

    def rows(self, question: Question) -> Iterator[Row]:
        """Yields the rows of a table, each measured when its turn comes."""
        for label, case in question.cases:
            answers = {what: self._answer(case, what, f"{question.title}: {label}, {what}") for what in question.kinds}
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
            job = replace(self.job, what=what, batch=str(path), overrides=overrides)
            self._answers[case, what] = job.run(self.limit)
        return self._answers[case, what]

    def _subject(self, sweep: Sweep) -> Subject:
        if sweep not in self._subjects:
            folder = self.folder / f"{sweep[0]}x{sweep[1]}"
            folder.mkdir()
            demo = full_size(beams=sweep[0], azimuth_steps=sweep[1])
            self._subjects[sweep] = prepare(Origin(), self.job.config, self.job.overrides, folder, demo)
        return self._subjects[sweep]


def _batch(subject: Subject, case: Case, what: str) -> Batch:
    if what == EVALUATION:
        return collate([subject.evaluation_set(case.votes)[0]] * case.scans, False)
    return collate([subject.training_set[epoch, 0] for epoch in range(case.scans)], True)
