"""The data sets as the flags of the tools call them."""

from __future__ import annotations

import argparse
from pathlib import Path

from utils.paths import REPOSITORY

DATASETS = {"semantickitti": "SemanticKITTI", "nuscenes": "nuScenes"}
"""Flag -> name."""
DEMO_FOLDERS = {"semantickitti": Path("dataset/demo/sequences"), "nuscenes": Path("dataset/demo/nuscenes")}
"""Where tools/make_demo_data.py puts its streets."""
LABEL_MAPPINGS = {
    "semantickitti": REPOSITORY / "config" / "label_mapping" / "semantic-kitti.yaml",
    "nuscenes": REPOSITORY / "config" / "label_mapping" / "nuscenes.yaml",
}


def add_dataset_flag(parser: argparse.ArgumentParser, meaning: str) -> None:
    """Add --dataset, one of `DATASETS`."""
    parser.add_argument("--dataset", choices=DATASETS, default="semantickitti", help=f"{meaning} (%(default)s)")
