"""The files of a published folder: a trained network as it is shared, on a hub or as a download."""

from __future__ import annotations

import os
from pathlib import Path

from utils.errors import UserError
from utils.fetching.references import is_reference

MODEL = "model.safetensors"
"""Weights, and in its metadata all that a checkpoint says of itself: this file alone is a whole checkpoint."""
CONFIG, LABELS, STATISTICS = "config.yaml", "label_mapping.yaml", "statistics.json"
"""Readable copies of what the metadata of the model hold."""
CARD = "README.md"
"""The model card in the form of the hub; the measured scores lie beside it, in `run_folder.SCORES`."""

_SHARDED = "model.safetensors.index.json"
_OTHERS = ("*.bin", "*.pt", "*.pth", "*.onnx", "*.pt2")
"""Models of other programs, and exported ones."""


def is_shared(name: str, path: Path) -> bool:
    """Tells whether a checkpoint is published or fetched, so that no results belong beside it.

    Args:
        name: what --checkpoint says.
        path: the file that was found.
    """
    return path.name == MODEL or is_reference(name)


def name_of(path: Path) -> str:
    """Returns what a checkpoint is called where its path is too long, or of this machine: owner/name@commit of the hub.

    Args:
        path: the file of the weights. One that is published is called as its folder.
    """
    if path.name != MODEL:
        return path.name
    folder = path.absolute().parent
    repository = folder.parents[1].name if len(folder.parents) > 1 else ""
    if folder.parent.name == "snapshots" and repository.startswith("models--"):  # of the cache of the hub's library
        return f"{repository.removeprefix('models--').replace('--', '/')}@{folder.name}"
    return folder.name


def model_file(folder: Path) -> Path:
    """Returns the file of the weights in a published folder.

    Raises:
        UserError: there is none; the message says what is there in its place.
    """
    path = folder / MODEL
    if path.is_file():
        return path
    if os.path.lexists(path):
        raise UserError(f"{path}: is no file, but a folder, a device or a link to nothing; download or copy it again")
    if (folder / _SHARDED).exists():
        raise UserError(f"{folder}: a model in several files ({_SHARDED}), of another program; this one reads {MODEL}")
    if checkpoints := sorted(folder.glob("*.ckpt")):
        raise UserError(
            f"{folder}: no such checkpoint, but a folder of them, and not a published one; name one: {checkpoints[0]}"
        )
    found = next((found.name for pattern in _OTHERS for found in sorted(folder.glob(pattern))), "")
    there = f", but {found}, which is not read from a folder" if found else ""
    raise UserError(
        f"{folder}: no such checkpoint file, and no published folder, for it has no {MODEL}{there}; give the path of a "
        ".ckpt file, or of a folder that tools/publish.py has made, to --checkpoint"
    )
