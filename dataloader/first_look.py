"""A look at the scans of a run before its first step: what would end it hours later ends it now.

The scans that are read for it also give the statistics of the training data, so these cost no further reading.
"""

from __future__ import annotations

from collections.abc import Iterator

from dataloader.dataset import SegmentationDataset
from utils.errors import UserError
from utils.scan.records import Scan
from utils.scan.sensor import Sensor
from utils.scan.statistics import Statistics, measure
from utils.scan.volume import in_volume

READ_AT_MOST = 256_000_000  # bytes; about a second's work
_POINT_BYTES = 16


def refuse_unusable(dataset: SegmentationDataset) -> None:
    """Reads as many scans, evenly spread, as 256 MB hold; of all of them the source has looked at the sizes.

    Raises:
        UserError: one cannot be read, its labels do not fit, or no point of it lies inside the volume.
    """
    for _ in _usable(dataset, *_spread(dataset)):
        pass


def measure_usable(dataset: SegmentationDataset, num_classes: int, sensor: Sensor) -> Statistics:
    """Gathers the statistics of the scans that are read to do what `refuse_unusable` does.

    The scans depend on the data set alone, and what is gathered on the scans: every process and every resumed run has
    the same statistics.

    Args:
        dataset: training scans.
        num_classes: K.
        sensor: of the data set.

    Raises:
        UserError: see `refuse_unusable`.
    """
    first, indices = _spread(dataset)
    return measure(_usable(dataset, first, indices), len(indices), num_classes, sensor)


def _spread(dataset: SegmentationDataset) -> tuple[Scan, range]:
    """Reads the first scan, by whose size the scans to read are chosen."""
    first = dataset.source.read(0, None)
    return first, range(0, len(dataset), -(-len(dataset) * _POINT_BYTES * len(first) // READ_AT_MOST))


def _usable(dataset: SegmentationDataset, first: Scan, indices: range) -> Iterator[Scan]:
    for index in indices:
        scan = dataset.source.read(index, None) if index else first
        if not in_volume(scan.xyz, dataset.low, dataset.high).any():
            raise dataset.nothing_inside(scan)
        yield scan


def refuse_unlabelled(dataset: SegmentationDataset, loader: str) -> None:
    """Reads scans until one has a labelled point, which is usually the first.

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
