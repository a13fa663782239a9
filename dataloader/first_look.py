"""A look at the scans of a run before its first step: what would end it hours later ends it now."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from dataloader.augment import in_volume
from dataloader.dataset import SegmentationDataset
from utils.errors import UserError
from utils.structures import Scan

READ_AT_MOST = 256_000_000  # bytes; about a second's work


def refuse_unusable(dataset: SegmentationDataset) -> None:
    """Look at all scans from outside, and into as many, evenly spread, as 256 MB hold.

    Raises:
        UserError: one is empty or cannot be read, its labels do not fit, or no point of it lies inside the volume.
    """
    paths = [dataset.source.frame(index).path for index in range(len(dataset))]
    with ThreadPoolExecutor(16) as pool:  # on a network drive each answer is waited for
        sizes = list(pool.map(_size, paths))
    for index, size in enumerate(sizes):
        if size == 0:
            dataset.source.read(index, None)  # says what is wrong
    stride = -(-sum(sizes) // READ_AT_MOST) or 1
    for index in range(0, len(dataset), stride):
        scan = dataset.source.read(index, None)
        if not in_volume(scan.xyz, dataset.low, dataset.high).any():
            raise dataset.nothing_inside(scan.frame)


def refuse_unlabelled(dataset: SegmentationDataset, loader: str) -> None:
    """Read scans until one has a labelled point, which is usually the first.

    Args:
        dataset: the scans.
        loader: the key of the config to name.

    Raises:
        UserError: none has.
    """
    if not any(scan.labels.any() for scan in _scans(dataset)):
        raise UserError(
            f"dataset_params.{loader}: none of its {len(dataset)} scans holds a labelled point; check the label files, "
            "and learning_map of the label mapping"
        )


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def _scans(dataset: SegmentationDataset) -> Iterator[Scan]:
    return (dataset.source.read(index, None) for index in range(len(dataset)))
