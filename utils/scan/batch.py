"""The collate function, which builds a `Batch` from samples."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from utils.scan.records import Batch, Sample, Scan


def collate(samples: Sequence[Sample], with_images: bool, input_dims: int = 4) -> Batch:
    """Stacks the points of scans into a batch.

    Args:
        samples: at least one sample; all for training or all for evaluation.
        with_images: whether images are put into the batch; if not, every pixel is -1.
        input_dims: columns of the points: 4, or 5 with their age.

    Returns:
        The batch, on the CPU. Pixels are truncated to whole rows and columns.

    Raises:
        ValueError: an image is wanted but a sample has none, or the images differ in size.
    """
    scans = [sample.scan for sample in samples]
    lengths = tuple(len(scan) for scan in scans)
    pixels, visible = _pixels(scans, with_images)
    views = [sample.views for sample in samples if sample.views is not None]
    return Batch(
        points=torch.from_numpy(_points(scans, input_dims)),
        scan_ids=torch.from_numpy(np.repeat(np.arange(len(scans)), lengths)),
        labels=torch.from_numpy(np.concatenate([scan.labels for scan in scans], dtype=np.int64)),
        pixels=pixels,
        visible=visible,
        images=torch.from_numpy(_images(scans)) if with_images else None,
        lengths=lengths,
        whole=tuple(sample.whole for sample in samples if sample.whole is not None),
        views=torch.from_numpy(np.stack(views)) if views else None,
    )


def _points(scans: Sequence[Scan], columns: int) -> NDArray[np.float32]:
    """Returns (P, 4) x, y, z, intensity, or (P, 5) with the age; filling by columns is several times as fast."""
    points = np.empty((sum(map(len, scans)), columns), dtype=np.float32)
    start = 0
    for scan in scans:
        part = points[start : start + len(scan)]
        for axis in range(3):
            part[:, axis] = scan.xyz[:, axis]
        part[:, 3] = scan.intensity
        if columns > 4:
            part[:, 4] = scan.ages
        start += len(scan)
    return points


def _pixels(scans: Sequence[Scan], with_images: bool) -> tuple[Tensor, Tensor]:
    """Returns `Batch.pixels` (P, 2) and `Batch.visible` (M,)."""
    total = sum(map(len, scans))
    if not with_images:
        return torch.full((1, 2), -1).expand(total, 2), torch.empty(0, dtype=torch.int64)
    measured = np.concatenate([scan.pixels for scan in scans])
    visible = np.flatnonzero(measured[:, 0] >= 0)  # false for NaN
    whole = np.full((total, 2), -1, dtype=np.int64)
    whole[visible] = measured.take(visible, axis=0)
    return torch.from_numpy(whole), torch.from_numpy(visible)


def _images(scans: Sequence[Scan]) -> NDArray[np.uint8]:
    """Stacks the images of the scans: (B, 3, H, W) uint8."""
    images = [scan.image for scan in scans if scan.image is not None]
    if len(images) < len(scans):
        raise ValueError("images are wanted, but a scan was read without one")
    if len({image.shape for image in images}) > 1:
        raise ValueError("images of one batch differ in size; crop them with dataset_params.bottom_crop")
    return np.stack([image.transpose(2, 0, 1) for image in images])
