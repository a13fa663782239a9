"""The stages of items with past scans, beside items of one scan."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from dataloader.dataset import SegmentationDataset
from dataloader.datasets.past_sweeps import PastSweep, SourceWithPast
from tools.benchmarking.stages.stage import Difference, Stage, largest_difference
from tools.benchmarking.subject import Subject
from utils.scan.batch import collate
from utils.scan.motion import Motion
from utils.scan.records import Batch, Frame, Scan

SCANS = 3


def _motion(age: int) -> Motion:
    """Returns the motion of a turn by about a degree, and of a metre for each scan."""
    return np.array([[0.9998, -0.02, 0.0, age], [0.02, 0.9998, 0.0, 0.1], [0.0, 0.0, 1.0, 0.01]], np.float64)


class RepeatedFrame:
    """A `Source` of one frame whose past scans are the frame itself, each of them moved a metre further.

    Args:
        source: the frame.
    """

    def __init__(self, source: SourceWithPast) -> None:
        self.source = source
        self.num_cameras, self.absent, self.notes = source.num_cameras, source.absent, source.notes

    def __len__(self) -> int:
        return len(self.source)

    def frame(self, index: int) -> Frame:
        """Tells which scan number `index` is."""
        return self.source.frame(index)

    def read(self, index: int, camera: int | None = 0) -> Scan:
        """Reads scan number `index`."""
        return self.source.read(index, camera)

    def past(self, index: int) -> Sequence[PastSweep]:
        """Lists the frame itself as past sweeps."""
        return [PastSweep(self.frame(index), age, _motion(age)) for age in range(1, SCANS)]

    def read_past(self, sweep: PastSweep, with_labels: bool) -> Scan:
        """Reads a past sweep from its files."""
        return self.source.read_past(sweep, with_labels)


def item(s: Subject, name: str, training: bool) -> Stage:
    """Makes the stage of an item of `SCANS` scans, beside as many items of one scan."""
    one = s.training_set if training else s.evaluation_set(1)
    assert isinstance(one.source, SourceWithPast)
    several = SegmentationDataset(RepeatedFrame(one.source), one.low, one.high, augment=one.augment, seed=one.seed)

    def batch(dataset: SegmentationDataset) -> Batch:
        return collate([dataset[0]], training, input_dims=5)

    def compare(ours: Batch, plain: list[Batch]) -> Difference:
        now = ours.points[:, 4] == 0
        # Where points are dropped from past scans too, other turns are drawn: intensity and age tell the same points.
        columns = slice(3, 5) if training else slice(5)
        pairs = [(ours.points[now, columns], plain[0].points[:, columns]), (ours.labels[now], plain[0].labels)]
        if not training:
            pairs += [(ours.points[ours.points[:, 4] == age, :3], _moved_plainly(one, age)) for age in range(1, SCANS)]
        return largest_difference(*zip(*pairs, strict=True))

    return Stage(
        name, lambda: batch(several), f"{SCANS} items of one scan", lambda: [batch(one) for _ in range(SCANS)], compare
    )


def _moved_plainly(dataset: SegmentationDataset, age: int) -> torch.Tensor:
    """Moves the frame by a product of matrices, and crops it: (P, 3) float32."""
    motion = _motion(age)
    xyz = (dataset.source.read(0, None).xyz.astype(np.float64) @ motion[:, :3].T + motion[:, 3]).astype(np.float32)
    return torch.from_numpy(xyz[((xyz > dataset.low) & (xyz < dataset.high)).all(axis=1)])
