"""The share of the mIoU that remains on corrupted scans: mCE, mRR and the absolute figures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from utils.robustness.family import Family, Profile


@dataclass(frozen=True)
class Robustness:
    """The figures of both papers (%), over the corruptions of which anything is known.

    R_c of Yan et al. and RR_i of Robo3D are the same figure, and so are mR and mRR.

    Attributes:
        means: mIoU of each corruption, the mean over its severities.
        relative: that, relative to the clean mIoU: R_c, RR_i. Empty without a clean mIoU above 0.
        errors: CE_i: the error (100 - mIoU), summed over the severities, relative to that of the baseline over the
            same severities; for the corruptions where the baseline's is known and above 0.
        mean: RmIoU, the mean of `means` over the corruptions (not over the subsets).
        mean_relative: mR, mRR: the mean of `relative`.
        mean_error: mCE: the mean of `errors`; lower is better, and 100 is the baseline's.
    """

    means: dict[str, float]
    relative: dict[str, float]
    errors: dict[str, float]
    mean: float | None
    mean_relative: float | None
    mean_error: float | None


def robustness(model: Profile, family: Family, baseline: Profile | None = None) -> Robustness:
    """Computes the figures of a model. Subsets that are not there are left out; the caller says so.

    Args:
        model: any profile of the family.
        family: its corruptions.
        baseline: what the errors are relative to; None: there are none.
    """
    means: dict[str, float] = {}
    errors: dict[str, float] = {}
    for corruption in family.titles:
        complete = family.severities(corruption)
        over = tuple(s for s in complete if s in model.severities.get(corruption, {})) or complete
        mean = model.mean(corruption, over, over == complete)
        if mean is None:
            continue
        means[corruption] = mean
        theirs = baseline.mean(corruption, over, over == complete) if baseline else None
        if theirs is not None and theirs < 100:
            errors[corruption] = 100 * (100 - mean) / (100 - theirs)
    relative = {name: 100 * mean / model.clean for name, mean in means.items()} if model.clean else {}
    return Robustness(means, relative, errors, _mean(means), _mean(relative), _mean(errors))


def _mean(figures: Mapping[str, float]) -> float | None:
    return sum(figures.values()) / len(figures) if figures else None
