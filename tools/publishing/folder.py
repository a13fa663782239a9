"""The files of a published folder, written so that a reader sees a whole folder or none."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path

from network.weights.pickled import Damaged
from network.weights.published_folder import OURS, is_safetensors, read_safetensors
from utils.errors import UserError
from utils.files import write_bytes
from utils.results.published import CARD, MODEL
from utils.results.run_folder import SCORES

_CLAIMS = (SCORES, CARD)
"""What is said of the weights: it goes before they are replaced, and comes back after."""


def refuse_place(folder: Path, overwrite: bool) -> None:
    """Refuses to publish where something else is.

    Raises:
        UserError: there is something that this tool has not made, or --overwrite is missing or has no effect.
    """
    if not os.path.lexists(folder):
        if overwrite:
            raise UserError(f"--overwrite: there is no {folder} yet; leave it out")
        return
    if not folder.is_dir():
        raise UserError(f"{folder}: is no folder; choose another --output")
    if not any(folder.iterdir()):
        if overwrite:
            raise UserError(f"--overwrite: {folder} is empty; leave it out")
        return
    if not _is_ours(folder / MODEL):
        raise UserError(f"{folder}: holds something else, and no {MODEL} of this tool; choose another --output")
    if not overwrite:
        raise UserError(f"{folder}: holds a published model; add --overwrite to replace it, or choose another --output")


def _is_ours(path: Path) -> bool:
    """Returns whether a file is a published model, whatever lies beside it, so that --overwrite can be repeated."""
    try:
        with path.open("rb") as file:
            return is_safetensors(file.read(9)) and OURS in read_safetensors(path, file, object)
    except (OSError, Damaged):
        return False


def write_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    """Writes a published folder.

    A new one is written beside its place, and renamed. In an existing one each file is replaced, whole, and what is no
    part of it stays, such as the history of a repository. After a kill on the way, copies that do not fit the model are
    refused by its reader, and no scores are there that are not its own.

    Args:
        folder: the folder; see `refuse_place`.
        files: the content of each file; without scores, those of an existing folder are removed.

    Raises:
        OSError: it cannot be written.
    """
    if folder.is_dir() and any(folder.iterdir()):
        for name in _CLAIMS:
            (folder / name).unlink(missing_ok=True)
        for name in sorted(files, key=lambda name: name in _CLAIMS):
            write_bytes(folder / name, files[name])
        return
    folder = folder.resolve()
    beside = folder.with_name(f".{folder.name[:100]}.{uuid.uuid4().hex[:8]}.partial")
    try:
        for name, content in files.items():
            write_bytes(beside / name, content)
        os.replace(beside, folder)  # also of an empty one
    finally:
        shutil.rmtree(beside, ignore_errors=True)
