"""The time that commands take: measured where a like one has run, else as measured once on one core."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence

from tools.studying.files import Place
from tools.studying.jobs import Job

_START = 12.0
"""Seconds in which a command imports, opens its data and ends."""
_USUAL = {
    "training of 2DPASS": 0.37,
    "training of 3D network of 2DPASS": 0.10,
    "training of MinkowskiNet": 0.125,
    "training of MinkowskiNet, past scans": 0.3,
    "world": 0.5,
    "corruptions": 0.3,
}
"""Seconds a step or a scan of each kind of job, on one core of an Intel Xeon with AMX."""
_USUAL_OF_A_VIEW = 0.15


class Estimates:
    """The estimated duration of jobs.

    Args:
        place: where records of finished jobs are.
        jobs: jobs of the study, whose records are read.
    """

    def __init__(self, place: Place, jobs: Iterable[Job]) -> None:
        rates: dict[str, list[float]] = {}
        for job in jobs:
            record = place.record(job)
            if record is not None and record.state == "done" and record.whole:
                rates.setdefault(job.kind, []).append(max(record.seconds - _START, 0.0) / job.amount)
        self._rates = {kind: statistics.median(found) for kind, found in rates.items()}

    def seconds(self, job: Job) -> float:
        """Returns the seconds that a job takes on one core."""
        rate = self._rates.get(job.kind, _USUAL.get(job.kind, _USUAL_OF_A_VIEW))
        return _START + rate * job.amount

    def sum(self, jobs: Sequence[Job]) -> float:
        """Returns the seconds that jobs take, one after another."""
        return sum(map(self.seconds, jobs))
