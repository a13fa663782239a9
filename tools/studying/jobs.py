"""The commands of a study: data, trainings and tests, each with what has to be there before it."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from tools.studying.experiments import CORRUPTED, EXPERIMENTS, ORDER
from tools.studying.plan import SCANS, VIEWED, Arm, Experiment, Row

WORLDS = {"study": "dataset/study/sequences", "teacher": "dataset/study/teacher/sequences"}
_MAKE = "tools/make_demo_data.py"
_SHARED = ("--cpu", "1", "--precision", "bf16")


@dataclass(frozen=True)
class Job:
    """A command of the study.

    Attributes:
        name: unique.
        words: the command behind `python`, without the checkpoint that a training starts from.
        what: "data", "training", "test" (a split) or "robustness" (corrupted scans).
        kind: jobs of a kind take equally long for each unit of `amount`.
        amount: of work: steps, or scans times views.
        needs: jobs that come before it.
        run: value of --log_dir; "" for data.
        views: views per scan of a test.
        folder: the folder of a data set; "" otherwise.
        taking: flags with which a training takes the last checkpoint of the last job of `needs`.
    """

    name: str
    words: tuple[str, ...]
    what: Literal["data", "training", "test", "robustness"]
    kind: str
    amount: float
    needs: tuple[Job, ...] = ()
    run: str = ""
    views: int = 1
    folder: str = ""
    taking: tuple[str, ...] = ()


def line(words: Iterable[str]) -> str:
    """Writes a command as it is typed."""
    return shlex.join(("python", *words))


def world(name: str) -> Job:
    """Returns the making of a world; see `WORLDS`."""
    options = ("--train_frames", str(SCANS), "--train_streets", "4", "--val_frames", str(VIEWED))
    other = ("--seed", "7") if name == "teacher" else ()
    words = (_MAKE, *options, *other, "--output", WORLDS[name], "--workers", "1")
    return Job(f"world_{name}", words, "data", "world", SCANS + VIEWED, folder=WORLDS[name])


def corruptions() -> Job:
    """Returns the making of the corrupted validation scans."""
    words = ("tools/make_corruptions.py", "--family", "yan", "--data_path", WORLDS["study"], "--workers", "1")
    folder = "dataset/study/SemanticKITTI-C"
    needs = (world("study"),)
    amount = VIEWED * len(CORRUPTED)
    return Job("corruptions", (*words, "--subsets", *CORRUPTED), "data", "corruptions", amount, needs, folder=folder)


def training(arm: Arm, seed: int) -> Job:
    """Returns the training of an arm."""
    loaders = [f"dataset_params.{part}_data_loader.data_path={WORLDS[arm.world]}" for part in ("train", "val")]
    settings = (f"train_params.max_num_epochs={arm.epochs}", *loaders, *arm.settings)
    words = (
        "main.py", "--config", f"config/{arm.config}.yaml", "--log_dir", arm.run_of(seed),
        *arm.flags, *_SHARED, "--seed", str(seed if arm.seed is None else arm.seed),
        *(("--check_val_every_n_epoch", str(arm.epochs)) if arm.validated else ()), "--set", *settings,
    )  # fmt: skip
    needs = (world(arm.world),) + ((training(arm.start, seed),) if arm.start else ())
    kind, run = f"training of {arm.network}", arm.run_of(seed)
    return Job(run.removeprefix("study_"), words, "training", kind, arm.steps, needs, run, taking=arm.taking)


def scoring(row: Row, seed: int) -> Job:
    """Returns the test that gives the figure of a row."""
    arm, needs = row.arm, (training(row.arm, seed),)
    run, network = arm.run_of(seed), arm.network
    common = ("--log_dir", run, "--checkpoint", "last", *_SHARED, "--num_vote", str(row.views))
    name = f"{run.removeprefix('study_')}_{'corrupted' if row.corrupted else f'views{row.views}'}"
    if row.corrupted:
        words = ("robust_test.py", "--family", "yan", *common, "--baseline", "none", "--subsets", *CORRUPTED)
        amount = VIEWED * len(CORRUPTED)
        needs = (corruptions(), *needs)
        return Job(name, words, "robustness", f"robustness of {network}", amount, needs, run, row.views)
    words = ("main.py", "--test", *common)  # config and data are those of the checkpoint
    return Job(name, words, "test", f"test of {network}", VIEWED * row.views, needs, run, row.views)


def with_needs(jobs: Iterable[Job]) -> list[Job]:
    """Lists jobs once each, behind what they need, otherwise in their order."""
    found: dict[str, Job] = {}

    def add(job: Job) -> None:
        for needed in job.needs:
            add(needed)
        found.setdefault(job.name, job)

    for job in jobs:
        add(job)
    return list(found.values())


def jobs_in_order(
    letters: Collection[str], seeds: Collection[int], experiments: Iterable[Experiment] = EXPERIMENTS
) -> Iterator[Job]:
    """Yields the tests of experiments in the order of `ORDER`, there seed by seed: all arms have equally many."""
    by_letter = {experiment.letter: experiment for experiment in experiments}
    for letter, first in ORDER:
        if letter not in letters or letter not in by_letter:
            continue
        rows = [row for row in by_letter[letter].rows if row.first == first]
        for seed in seeds:
            yield from (scoring(row, seed) for row in rows if seed in row.seeds)
