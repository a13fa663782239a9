"""The results of a robustness test as they come in: one row per subset, in a folder where a later run finds them.

<parent>/robust_test_<date>/settings.json     what decides the figures; another run with the same goes on from here
<parent>/robust_test_<date>/summary.csv       one row per finished subset (%); written again, whole, after each

Several commands may work on different subsets of one folder at the same time.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from utils.corruptions import Subset
from utils.errors import UserError
from utils.files import read_text, write_text
from utils.locks import Lock, locked, new_folder, stamp
from utils.metrics import Convention
from utils.paths import expand_home
from utils.robustness.family import Family, Profile, find_model
from utils.robustness.results import SubsetResult, profile_of, read_results, write_results

SETTINGS, SUMMARY = "settings.json", "summary.csv"
_PREFIX = "robust_test_"


class RobustRun:
    """The folder of a robustness test.

    Args:
        folder: its place.
        family: gives the order of the rows.
        results: what is finished, in any order.
    """

    def __init__(self, folder: Path, family: Family, results: Iterable[SubsetResult] = ()) -> None:
        self.folder = folder
        self._family = family
        self._results = {result.subset.name: result for result in results}
        self._own: set[str] = set()

    @property
    def results(self) -> list[SubsetResult]:
        """The finished results, in the order of the family."""
        return [self._results[s.name] for s in self._family.subsets if s.name in self._results]

    def lacking(self, wanted: Mapping[Subset, int]) -> list[Subset]:
        """Lists the subsets that are not finished, or were over another number of scans: some came, or went, since.

        Args:
            wanted: how many scans each has now.
        """
        finished = {name: result.scans for name, result in self._results.items()}
        return [subset for subset, scans in wanted.items() if finished.get(subset.name) != scans]

    def add(self, result: SubsetResult, convention: Convention) -> None:
        """Keeps a result; from now on the subset is finished, whatever becomes of the run."""
        self._results[result.subset.name] = result
        self._own.add(result.subset.name)
        self.write(convention)

    def write(self, convention: Convention) -> None:
        """Writes summary.csv, the columns mIoU and accuracy in this convention, with what others have added."""
        with locked(self.folder / ".lock"):
            self.read()
            write_results(self.results, convention, self.folder / SUMMARY)

    def read(self) -> None:
        """Takes over the rows of summary.csv, which other commands may have added, but for those measured here.

        Raises:
            UserError: the file is damaged.
        """
        summary = self.folder / SUMMARY
        if summary.exists():
            found = {result.subset.name: result for result in _results_of(self._family, summary)}
            self._results |= {name: result for name, result in found.items() if name not in self._own}

    @contextmanager
    def claim(self, wanted: Mapping[Subset, int]) -> Iterator[list[Subset]]:
        """Claims what is lacking of `wanted` (see `lacking`), so that no other command tests it meanwhile.

        Raises:
            UserError: one does.
        """
        with ExitStack() as held:
            busy = []
            for subset in self.lacking(wanted):
                lock = Lock(self.folder / f".{subset.name.replace('/', '_')}.lock")
                if lock.acquire(wait=False):
                    held.callback(lock.release)
                else:
                    busy.append(subset.name)
            if busy:
                raise UserError(
                    f"{self.folder}: another robust_test.py is testing {', '.join(busy)}; wait for its end, leave them "
                    "out of --subsets, or take a folder of your own with --restart"
                )
            self.read()  # one of them may have been finished before it was claimed
            yield self.lacking(wanted)


def find_run(parent: Path, settings: Mapping[str, Any], family: Family) -> RobustRun | None:
    """Finds the newest run below `parent` with exactly these settings; None if there is none.

    Raises:
        UserError: its summary.csv is damaged.
    """
    wanted = json.loads(json.dumps(settings))  # tuples as JSON gives them back
    for folder in sorted(parent.glob(f"{_PREFIX}*"), reverse=True):
        if _read_settings(folder) == wanted:
            summary = folder / SUMMARY
            return RobustRun(folder, family, _results_of(family, summary) if summary.exists() else ())
    return None


@contextmanager
def _beginning(parent: Path) -> Iterator[None]:
    """Lets only one command at a time look for a run below `parent` and start one: two would start two."""
    parent.mkdir(parents=True, exist_ok=True)
    with locked(parent / ".robust_test.lock"):
        yield


def start_run(parent: Path, settings: Mapping[str, Any], family: Family) -> RobustRun:
    """Makes a new folder below `parent`, named by date and time."""
    folder = new_folder(parent / stamp(_PREFIX))
    write_text(folder / SETTINGS, json.dumps(settings, indent=2) + "\n")
    return RobustRun(folder, family)


def open_run(parent: Path, settings: Mapping[str, Any], family: Family, restart: bool, first: bool) -> RobustRun:
    """Finds the run below `parent` to go on with, or start one.

    Args:
        parent, settings, family: see `find_run`.
        restart: start one in any case.
        first: this is the first of several processes, the one that makes folders.

    Raises:
        UserError: the summary.csv of the run is damaged.
    """
    if not first:
        # The first process makes the folder, and tells its name when the first test begins. It has begun to test by
        # now, so what it lacks is what it lacked then.
        found = None if restart else find_run(parent, settings, family)
        return RobustRun(parent / "of the first process", family, () if found is None else found.results)
    with _beginning(parent):
        found = None if restart else find_run(parent, settings, family)
        return start_run(parent, settings, family) if found is None else found


def _results_of(family: Family, summary: Path) -> list[SubsetResult]:
    """Reads the rows of a run's summary.csv.

    Raises:
        UserError: it is damaged, or holds subsets that the family does not have.
    """
    results = read_results(summary)
    if foreign := [result.subset.name for result in results if result.subset not in family.subsets]:
        raise UserError(f"{summary}: its row {foreign[0]!r} is none of {family.title}; remove or restore the file")
    return results


def _read_settings(folder: Path) -> dict[str, Any] | None:
    """Reads the settings of a run; None if there are none: it is not a run, or one that was killed before it began."""
    try:
        settings = json.loads(read_text(folder / SETTINGS))
    except (OSError, ValueError, RecursionError):
        return None
    return settings if isinstance(settings, dict) else None


def find_baseline(
    name: str | None,
    family: Family,
    convention: Convention,
    num_vote: int,
    root: Path,
    origin: Mapping[str, Any] | None,
) -> tuple[Profile | None, list[str]]:
    """Finds what --baseline names, and what is to be said about comparing with it.

    Args:
        name: of a published row, the path of a summary.csv, or "none"; None: the usual one of the family.
        family: the corruptions.
        convention: which reading of a summary.csv.
        num_vote, root, origin: of this test: views per scan, the corrupted scans, and the options with which
            tools/make_corruptions.py made them; None: it did not.

    Raises:
        UserError: it names nothing, or a summary.csv of other corruptions.
    """
    name = family.baseline if name is None else name
    if name.lower() == "none":
        return None, []
    published = find_model(name, family)
    if published is not None:
        warning = (
            f"the corrupted scans were made here, by tools/make_corruptions.py: the published row of {published.name} "
            "is not comparable; test a baseline of your own on the same scans, and give its summary.csv to --baseline"
        )
        return published, [] if origin is None else [warning]
    path = expand_home(name)
    if not path.is_file():
        rows = ", ".join(family.models)
        raise UserError(
            f"--baseline {name}: neither a summary.csv nor a published row of {family.title}, which are: {rows}; give "
            "one of them, or none"
        )
    results, settings = read_results(path), _read_settings(path.parent) or {}
    found = settings.get("family", family.name), settings.get("dataset", family.dataset)
    subsets = {result.subset for result in results}
    if not subsets or not subsets <= set(family.subsets) or found != (family.name, family.dataset):
        raise UserError(f"--baseline {name}: not a robustness test on {family.title}; give one of the same --family")
    now = {"num_vote": num_vote, "corruption_path": str(root.resolve()), "corruption_options": origin}
    return profile_of(path.resolve().parent.name, results, convention), _unlike(settings, now)


def _unlike(settings: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Lists in what the test of a baseline was another than this one, by its settings.json."""
    remarks = [
        f"the baseline was tested with {key} {settings[key]}, this checkpoint with {now[key]}"
        for key in ("num_vote", "corruption_path")
        if settings.get(key, now[key]) != now[key]
    ]
    if settings.get("corruption_options", now["corruption_options"]) != now["corruption_options"]:
        remarks.append("the baseline was tested on scans made with other options: corruption_options of settings.json")
    if settings.get("debug"):
        remarks.append("the baseline was tested with --debug, on the first scans only")
    return remarks
