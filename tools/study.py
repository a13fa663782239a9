"""Runs a study of what helps: settings of training, several seeds each, on a made-up world; writes study.md.

    python tools/study.py list              # every command, whether it has run, and how long it takes
    python tools/study.py run a b --jobs 2  # experiments (a) and (b), two commands at a time; all: run
    python tools/study.py report            # the page, its charts and study.json, of what has run so far

`run` goes on where it was stopped, and several of them share the work. Every command that it runs is one that you can
type yourself. Runs lie in logs/SemanticKITTI/study_*, and what the commands print in logs/study.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

if __name__ == "__main__":  # before what takes seconds to import
    if not __package__:  # run as a file, and not with -m
        import _root  # noqa: F401
    from utils.command.start import begin

    begin()

from tools.studying.estimates import Estimates
from tools.studying.experiments import LETTERS
from tools.studying.files import Place
from tools.studying.jobs import Job, jobs_in_order, line, with_needs
from tools.studying.page import CURVES, chart_name, write_page
from tools.studying.plan import SEEDS
from tools.studying.results import gather
from tools.studying.scheduler import Scheduler
from utils.command.flags import Parser, count
from utils.command.importing import importing
from utils.command.process import run_command
from utils.command.terminal import say
from utils.errors import UserError
from utils.files import write_text
from utils.paths import REPOSITORY

_GOES_ON = "the same command goes on"


def build_parser() -> Parser:
    """Builds the parser of this program; `run` of what it returns is the chosen command."""
    parser = Parser(description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="list|run|report", help="what to do")
    for name, function, text in (
        ("list", list_jobs, "Prints every command of the study, its state and its estimated time."),
        ("run", run_jobs, "Runs what has not run yet, in the order of importance, seed by seed."),
    ):
        command: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text)
        command.add_argument(
            "experiments", nargs="*", metavar="LETTER", help=f"experiments, of {' '.join(LETTERS)} (all)"
        )
        command.add_argument(
            "--seeds", type=count(0, 1000), nargs="+", default=SEEDS, metavar="N",
            help=f"seeds, of those that an experiment wants ({' '.join(map(str, SEEDS))})",
        )  # fmt: skip
        command.set_defaults(run=function)
        if name == "run":
            command.add_argument(
                "--jobs", type=count(1, 1000), default=os.cpu_count() or 1, metavar="N",
                help="commands at a time, one core each (all cores)",
            )  # fmt: skip
    text = "Writes the page with tables and charts, and study.json, from the files of the runs alone."
    report: argparse.ArgumentParser = commands.add_parser("report", help=text, description=text)
    report.add_argument("--output", type=Path, default=REPOSITORY / "docs" / "results", metavar="FOLDER",
        help="folder of study.md and study.json; pictures go into pictures/ beside it (docs/results)")  # fmt: skip
    report.set_defaults(run=write_report)
    return parser


def chosen(args: argparse.Namespace) -> list[Job]:
    """Returns the tests that the flags ask for.

    Raises:
        UserError: an experiment is not known, or no seed is one that it wants.
    """
    letters = args.experiments or LETTERS
    if unknown := [letter for letter in letters if letter not in LETTERS]:
        raise UserError(f"{unknown[0]}: no such experiment; choose of {' '.join(LETTERS)}")
    jobs = list(jobs_in_order(letters, args.seeds))
    if not jobs:
        raise UserError(
            f"--seeds {' '.join(map(str, args.seeds))}: no experiment wants them; choose of 1 to {SEEDS[-1]}"
        )
    return jobs


def everything() -> list[Job]:
    """Returns all jobs of the study."""
    return with_needs(jobs_in_order(LETTERS, SEEDS))


def list_jobs(args: argparse.Namespace, place: Place) -> None:
    """Prints the jobs, each in two lines."""
    estimates, total = Estimates(place, everything()), 0.0
    for job in with_needs(chosen(args)):
        state, seconds = place.state(job), estimates.seconds(job)
        total += 0.0 if state == "done" else seconds
        say(f"{state:8} {seconds / 60:5.1f} min  {job.name}\n    {line(place.command(job))}")
    say(f"to come: {total / 3600:.1f} hours on one core")


def run_jobs(args: argparse.Namespace, place: Place) -> None:
    """Runs the jobs.

    Raises:
        UserError: some have failed.
    """
    jobs = chosen(args)
    failed = Scheduler(place, args.jobs, say, Estimates(place, everything()).sum).run(jobs)
    if failed:
        first = next(iter(failed))
        more = f" and {len(failed) - 1} more" if len(failed) > 1 else ""
        raise UserError(f"{first}{more} failed: {failed[first]}; {_GOES_ON}")
    say("all done; `python tools/study.py report` writes the page")


def write_report(args: argparse.Namespace, place: Place) -> None:
    """Writes the page, its pictures and study.json; pictures of a table without figures are left as they are."""
    study = gather(place)
    with importing():
        from tools.studying.charts import draw_bars, draw_curves
    folder, pictures = args.output, args.output.parent / "pictures"
    write_text(folder / "study.json", json.dumps(study.to_json(), indent=1) + "\n")
    for answer in study.answers:
        if any(row.miou for row in answer.rows):
            draw_bars(answer, pictures / chart_name(answer.letter))
    if study.curves:
        draw_curves(study, pictures / CURVES)
    write_text(folder / "study.md", write_page(study))
    say(f"{folder / 'study.md'}: {len(study.runs)} tests of {len(study.curves)} trainings")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit code."""
    args = build_parser().parse_args(arguments)
    return run_command(lambda: args.run(args, Place(REPOSITORY)), _GOES_ON)


if __name__ == "__main__":
    sys.exit(main())
