"""The results of a study so far, gathered from the files of its runs: the content of study.json."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tools.studying.estimates import Estimates
from tools.studying.experiments import CORRUPTED, EXPERIMENTS
from tools.studying.files import Place, Record, read_scores
from tools.studying.jobs import Job, line, scoring, training, with_needs
from tools.studying.plan import SCANS, VIEWED, Arm, Experiment, Row
from utils.errors import UserError
from utils.results.history import read_history
from utils.robustness.results import read_results

FORMAT = 1
CURVE = "train/loss_ce_epoch"
"""The curve that is drawn of each run: all networks have this loss of their last layer."""


@dataclass(frozen=True)
class Finding:
    """A row of a table.

    Attributes:
        key, title, against: see `plan.Row`.
        arm: name of the arm.
        seeds: those that the study wants.
        split, views, checkpoint: what the figures are of.
        miou: mIoU by seed, %.
        steps: optimiser steps of the training.
        commands: what makes the figure for the first seed, as it is typed, the training first.
        minutes: of a training and its test on one core, measured; None if none was measured in one piece.
        estimate: minutes on one core that the seeds still take that have not run.
        machines, packages: where the runs were made.
    """

    key: str
    title: str
    against: str
    arm: str
    seeds: tuple[int, ...]
    split: str
    views: int
    checkpoint: str
    miou: dict[int, float]
    steps: int
    commands: tuple[str, ...]
    minutes: float | None
    estimate: float
    machines: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()


@dataclass(frozen=True)
class Answer:
    """A table: letter, title and text of an experiment, and its rows."""

    letter: str
    title: str
    about: str
    rows: tuple[Finding, ...]

    def row(self, key: str) -> Finding:
        """Returns the row with that key."""
        return next(row for row in self.rows if row.key == key)


@dataclass(frozen=True)
class Study:
    """All of it.

    Attributes:
        answers: the tables.
        runs: every test that has run: job, seed, score, commands, durations, versions, machine.
        curves: name of a run -> mean loss (`CURVE`) of each epoch.
        data: the commands that make the data.
    """

    answers: tuple[Answer, ...]
    runs: tuple[dict[str, Any], ...] = ()
    curves: dict[str, list[float]] = field(default_factory=dict)
    data: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Returns the content of study.json."""
        world = {"training scans": SCANS, "validation scans": VIEWED}
        return {"format": FORMAT, "world": world, **asdict(self)}


def gather(place: Place, experiments: Iterable[Experiment] = EXPERIMENTS) -> Study:
    """Reads the files of all runs."""
    experiments = tuple(experiments)
    jobs = with_needs(scoring(row, seed) for one in experiments for row in one.rows for seed in row.seeds)
    estimates = Estimates(place, jobs)
    answers = tuple(
        Answer(one.letter, one.title, one.about, tuple(_finding(place, row, estimates) for row in one.rows))
        for one in experiments
    )
    tests = [job for job in jobs if job.what in ("test", "robustness")]
    runs = tuple(_run(place, job) for job in tests if _score(place, job) is not None)
    trained = [job for job in jobs if job.what == "training" and place.progress(job) == "done"]
    curves = {job.run: curve for job in trained if (curve := _curve(place, job))}
    return Study(answers, runs, curves, tuple(line(job.words) for job in jobs if job.what == "data"))


def _finding(place: Place, row: Row, estimates: Estimates) -> Finding:
    jobs = {seed: scoring(row, seed) for seed in row.seeds}
    scores = {seed: score for seed, job in jobs.items() if (score := _score(place, job)) is not None}
    missing = with_needs(job for seed, job in jobs.items() if seed not in scores)
    missing = [job for job in missing if place.progress(job) != "done"]
    first = jobs[row.seeds[0]]
    needed = [job for job in with_needs([first]) if job.what != "data"]
    records = [record for seed in scores for job in with_needs([jobs[seed]]) if (record := place.record(job))]
    return Finding(
        row.key,
        row.title,
        row.against,
        row.arm.name,
        row.seeds,
        f"validation{', corrupted' if row.corrupted else ''}",
        row.views,
        "last",
        scores,
        _steps(row.arm),
        tuple(line(place.command(job)) for job in needed),
        _minutes(place, [(training(row.arm, seed), jobs[seed]) for seed in scores]),
        estimates.sum(missing) / 60,
        tuple(sorted({record.machine for record in records})),
        tuple(sorted({f"{name} {version}" for record in records for name, version in record.packages.items()})),
    )


def _steps(arm: Arm) -> int:
    return arm.epochs * arm.scans


def _minutes(place: Place, pairs: Iterable[tuple[Job, ...]]) -> float | None:
    """Returns the median minutes that pairs of training and test took, of those that were never stopped."""
    found: list[float] = []
    for pair in pairs:
        records = [place.record(job) for job in pair]
        if all(record is not None and record.whole for record in records):
            found.append(sum(record.seconds for record in records if record is not None) / 60)
    return statistics.median(found) if found else None


def _score(place: Place, job: Job) -> float | None:
    """Returns the mIoU (%) of a test; None if it has not run, or its training is not the one of the study."""
    if any(place.progress(one) != "done" for one in with_needs([job])):
        return None
    record = place.record(job)
    assert record is not None
    path = place.root / record.result
    if job.what == "robustness":
        rows = {result.subset.name: result.miou["official"] for result in read_results(path)}
        if missing := [name for name in CORRUPTED if name not in rows]:
            raise UserError(f"{path}: has no row for {missing[0]}; remove its folder, and the test is run again")
        return statistics.fmean(rows[name] for name in CORRUPTED)
    score = read_scores(path).get("val/mIoU")
    if not isinstance(score, float):
        raise UserError(f"{path}: has no val/mIoU; remove its folder, and the test is run again")
    return 100 * score


def _run(place: Place, job: Job) -> dict[str, Any]:
    chain = [one for one in with_needs([job]) if one.what != "data"]
    records: list[Record] = [record for one in chain if (record := place.record(one))]
    return {
        "job": job.name,
        "miou": _score(place, job),
        "views": job.views,
        "split": "validation, corrupted" if job.what == "robustness" else "validation",
        "checkpoint": "last",
        "commands": [record.command for record in records],
        "seconds": [record.seconds if record.whole else None for record in records],
        "started": [record.started for record in records],
        "machine": records[-1].machine,
        "packages": records[-1].packages,
    }


def _curve(place: Place, job: Job) -> list[float]:
    checkpoint = place.last_checkpoint(job.run)
    folder = place.root / (Path() if checkpoint is None else checkpoint.parent)
    return [epoch[CURVE] for epoch in read_history(folder) if CURVE in epoch]
