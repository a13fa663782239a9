"""The report of a robustness test: tables (summary.md) and a picture (summary.png)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from utils.corruptions import CLEAN
from utils.files import write_text
from utils.metrics import Convention
from utils.robustness.conditions import Conditions
from utils.robustness.family import CONVENTIONS, Family, Profile
from utils.robustness.metrics import Robustness, robustness
from utils.robustness.picture import RobustPicture, draw_robustness
from utils.robustness.results import SubsetResult, profile_of

REPORT, PICTURE = "summary.md", "summary.png"
_MADE_WITH = ("generator", "seed", "mode")

_CONVENTIONS: dict[Convention, str] = {
    "official": "every labelled point counts",
    "published": "points outside the volume of the network do not count, as in the published code of 2DPASS",
}


@dataclass(frozen=True)
class RobustReport:
    """A report of a robustness test.

    Attributes:
        family: the corruptions.
        results: of the finished subsets, in order.
        convention: the convention of the mIoU in the tables.
        baseline: what it is compared with, or None.
        conditions: what was tested, and how.
        remarks: what is to be known about the baseline.
        name: of the model.
    """

    family: Family
    results: Sequence[SubsetResult]
    convention: Convention
    baseline: Profile | None
    conditions: Conditions
    remarks: Sequence[str] = ()
    name: str = "this checkpoint"

    @property
    def profile(self) -> Profile:
        """The mIoU of the finished subsets."""
        return profile_of(self.name, self.results, self.convention)

    @property
    def single(self) -> Profile | None:
        """The mIoU with one view, where the other figures are of several; None unless all subsets have it."""
        found = [result.alone for result in self.results]
        alone = [result for result in found if result is not None]
        if not alone or len(alone) < len(found):
            return None
        return profile_of(f"{self.name}, one view", alone, self.convention)

    @property
    def figures(self) -> Robustness:
        """The metrics of the model."""
        return robustness(self.profile, self.family, self.baseline)

    @property
    def title(self) -> str:
        """The scans that were tested; those made with tools/make_corruptions.py are not the published ones."""
        made_here = self.conditions.made_with is not None
        return f"scans in the style of {self.family.title}" if made_here else self.family.title

    def headline(self) -> str:
        """Writes the overall figures in one line."""
        figures, clean = self.figures, self.profile.clean
        parts = [
            f"clean mIoU {_number(clean)}",
            f"mean over corruptions (RmIoU) {_number(figures.mean)}",
            f"relative to clean (mR, mRR) {_number(figures.mean_relative)}",
        ]
        if self.baseline is not None:
            parts.append(f"mCE {_number(figures.mean_error)} against {self.baseline.name}")
        return f"{', '.join(parts)}; %, {self.convention} convention; {self._measured()}"

    def _measured(self) -> str:
        """Describes the conditions of the figures."""
        text = self.conditions.of_scores(max((result.scans for result in self.results), default=0)).text
        if (single := self.single) is None:
            return text
        figures = robustness(single, self.family, self.baseline)
        return f"{text}; with one view: clean mIoU {_number(single.clean)}, RmIoU {_number(figures.mean)}"

    def write(self, folder: Path) -> list[str]:
        """Writes tables and picture; returns the lines to tell the user."""
        write_text(folder / REPORT, self.markdown())
        unit = f"mIoU (%), {self.convention} convention"
        # A picture is easily parted from its text.
        headlines = (self.title, self.headline(), *self.outside(), *self.remarks)
        picture = RobustPicture(self.family, self.profile, self.baseline, headlines, unit)
        draw_robustness(picture, folder / PICTURE)
        return [self.headline(), *(f"warning: {text}" for text in self.warnings()), f"report: {folder / REPORT}"]

    def markdown(self) -> str:
        """Writes the whole report."""
        blocks = [f"# Robustness on {self.title}", _bullets(f"{name}: {text}" for name, text in self.facts())]
        if warnings := self.warnings():
            blocks += ["**Before using these figures:**", _bullets(warnings)]
        blocks += [f"![bars and radar]({PICTURE})", "All figures are in percent.", "## Overall", self._overall()]
        blocks += ["## By corruption", self._by_corruption(), self._definitions()]
        blocks += ["## By subset", self._by_subset(), "## IoU by class", self._by_class()]
        return "\n\n".join(blocks) + "\n"

    def facts(self) -> list[tuple[str, str]]:
        """Lists what was tested, and how: names and texts."""
        family, how = self.family, self.conditions
        made = "no note of tools/make_corruptions.py, so taken to be the published data set"
        if how.made_with is not None:
            shown = ", ".join(f"{key} {how.made_with[key]}" for key in _MADE_WITH if key in how.made_with)
            made = f"made by tools/make_corruptions.py: {shown}"
        comparison = "none" if self.baseline is None else self.baseline.name
        unsaid = "its convention and votes are" if family.protocol.votes_allowed else "its convention is"
        published = f" (published row; {unsaid} not stated)" if comparison in family.models else ""
        return [
            ("checkpoint", how.checkpoint),
            ("config", f"{how.config} ({how.model})"),
            ("family", f"{family.name}: {family.title}"),
            ("corrupted scans", f"{how.root} ({made})"),
            ("test-time augmentation", "none" if how.num_vote == 1 else f"{how.num_vote} votes"),
            ("convention", f"{self.convention}: {_CONVENTIONS[self.convention]}"),
            ("baseline", comparison + published),
            ("precision, seed", f"{how.precision}, {how.seed}"),
        ]

    def outside(self) -> list[str]:
        """Lists why the figures are outside the protocol of the family, by the config alone."""
        trained_on = self.conditions.trained_on
        if self.family.name != "robo3d" or not trained_on:
            return []
        return [
            f"trained on corruptions, outside Robo3D's protocol: dataset_params.corruption_aug of the config names "
            f"{', '.join(trained_on)}"
        ]

    def warnings(self) -> list[str]:
        """Lists what a reader must know before using the figures."""
        family, how, warnings = self.family, self.conditions, self.outside()
        finished = {result.subset for result in self.results}
        lacking = [subset.name for subset in family.subsets if subset not in finished]
        if lacking:
            warnings.append(
                f"{len(lacking)} of {len(family.subsets)} subsets are not tested and left out of the means (those of a "
                f"published row are over all): {', '.join(lacking)}"
            )
        if len({result.scans for result in self.results}) > 1:
            warnings.append("not all subsets have the same number of scans, so their figures are over different scans")
        if how.debug:
            warnings.append("--debug: the first scans only")
        return [*warnings, *self.remarks]

    def _overall(self) -> str:
        rows = [_overall_row(self.profile, self.figures)]
        if (single := self.single) is not None:
            rows.append(_overall_row(single, robustness(single, self.family, self.baseline)))
        if self.baseline is not None:
            rows.append(_overall_row(self.baseline, robustness(self.baseline, self.family, self.baseline)))
        return _table(("", "clean mIoU", "RmIoU", "mR = mRR", "mCE"), rows)

    def _by_corruption(self) -> str:
        figures, profile = self.figures, self.profile
        theirs = robustness(self.baseline, self.family, self.baseline) if self.baseline else None
        rows = []
        for corruption, title in self.family.titles.items():
            known = profile.severities.get(corruption, {})
            by_severity = (f"{s} {_number(known.get(s))}" for s in self.family.severities(corruption))
            row = [title, " / ".join(by_severity), figures.means.get(corruption), figures.relative.get(corruption)]
            if theirs is not None:
                row += [theirs.means.get(corruption), theirs.relative.get(corruption), figures.errors.get(corruption)]
            rows.append(row)
        header = ["corruption", "mIoU by severity", "mIoU", "R = RR"]
        if self.baseline is not None:
            header += [f"{self.baseline.name}: mIoU", f"{self.baseline.name}: R = RR", "CE"]
        return _table(header, rows)

    def _definitions(self) -> str:
        text = (
            "The mIoU of a corruption is the mean over its severities, and R (RR) is that over the clean mIoU. RmIoU, "
            "mR and mRR are means over the corruptions."
        )
        if self.baseline is None:
            return text
        text += (
            f" CE is the error (100 - mIoU) summed over the severities, over that of {self.baseline.name}; mCE is its "
            "mean over the corruptions, and lower is better."
        )
        return text + (" mCE is a metric of Robo3D, not of Yan et al." if self.family.name == "yan" else "")

    def _by_subset(self) -> str:
        header = (
            "subset", "scans", "mIoU official", "mIoU published", "accuracy official", "accuracy published",
            *(f"mIoU {which}, one view" for which in CONVENTIONS if self.single is not None),
        )  # fmt: skip
        rows = [
            (
                r.subset.name, str(r.scans), r.miou["official"], r.miou["published"],
                r.accuracy["official"], r.accuracy["published"],
                *(r.one_view[which] for which in CONVENTIONS if self.single is not None and r.one_view is not None),
            )
            for r in self.results
        ]  # fmt: skip
        return _table(header, rows)

    def _by_class(self) -> str:
        """Classes by corruptions: the mean over the severities."""
        columns = [
            name for name in (CLEAN, *self.family.titles) if any(r.subset.corruption == name for r in self.results)
        ]
        rows = []
        for name in self.results[0].iou[self.convention] if self.results else ():
            row: list[Any] = [name]
            for column in columns:
                cells = [r.iou[self.convention][name] for r in self.results if r.subset.corruption == column]
                counted = [cell for cell in cells if cell is not None]
                row.append(sum(counted) / len(counted) if counted else None)
            rows.append(row)
        return _table(("class", *(self.family.titles.get(c, c) for c in columns)), rows)


def _overall_row(profile: Profile, figures: Robustness) -> list[Any]:
    return [profile.name, profile.clean, figures.mean, figures.mean_relative, figures.mean_error]


def _bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Writes a Markdown table; figures right-aligned, to two decimals."""
    lines = [header, ["---", *("---:" for _ in header[1:])]]
    lines += [[cell if isinstance(cell, str) else _number(cell) for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
