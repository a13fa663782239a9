"""Predictions on nuScenes as the nuscenes-devkit reads them (nuscenes.eval.lidarseg, devkit 1.2).

<directory>/lidarseg/<eval_set>/<LIDAR_TOP sample_data token>_lidarseg.bin    uint8 class 1..16 per point, in file order
<directory>/<eval_set>/submission.json                                       what the method has seen
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from utils.results.predictions import PredictionFiles, PredictionWriter, SubmissionWriter
from utils.scan.records import Frame

NUM_CLASSES = 16
"""Classes of the lidarseg challenge; class 0 is not one of them, and the devkit refuses a file that holds it."""


class NuScenesFormat:
    """nuScenes-lidarseg results; `predictions` can be scored with nuscenes.eval.lidarseg.evaluate as they are.

    Args:
        eval_set: the devkit's name of the split: "val", "mini_val" or "test".
        uses_camera: the network was trained with camera images (the benchmark asks).
    """

    def __init__(self, eval_set: str, uses_camera: bool) -> None:
        self._eval_set = eval_set
        meta = {
            "use_camera": uses_camera,
            "use_lidar": True,
            "use_radar": False,
            "use_map": False,
            "use_external": False,
        }
        self._files = PredictionFiles(
            path=self._path,
            # Learning ids are filed as they are; every uint8 has an entry, so that a wrong one is found and named.
            values=np.arange(256, dtype=np.uint8),
            valid=np.arange(1, NUM_CLASSES + 1, dtype=np.uint8),
            extra={f"{eval_set}/submission.json": (json.dumps({"meta": meta}, indent=2) + "\n").encode()},
        )

    def predictions(self, directory: Path) -> PredictionWriter:
        """Keeps the result files and submission.json."""
        return PredictionWriter(directory, self._files)

    def submission(self, directory: Path) -> SubmissionWriter:
        """Makes the zip of the result files and submission.json."""
        return SubmissionWriter(directory, self._files)

    def _path(self, frame: Frame) -> str:
        return prediction_path(self._eval_set, frame.name)


def prediction_path(eval_set: str, token: str) -> str:
    """Returns the path of the prediction of a scan (token of LIDAR_TOP sample_data) below the folder of all of them."""
    return f"lidarseg/{eval_set}/{token}_lidarseg.bin"
