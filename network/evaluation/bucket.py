"""Buckets: numbers of points, voxels and so on, to which batches are padded, so that one graph serves many of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from network.models.segmentation_network import SegmentationNetwork
from network.ops.together import SPREAD, Filling, Layout, Reading
from utils.scan.records import Batch

MOST_POINTS = 1 << 20  # with more, the time to start the operations no longer counts, but the memory of a graph does
_MARGIN = 1.06  # scans of equally many points differ in their numbers of voxels
_STEP = 64


def bucket_of(number: int) -> int:
    """Returns the smallest of the numbers 2^n * (1, 1.25, 1.5, 1.75), from 256 on, that is at least `number`."""
    power = 256
    while power < number:
        power *= 2
    if power == 256:
        return power
    return next(size for size in (power * eighths // 8 for eighths in (5, 6, 7, 8)) if size >= number)


@dataclass(frozen=True)
class Kind:
    """A frozen record of what batches must have in common to share a bucket.

    Attributes:
        points: the number of points that a batch is padded to.
        scans: number of scans, without the padding.
        columns: numbers per point.
        dtype: type of autocast, or None.
    """

    points: int
    scans: int
    columns: int
    dtype: torch.dtype | None

    @staticmethod
    def of(batch: Batch, dtype: torch.dtype | None) -> Kind:
        """Returns the kind of a batch; at least one point of the bucket is padding."""
        return Kind(bucket_of(len(batch.points) + 1), batch.num_scans, batch.points.shape[1], dtype)


class Bucket:
    """Input tensors of one kind, and the numbers of voxels, pairs, groups and tuples for which there is space.

    Attributes:
        kind: the kind of the batches.
        points, scan_ids: the input, (P, 4) or (P, 5) float32 and (P,) int64.
        sizes: number of rows of each list of keys; empty until the first batch was measured.
    """

    def __init__(self, kind: Kind, padding: Tensor, device: torch.device) -> None:
        """Makes the tensors.

        Args:
            kind: the kind of the batches.
            padding: (P, 4) or (P, 5) points, see `SegmentationNetwork.padding`.
            device: where the network is.
        """
        self.kind = kind
        with torch.inference_mode(False):  # whoever calls may write into them
            self._padding = padding.to(device)
            self.points = self._padding.clone()
            self.scan_ids = torch.full((kind.points,), kind.scans, device=device)
        self.sizes: tuple[int, ...] = ()
        self._layouts: dict[int, Layout] = {}

    def load(self, batch: Batch) -> None:
        """Copies the points of a batch into the input; the rest is padding."""
        count = len(batch.points)
        self.points[:count].copy_(batch.points)
        self.points[count:].copy_(self._padding[count:])
        self.scan_ids[:count].copy_(batch.scan_ids)
        self.scan_ids[count:].fill_(self.kind.scans)

    def measure(self, network: SegmentationNetwork, count: int) -> None:
        """Evaluates the input, `count` points of which are no padding, and makes space for batches like it."""
        reading = Reading()
        network.predict_padded(self.points, self.scan_ids, self.kind.scans + 1, reading)
        self.sizes, self._layouts = self._with_space(reading.sizes, count), {}

    def filling(self) -> Filling:
        """Returns what gives the results the sizes of this bucket."""
        return Filling(self.sizes, self._layouts)

    def holds(self, until: Sequence[int]) -> bool:
        """Returns whether a batch with these numbers, `Filling.until` of its rankings, fits into the bucket."""
        numbers, begin = [], 0
        for layout in self._layouts.values():
            counts = until[begin : begin + len(layout.sizes)]
            numbers += [count - before for before, count in pairwise([0, *counts])]
            begin += len(layout.sizes)
        return all(number <= size for number, size in zip(numbers, self.sizes, strict=True))

    def _with_space(self, sizes: Sequence[int], count: int) -> tuple[int, ...]:
        """Returns greater sizes: a batch may have as many points as the bucket, and empty rows are values, too."""
        fuller = max(self.kind.points / max(count, 1), 1) * _MARGIN
        empty = self.kind.points // (2 * SPREAD)
        wanted = [-(-int(size * fuller + empty + 1) // _STEP) * _STEP for size in sizes]
        return tuple(max(pair) for pair in zip(wanted, self.sizes or wanted, strict=True))
