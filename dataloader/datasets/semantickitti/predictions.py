"""Predictions on SemanticKITTI as its benchmark reads them (semantic-kitti-api)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from utils.labels import LabelMap
from utils.results.predictions import PredictionFiles, PredictionWriter, SubmissionWriter
from utils.scan.records import Frame


class SemanticKITTIFormat:
    """SemanticKITTI `.label` files; what the semantic-kitti-api and its server read.

    Args:
        label_map: gives the raw ids.
    """

    def __init__(self, label_map: LabelMap) -> None:
        to_raw = np.asarray(label_map.to_raw, dtype="<u4")
        # Raw id 0 is "unlabeled": the server counts such points as errors.
        self._files = PredictionFiles(_kitti_path, to_raw, valid=np.unique(to_raw[1:]))

    def predictions(self, directory: Path) -> PredictionWriter:
        """Keeps the label files."""
        return PredictionWriter(directory, self._files)

    def submission(self, directory: Path) -> SubmissionWriter:
        """Makes the zip of the label files."""
        return SubmissionWriter(directory, self._files)


def _kitti_path(frame: Frame) -> str:
    return f"sequences/{frame.sequence}/predictions/{frame.name}.label"
