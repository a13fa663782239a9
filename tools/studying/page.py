"""The page of a study: docs/results/study.md."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from tools.studying.plan import SCANS, VIEWED
from tools.studying.remarks import REMARKS
from tools.studying.results import Answer, Finding, Study
from tools.studying.statistics import Spread, differences, spread

PICTURES = "../pictures"
"""Folder of the charts, from the page."""


def write_page(study: Study) -> str:
    """Returns the text of the page."""
    parts = [_head(study)]
    parts += [_section(answer) for answer in study.answers]
    if study.curves:
        text = "Mean cross-entropy of the last layer over an epoch, mean of the seeds, on augmented training scans."
        parts.append(f"## Curves\n\n{text}\n\n![Curves of the training loss]({PICTURES}/{CURVES})\n")
    parts.append(_commands(study))
    return "\n".join(parts)


def chart_name(letter: str) -> str:
    """Returns the file of an experiment's bar chart."""
    return f"study_{letter}.png"


CURVES = "study_curves.png"


def _head(study: Study) -> str:
    rows = [row for answer in study.answers for row in answer.rows]
    machines = sorted({machine for row in rows for machine in row.machines})
    packages = sorted({package for row in rows for package in row.packages})
    made = f"Machine: {'; '.join(machines)}. {', '.join(packages)}." if machines else "Nothing has run yet."
    about = (
        f"What helps, on a made-up world: {SCANS} training scans of four streets, {VIEWED} validation scans of another "
        "one, never trained on, networks of the demo's size. Trainings that are compared take equally many steps, of "
        "one scan each, in bf16 on one core. The figures are mIoU on the validation scans in percent, with the weights "
        "after the last step (no checkpoint was chosen by its score), over one view of each scan where nothing else is "
        "said; no validation scan was trained on. Mean ± standard deviation (n - 1) over the seeds; differences are "
        "taken between runs of the same seed, and how many of them are above 0 stands behind. A made-up world of this "
        "size says whether a method works here and which way it points, not what it gives on real data."
    )
    written = (
        "`python tools/study.py report` writes this page from the files of the runs; `study.json` beside it has every "
        "run with its seed, command, duration, machine and package versions."
    )
    return "\n\n".join(["# A study of what helps", *map(_wrapped, (about, written, made))]) + "\n"


def _wrapped(text: str) -> str:
    return textwrap.fill(text, 120, break_long_words=False, break_on_hyphens=False)


def _section(answer: Answer) -> str:
    lines = [f"## ({answer.letter}) {answer.title}", "", _wrapped(answer.about), ""]
    if any(row.miou for row in answer.rows):
        picture = f"![Bars: {answer.title}]({PICTURES}/{chart_name(answer.letter)})"
        lines += [picture, ""]
    lines += [*_table(answer), ""]
    if answer.letter in REMARKS:
        lines += [_wrapped(REMARKS[answer.letter]), ""]
    lines += [*_not_run(answer)]
    return "\n".join(lines)


_COLUMNS = ("arm", "mIoU, %", "by seed", "difference", "above 0", "split", "views", "weights", "steps", "min a run")


def _table(answer: Answer) -> Iterator[str]:
    yield f"| {' | '.join(_COLUMNS)} |"
    yield "|---|" + "---:|" * 4 + "---|---:|---|---:|---:|"
    for row in answer.rows:
        yield f"| {' | '.join(_cells(answer, row))} |"


def _cells(answer: Answer, row: Finding) -> Iterator[str]:
    found = spread(list(row.miou.values()))
    yield row.title.replace("|", r"\|")
    yield f"**{_figure(found)}**" if found else "not run"
    yield ", ".join(f"{seed}: {figure:.1f}" for seed, figure in sorted(row.miou.items()))
    against = answer.row(row.against) if row.against else None
    gained = spread(list(differences(row.miou, against.miou).values())) if against else None
    yield f"{_figure(gained, sign=True)} to {against.title}" if gained and against else ""
    yield f"{gained.positive} of {gained.number}" if gained else ""
    yield from (row.split, str(row.views), row.checkpoint, str(row.steps))
    yield f"{row.minutes:.1f}" if row.minutes is not None else ""


def _figure(found: Spread | None, sign: bool = False) -> str:
    if found is None:
        return ""
    mean = f"{found.mean:+.1f}" if sign else f"{found.mean:.1f}"
    return mean if found.deviation is None else f"{mean} ± {found.deviation:.1f}"


def _not_run(answer: Answer) -> Iterator[str]:
    """Yields what is left of the seeds that the study wants, and the command that does it."""
    left = {row.key: [seed for seed in row.seeds if seed not in row.miou] for row in answer.rows}
    for row, seeds in ((row, left[row.key]) for row in answer.rows):
        if seeds:
            yield f"- not run: {row.title}, seed {', '.join(map(str, seeds))}: some {row.estimate:.0f} min on one core"
    if any(left.values()):
        yield from ("", f"`python tools/study.py run {answer.letter}` runs what is missing.")
    yield ""


def _commands(study: Study) -> str:
    """Lists the commands of the first seed of each row, those of a training once."""
    said: set[str] = set()
    lines = [
        "## Commands",
        "",
        _wrapped(
            "All of it, several commands at a time, and what has not run yet; then every command for the first seed "
            "(the others differ in `--seed` and `--log_dir`):"
        ),
        "",
        "```",
        "python tools/study.py list",
        "python tools/study.py run --jobs 2",
        "python tools/study.py report",
        "```",
        "",
        "The data:",
        "",
        *_block(study.data, said),
    ]
    for answer in study.answers:
        commands = [command for row in answer.rows for command in row.commands if command not in said]
        if commands:
            lines += ["", f"({answer.letter}) {answer.title}:", "", *_block(commands, said)]
    return "\n".join(lines) + "\n"


def _block(commands: Sequence[str], said: set[str]) -> list[str]:
    new = [command for command in dict.fromkeys(commands) if command not in said]
    said.update(new)
    return ["```", *new, "```"]
