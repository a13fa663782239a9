"""Samples -> `Batch`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dataloader.camera import Normalizer, normalize
from utils.structures import Batch, Sample, Scan


def collate(samples: Sequence[Sample], normalizer: Normalizer | None, with_images: bool) -> Batch:
    """Stacks scans point by point.

    Args:
        samples: at least one; all for training or all for evaluation.
        normalizer: mean and standard deviation of the image channels; None only divides by 255.
        with_images: put the images into the batch. Without, every pixel is -1.

    Returns:
        The batch, on the CPU. Pixels are truncated to whole rows and columns.

    Raises:
        ValueError: an image is wanted but a sample has none, or the images differ in size.
    """
    scans = [sample.scan for sample in samples]
    lengths = tuple(len(scan) for scan in scans)
    points = np.concatenate([np.column_stack([scan.xyz, scan.intensity]) for scan in scans])
    views = [sample.views for sample in samples if sample.views is not None]
    return Batch(
        points=torch.from_numpy(points),
        rows=torch.repeat_interleave(torch.tensor(lengths)),
        labels=torch.from_numpy(np.concatenate([scan.labels for scan in scans]).astype(np.int64)),
        pixels=torch.from_numpy(_whole_pixels(scans, with_images)),
        images=_images(scans, normalizer) if with_images else None,
        lengths=lengths,
        whole=tuple(sample.whole for sample in samples if sample.whole is not None),
        views=torch.from_numpy(np.stack(views)) if views else None,
    )


def _whole_pixels(scans: Sequence[Scan], with_images: bool) -> NDArray[np.int64]:
    if not with_images:
        return np.full((sum(map(len, scans)), 2), -1, dtype=np.int64)
    pixels = np.concatenate([scan.pixels for scan in scans])
    return np.where(np.isnan(pixels), np.float32(-1), pixels).astype(np.int64)


def _images(scans: Sequence[Scan], normalizer: Normalizer | None) -> Tensor:
    images = [scan.image for scan in scans if scan.image is not None]
    if len(images) < len(scans):
        raise ValueError("images are wanted, but a scan was read without one")
    if len({image.shape for image in images}) > 1:
        raise ValueError("images of one batch differ in size; crop them with dataset_params.bottom_crop")
    stacked = np.stack([normalize(image, normalizer).transpose(2, 0, 1) for image in images])
    return torch.from_numpy(stacked)
