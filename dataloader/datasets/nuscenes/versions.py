"""The versions of nuScenes, each with tables of its own: which splits they have, and which is asked for."""

from __future__ import annotations

from pathlib import Path

from dataloader.datasets.data_set import Request, no_root
from dataloader.datasets.nuscenes import tables
from utils.errors import UserError

_SPLITS = {
    "v1.0-trainval": ("train", "val", "trainval"),
    "v1.0-mini": ("mini_train", "mini_val"),
    "v1.0-test": ("test",),
}
_MINI = "v1.0-mini"
_PARTS = {"train": "train", "valid": "val", "trainval": "trainval"}
_MINI_PARTS = {"train": "mini_train", "valid": "mini_val"}

WHERE = "set data_path of the loader under dataset_params in the config (docs/data/nuscenes.md: where to get it)"
"""How to set where the data lies."""


def version_and_split(wanted: Request) -> tuple[str, str]:
    """Tells which tables and which official split hold the part that is asked for.

    Raises:
        UserError: the version has no such split.
    """
    if wanted.part == "test":
        return "v1.0-test", "test"
    version = _MINI if wanted.debug else wanted.params.version or "v1.0-trainval"
    splits = _MINI_PARTS if version == _MINI else _PARTS
    if wanted.part not in splits:
        raise UserError(
            f"train_params.trainval: {version} has no such split; leave out trainval, or what chose {version} (--debug "
            "or dataset_params.version)"
        )
    return version, splits[wanted.part]


def version_folder(root: Path, version: str, split: str) -> Path:
    """Finds <root>/<version>, which must be there with all its tables and have the split.

    Raises:
        UserError: it is not, or has not.
    """
    if version not in _SPLITS:
        raise UserError(f"{version}: no version of nuScenes; version must be one of {', '.join(_SPLITS)}")
    if split not in _SPLITS[version]:
        raise UserError(f"{split}: no split of {version}, which has {', '.join(_SPLITS[version])}; choose one of them")
    if not root.is_dir():
        raise no_root(root, WHERE)
    folder = root / version
    if not folder.is_dir():
        there = ", ".join(name for name in _SPLITS if (root / name).is_dir()) or "none"
        raise UserError(
            f"{folder}: no such folder (versions there: {there}); unpack the metadata archive of {version} into "
            f"{root}, or set data_path or version under dataset_params"
        )
    lacking = [f"{name}.json" for name in tables.TABLES if not (folder / f"{name}.json").is_file()]
    if lacking:
        raise UserError(
            f"{folder}: tables are missing: {', '.join(lacking)}; unpack the metadata archive of {version} into {root}"
        )
    return folder
