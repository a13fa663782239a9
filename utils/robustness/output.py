"""The output of the test of one subset, in the folder of the whole robustness test."""

from __future__ import annotations

from pathlib import Path

from utils.metrics import ScoreCard
from utils.results.evaluation import EvaluationOutput


class SubsetOutput(EvaluationOutput):
    """The output of one subset among others: in a folder with them, and silent at its end, since the report speaks
    for all."""

    def make_folder(self) -> Path:
        """Makes the folder, which a run that was ended may have made before."""
        self.folder.mkdir(parents=True, exist_ok=True)
        return self.folder

    def finish(self, scores: ScoreCard | None, one_view: ScoreCard | None = None) -> list[str]:
        """Closes, on the first process; there is nothing to tell the user."""
        super().finish(scores, one_view)
        return []
