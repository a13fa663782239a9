"""A config without the paths of the machine of its training, which may name people, projects and servers."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from dataloader.catalogue import data_set_of
from utils.config.loading import check_config
from utils.config.schema import Config
from utils.paths import REPOSITORY
from utils.results.published import LABELS
from utils.yaml_file import read_yaml

_USUAL = {"SemanticKITTI": "./dataset/SemanticKitti/dataset/sequences/", "nuScenes": "./dataset/nuscenes/"}
"""Where the shipped configs look for a data set."""
_PREDICTIONS = "./past_predictions"


def without_paths(config: Config) -> Config:
    """Returns a config whose paths are those of the shipped configs, whatever they were.

    A path stays if a shipped config has it, since it then says nothing of the machine. Another place of the scans
    becomes the usual one of the data set, and another label mapping the name of the published copy.
    """
    raw = config.model_dump(mode="json")
    data: dict[str, Any] = raw["dataset_params"]
    known = _shipped_paths()
    for part in ("train_data_loader", "val_data_loader"):
        if data[part]["data_path"] not in known:
            data[part]["data_path"] = _USUAL.get(data_set_of(config).name, "./dataset")
    data["label_mapping"] = _label_mapping(Path(data["label_mapping"]).name)
    if data.get("past_predictions") is not None:
        data["past_predictions"] = _PREDICTIONS
    if "teacher_cache" in data:
        data["teacher_cache"] = None
    return check_config(raw, "config without paths")


def _label_mapping(name: str) -> str:
    folder = Path("config") / "label_mapping"
    return f"./{folder / name}" if (REPOSITORY / folder / name).is_file() else f"./{LABELS}"


@cache
def _shipped_paths() -> frozenset[str]:
    """Lists the places of scans that the shipped configs name."""
    found = set()
    for path in sorted((REPOSITORY / "config").glob("*.yaml")):
        data = read_yaml(path).get("dataset_params", {})
        found |= {str(data.get(part, {}).get("data_path")) for part in ("train_data_loader", "val_data_loader")}
    return frozenset(found)
