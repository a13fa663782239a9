"""The fit of the scans of a recording to the training of a network, found once for all of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from threading import Lock
from typing import Any

from network.labelling.listed_scan import ListedScan
from network.segmenter import Segmenter
from utils.errors import UserError
from utils.scan.alignment import Alignment
from utils.scan.fitting import MOST_CLOUDS, Fit, Misfit
from utils.scan.point_cloud import PointCloud

_OF_A_SENSOR = {"intensity", "unit", "axes", "origin"}  # kinds of misfits that all scans of a sensor share
_SAID = 3  # groups for which the same is said


@dataclass(frozen=True)
class GroupFit:
    """A frozen record of how a group of scans fits the training.

    Attributes:
        alignment: what is done to its scans.
        advice: the flags that would put it right; "" if nothing is to be done.
        note: what does not fit, as a line; "" if all does.
    """

    alignment: Alignment
    advice: str = ""
    note: str = ""


class Fits:
    """The fits of groups of scans to the training data; each is found when a scan of the group is wanted.

    Args:
        segmenter: compares scans with its training.
        scans: all scans of the run.
        read: reads a scan.
        fit: what is done about scans that do not fit.
        say: takes a line for the user, and the number of the scan of `scans` that it is about.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        scans: Sequence[ListedScan],
        read: Callable[[Any], PointCloud],
        fit: Fit,
        say: Callable[[str, int], object],
    ) -> None:
        self._segmenter, self._read, self._fit, self._say = segmenter, read, fit, say
        self._scans = scans
        self._members: dict[str, list[int]] = {}
        for number, scan in enumerate(scans):
            self._members.setdefault(scan.group, []).append(number)
        self._found: dict[str, GroupFit] = {}
        self._said: Counter[str] = Counter()
        self._lock = Lock()  # several threads prepare scans

    def of(self, scan: ListedScan) -> GroupFit:
        """Returns the fit of a scan's group."""
        with self._lock:
            if scan.group not in self._found:
                self._found[scan.group] = self._compare(scan.group)
            return self._found[scan.group]

    def _compare(self, group: str) -> GroupFit:
        given = GroupFit(self._segmenter.alignment)
        if self._fit == "off" or self._segmenter.statistics is None:
            return given
        members = self._members[group]
        clouds = []
        # Of a bag the first ones, since the way to the others goes through the whole file.
        step = 1 if self._scans[members[-1]].index else max(1, len(members) // MOST_CLOUDS)
        for number in members[::step][:MOST_CLOUDS]:
            with suppress(UserError):  # it is named when its turn comes
                clouds.append(self._read(self._scans[number]))
        if not clouds:
            return given
        misfits, fitted = self._segmenter.diagnose(clouds)
        self._tell_apart(group, clouds, misfits, members[0])
        if not misfits:
            return given
        what = clouds[0].name if len(members) == 1 else f"{group} ({len(members)} scans)"
        found = "; ".join(misfit.text for misfit in misfits)
        remedy = " ".join(misfit.remedy for misfit in misfits if misfit.remedy)
        if self._fit == "auto":
            done = f"; aligned with {fitted.flags()}" if remedy else "; nothing puts that right"
            self._say_once(f"{what}: {found}{done}", done, misfits, members[0])
            return GroupFit(fitted, note=f"{found}{done}")
        advice = f"; put it right with {remedy} (or with --fit auto)" if remedy else ""
        note = f"does not fit the training: {found}{advice}"
        self._say_once(f"warning: {what} {note}", advice, misfits, members[0])
        return replace(given, advice=remedy, note=note)

    def _tell_apart(self, group: str, clouds: Sequence[PointCloud], misfits: Sequence[Misfit], number: int) -> None:
        """Says which scans of a group differ from most: what is right for those would be wrong for them."""
        if len(clouds) < 2:
            return
        joint = {misfit.kind for misfit in misfits} & _OF_A_SENSOR
        alone = [{misfit.kind for misfit in self._segmenter.diagnose([cloud])[0]} & _OF_A_SENSOR for cloud in clouds]
        odd = [cloud.name for cloud, kinds in zip(clouds, alone, strict=True) if kinds != joint]
        if odd:
            kinds = " and ".join(sorted(set.union(*alone) - joint or joint))
            differ = "differs" if len(odd) == 1 else "differ"
            line = f"warning: {', '.join(odd[:3])} {differ} from the other scans of {group} in {kinds}"
            self._say(f"{line}; label scans of one sensor at a time", number)

    def _say_once(self, line: str, end: str, misfits: Sequence[Misfit], number: int) -> None:
        """Says the line, unless several groups have had the same: a data set has hundreds of folders."""
        key = f"{[misfit.kind for misfit in misfits]}{end}"
        self._said[key] += 1
        if self._said[key] <= _SAID:
            more = "; the same of further folders is not said again" if self._said[key] == _SAID else ""
            self._say(f"{line}{more}", number)
