"""The lines about a run that labels scans, and the summary beside its results."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict

from network.labelling.listed_scan import ListedScan
from network.labelling.run import Outcome
from network.result import Result
from utils import locations
from utils.command.terminal import say, say_error
from utils.results.prediction_records import PredictionRecords
from utils.text import printable, shortened

SUMMARY = "summary.json"

_LINES, _QUIET = 20, 5.0  # scans that get a line each; of longer lists there is a line every 5 seconds
_MUCH = 0.2  # of all points; of a sensor that sees 80 m, about 5 % lie beyond 50 m
_CLASSES = 3  # most frequent classes that are named


class ProgressLines:
    """The lines about the scans of this process, as they are done.

    Args:
        total: number of its scans.
        first: whether it is the process that speaks; what is wrong with a scan is said by all.
    """

    def __init__(self, total: int, first: bool) -> None:
        self._total, self._first, self._done, self._said = total, first, 0, time.monotonic()

    def __call__(self, scan: ListedScan, result: Result | str | None) -> None:
        """Takes a scan with its result, with what is wrong with it, or with None if it was done already."""
        self._done += 1
        if isinstance(result, str):
            say_error(f"error: {result}")
        elif self._first and self._is_due():
            self._said = time.monotonic()
            place = f"[{self._done} of {self._total}] {printable(scan.name)}: "
            say(place + ("is done already" if result is None else _described(result)))

    def _is_due(self) -> bool:
        return self._total <= _LINES or self._done == self._total or time.monotonic() > self._said + _QUIET


def _described(result: Result) -> str:
    """Returns the number of points of a scan and its most frequent classes."""
    counts = result.counts()
    share = (f"{name} {100 * points / len(result):.0f} %" for name, points in list(counts.items())[:_CLASSES])
    return f"{len(result):,} point{'s' if len(result) != 1 else ''}, {', '.join(share)}"


def summarise(
    scans: Sequence[ListedScan],
    unusable: Sequence[str],
    outcomes: Sequence[Outcome],
    records: PredictionRecords,
    output: str,
    checkpoint: str,
) -> None:
    """Writes `summary.json` beside the results, and prints the classes and the time.

    Args:
        scans: all scans of the run.
        unusable: a line for each input that holds no scans.
        outcomes: what each process has done.
        records: what is done, in this run and before.
        output: the folder of the results: a path or a URL.
        checkpoint: the file of the network.
    """
    done = {scan.target: record for scan in scans if (record := records.find(scan.target)) and record.complete}
    classes: Counter[str] = Counter()
    for record in done.values():
        classes.update(record.classes)
    labelled, skipped = sum(o.labelled for o in outcomes), sum(o.skipped for o in outcomes)
    seconds = max(outcome.seconds for outcome in outcomes)
    problems = [*unusable, *(problem for outcome in outcomes for problem in outcome.problems)]
    summary = {
        "checkpoint": checkpoint,
        "scans": len(done),
        "labelled": labelled,
        "done_before": skipped,
        "points": classes.total(),
        "unseen_points": sum(record.unseen for record in done.values()),
        "seconds_per_scan": seconds / labelled if labelled else None,
        "classes": dict(classes.most_common()),
        "problems": problems,
        "files": {target: asdict(record) for target, record in done.items()},
    }
    locations.write(locations.join(output, SUMMARY), (json.dumps(summary, indent=2) + "\n").encode())
    total = max(1, classes.total())
    for name, points in classes.most_common():
        say(f"  {shortened(name, 24):24} {points:14,} {100 * points / total:6.2f} %")
    if (unseen := summary["unseen_points"] / total) > _MUCH:
        say(
            f"note: {100 * unseen:.0f} % of the points lie outside the volume of the network; they have the label of "
            "the nearest point inside, and confidence 0"
        )
    before = f", {skipped} {'was' if skipped == 1 else 'were'} done already (--overwrite: again)" if skipped else ""
    pace = f", {seconds / labelled:.2f} s per scan" if labelled else ""
    say(f"{labelled} of {counted(len(scans), 'scan')} labelled{pace}{before}; results: {output}")


def counted(number: int, what: str) -> str:
    """Writes a number of things: "1 scan", "2 scans"."""
    return f"{number} {what}{'s' if number != 1 else ''}"
