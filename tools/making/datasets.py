"""The names of the data sets in the flags of the tools."""

from __future__ import annotations

import argparse
from pathlib import Path

DATASETS = {"semantickitti": "SemanticKITTI", "nuscenes": "nuScenes"}
"""Flag -> name in `dataloader.catalogue`, which imports torch: this takes too long for making a demo."""
DEMO_FOLDERS = {"semantickitti": Path("dataset/demo/sequences"), "nuscenes": Path("dataset/demo/nuscenes")}
"""Flag -> folder in which tools/make_demo_data.py puts its streets."""


DEFAULT = "semantickitti"
"""The data set without --dataset."""


def add_dataset_flag(parser: argparse.ArgumentParser, meaning: str, default: str | None = DEFAULT) -> None:
    """Adds --dataset, one of `DATASETS`; a default of None tells whether it was given, and stands for `DEFAULT`."""
    parser.add_argument("--dataset", choices=DATASETS, default=default, help=f"{meaning} ({DEFAULT})")
