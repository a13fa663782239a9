"""Filling of the cache of a frozen teacher: each picture is encoded once, by whichever process gets to it first.

A file that is there stays, so that a build that was killed goes on where it was. Processes of one run, and runs that
share the folder, divide the pictures among them by a lock file for each picture at work.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from network.teachers.teacher import Encoder
from utils.errors import UserError
from utils.feature_files import FeatureFiles, Picture
from utils.files import remove_partials
from utils.locks import Lock

Read = Callable[[Picture], NDArray[np.uint8]]
"""A function that reads a picture as (H, W, 3) uint8 RGB of its size."""


def announce(files: FeatureFiles, pictures: Sequence[Picture], encoder: Encoder) -> list[str]:
    """Makes the lines about what has to be computed, with the bytes that it takes; none if all is there.

    Args:
        files: where the features are kept.
        pictures: all that a training looks at.
        encoder: the teacher.

    Raises:
        UserError: the disk has not enough room.
    """
    lacking = [picture for picture in pictures if not files.has(picture)]
    if not lacking:
        return []
    largest = max(pictures, key=files.bytes_of)
    needed = sum(map(files.bytes_of, lacking))
    whole = sum(map(files.bytes_of, pictures))
    rows, columns, dimensions = files.shape_of(largest)
    line = (
        f"dataset_params.teacher_cache: {encoder.identity}: {rows} x {columns} patches x {dimensions} numbers, "
        f"{_amount(files.bytes_of(largest))} per picture, {_amount(whole)} for {len(pictures):,} pictures; "
        f"{len(lacking):,} are to be computed"
    )
    free = shutil.disk_usage(_existing(files.folder)).free
    if needed > free:
        raise UserError(
            f"{line}, {_amount(needed)}, but {files.folder} has room for {_amount(free)}: name a folder on another "
            "disk, or set dataset_params.teacher_cache to null to compute them at every step"
        )
    return [line]


def fill(
    files: FeatureFiles,
    pictures: Sequence[Picture],
    encoder: Encoder,
    read: Read,
    device: torch.device,
    arithmetic: Callable[[], AbstractContextManager[object]] = nullcontext,
) -> None:
    """Computes and writes the features of all pictures that have none; afterwards all are there.

    Args:
        files: where the features are kept.
        pictures: all that a training looks at.
        encoder: the teacher.
        read: reads a picture.
        device: where the encoder computes.
        arithmetic: what the training computes in: its autocast.

    Raises:
        UserError: a picture cannot be read.
        OSError: the features cannot be written.
    """
    for wait in (False, True):  # first what nobody works at, then what others have begun and perhaps not finished
        for picture in pictures:
            if not files.has(picture):
                _make(files, picture, encoder, read, device, arithmetic, wait)


def _make(
    files: FeatureFiles,
    picture: Picture,
    encoder: Encoder,
    read: Read,
    device: torch.device,
    arithmetic: Callable[[], AbstractContextManager[object]],
    wait: bool,
) -> None:
    path = files.path_of(picture)
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = Lock(path.with_suffix(".lock"))
    if not lock.acquire(wait):
        return
    try:
        if files.has(picture):  # another process has finished it meanwhile
            return
        if lock.held:
            remove_partials(path.parent, path.name)
        image = torch.from_numpy(np.ascontiguousarray(read(picture).transpose(2, 0, 1)))
        with arithmetic():
            features = encoder.encode(image[None].to(device))[0].cpu()
        if not bool(torch.isfinite(features).all()):
            raise UserError(
                f"{picture.path}: {encoder.identity} gives features that are NaN or infinite for it; replace the "
                "image, or compute in --precision 32"
            )
        files.write(picture, features.numpy())
    finally:
        lock.release()


def _existing(folder: Path) -> Path:
    """Returns the nearest folder that is there."""
    return next(path for path in (folder, *folder.absolute().parents) if path.is_dir())


def _amount(count: int) -> str:
    """Writes a number of bytes."""
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= size:
            return f"{count / size:.{1 if count < 10 * size else 0}f} {unit}"
    return f"{count} bytes"
