"""A look at the scans of a run before its first step: what would end it hours later ends it now."""

from __future__ import annotations

from collections.abc import Iterator

from dataloader.augment.geometry import in_volume
from dataloader.dataset import SegmentationDataset
from utils.errors import UserError
from utils.scan.records import Scan

READ_AT_MOST = 256_000_000  # bytes; about a second's work
_POINT_BYTES = 16


def refuse_unusable(dataset: SegmentationDataset) -> None:
    """Read as many scans, evenly spread, as 256 MB hold; of all of them the source has looked at the sizes.

    Raises:
        UserError: one cannot be read, its labels do not fit, or no point of it lies inside the volume.
    """
    first = dataset.source.read(0, None)
    size = _POINT_BYTES * len(first)
    for index in range(0, len(dataset), -(-len(dataset) * size // READ_AT_MOST)):
        scan = dataset.source.read(index, None) if index else first
        if not in_volume(scan.xyz, dataset.low, dataset.high).any():
            raise dataset.nothing_inside(scan)


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


def _scans(dataset: SegmentationDataset) -> Iterator[Scan]:
    return (dataset.source.read(index, None) for index in range(len(dataset)))
