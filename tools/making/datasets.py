"""The names of the data sets in the flags of the tools."""

from __future__ import annotations

import argparse
from pathlib import Path

DATASETS = {"semantickitti": "SemanticKITTI", "nuscenes": "nuScenes"}
"""Flag -> name in `dataloader.catalogue`, which imports torch: this takes too long for making a demo."""
DEMO_FOLDERS = {"semantickitti": Path("dataset/demo/sequences"), "nuscenes": Path("dataset/demo/nuscenes")}
"""Flag -> folder in which tools/make_demo_data.py puts its streets."""


def add_dataset_flag(parser: argparse.ArgumentParser, meaning: str) -> None:
    """Adds --dataset, one of `DATASETS`."""
    parser.add_argument("--dataset", choices=DATASETS, default="semantickitti", help=f"{meaning} (%(default)s)")
