"""The collate functions, which build a batch from samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from utils.scan.packing import PackedBatch, lay_out, sendable
from utils.scan.records import Batch, Sample, Scan, WholeScan

_Shapes = dict[str, tuple[torch.dtype, tuple[int, ...]]]


def collate(samples: Sequence[Sample], with_images: bool, input_dims: int = 4) -> Batch:
    """Stacks the points of scans into a batch, on the CPU; see `pack`."""
    return pack(samples, with_images, input_dims).to("cpu")


def pack(samples: Sequence[Sample], with_images: bool, input_dims: int = 4) -> PackedBatch:
    """Stacks the points of scans into a batch in one piece of memory.

    Args:
        samples: at least one sample; all for training or all for evaluation.
        with_images: whether images are put into the batch; if not, every pixel is -1.
        input_dims: columns of the points: 4, or 5 with their age.

    Returns:
        The batch, on the CPU. Pixels are truncated to whole rows and columns. Images smaller than the largest lie in
        the upper left corner, with black around them.

    Raises:
        ValueError: an image is wanted but a sample has none.
    """
    scans = [sample.scan for sample in samples]
    whole = [sample.whole for sample in samples if sample.whole is not None]
    views = [sample.views for sample in samples if sample.views is not None]
    lengths, total = tuple(len(scan) for scan in scans), sum(map(len, scans))
    shapes: _Shapes = {"points": (torch.float32, (total, input_dims)), "labels": (torch.uint8, (total,))}
    visible = [np.flatnonzero(scan.pixels[:, 0] >= 0) for scan in scans] if with_images else []  # false for NaN
    if with_images:
        shapes |= _shapes_of_images(scans, sum(map(len, visible)))
    outside = [np.flatnonzero(~scan.inside.numpy()) for scan in whole]
    if whole:
        shapes |= _shapes_of_whole(sum(len(scan.labels) for scan in whole), sum(map(len, outside)))
    if views:
        shapes["views"] = (torch.float32, (len(views), *views[0].shape))
    memory, places = lay_out(shapes)
    batch = PackedBatch(
        memory,
        places,
        lengths,
        tuple(scan.frame for scan in whole),
        tuple(len(scan.labels) for scan in whole),
        tuple(map(len, outside)),
        _image_sizes(scans) if with_images else (),
    )
    parts = {name: batch.tensor(name).numpy() for name in places}
    _fill_points(parts["points"], scans)
    _fill(parts["labels"], [scan.labels for scan in scans])
    if with_images:
        _fill_images(parts, scans, visible)
    if whole:
        _fill_whole(parts, whole, outside)
    if views:
        np.stack(views, out=parts["views"])
    return replace(batch, memory=sendable(memory))


def _shapes_of_images(scans: Sequence[Scan], visible: int) -> _Shapes:
    if all(scan.image_features is not None for scan in scans):
        return _shapes_of_features(scans, visible)
    images = [scan.image for scan in scans if scan.image is not None]
    if len(images) < len(scans):
        raise ValueError("images are wanted, but a scan was read without one")
    height, width, channels = np.max([image.shape for image in images], axis=0).tolist()
    dtype = torch.int16 if max(height, width) <= torch.iinfo(torch.int16).max else torch.int32
    return {
        "visible": (torch.int32, (visible,)),
        "pixels": (dtype, (visible, 2)),
        "images": (torch.uint8, (len(scans), channels, height, width)),
    }


def _shapes_of_features(scans: Sequence[Scan], visible: int) -> _Shapes:
    largest = np.max([scan.image_features.shape for scan in scans if scan.image_features is not None], axis=0).tolist()
    dtype = torch.int16 if np.max(_image_sizes(scans)) <= torch.iinfo(torch.int16).max else torch.int32
    return {
        "visible": (torch.int32, (visible,)),
        "pixels": (dtype, (visible, 2)),
        "image_features": (torch.float16, (len(scans), *largest)),
    }


def _image_sizes(scans: Sequence[Scan]) -> tuple[tuple[int, int], ...]:
    if all(scan.image_size is not None for scan in scans):
        return tuple(scan.image_size for scan in scans if scan.image_size is not None)
    shapes = [scan.image.shape for scan in scans if scan.image is not None]
    return tuple((height, width) for height, width, _ in shapes)


def _shapes_of_whole(total: int, outside: int) -> _Shapes:
    return {
        "whole_labels": (torch.uint8, (total,)),
        "whole_inside": (torch.bool, (total,)),
        "whole_donor": (torch.int32, (total,)),
        "outside": (torch.int32, (outside,)),
        "outside_xyz": (torch.float32, (outside, 3)),
    }


def _fill(column: NDArray[np.generic], parts: Sequence[NDArray[np.generic]]) -> None:
    """Writes parts into a column, one after the other, as numbers of its dtype."""
    end = 0
    for part in parts:
        start, end = end, end + len(part)
        column[start:end] = part


def _fill_points(points: NDArray[np.float32], scans: Sequence[Scan]) -> None:
    """Writes x, y, z, intensity, and the age where there is a fifth column; by columns is several times as fast."""
    end = 0
    for scan in scans:
        start, end = end, end + len(scan)
        part = points[start:end]
        for axis in range(3):
            part[:, axis] = scan.xyz[:, axis]
        part[:, 3] = scan.intensity
        if points.shape[1] > 4:
            part[:, 4] = scan.ages


def _fill_images(parts: dict[str, NDArray], scans: Sequence[Scan], visible: Sequence[NDArray[np.int64]]) -> None:
    starts = np.cumsum([0, *map(len, scans)])
    _fill(parts["visible"], [rows + start for rows, start in zip(visible, starts, strict=False)])
    _fill(parts["pixels"], [scan.pixels.take(rows, axis=0) for scan, rows in zip(scans, visible, strict=True)])
    for part, scan in zip(parts.get("image_features", ()), scans, strict="image_features" in parts):
        assert scan.image_features is not None
        height, width, _ = scan.image_features.shape
        part[:height, :width] = scan.image_features
        part[height:] = 0
        part[:height, width:] = 0
    for part, scan in zip(parts.get("images", ()), scans, strict="images" in parts):
        assert scan.image is not None
        height, width, _ = scan.image.shape
        part[:, :height, :width] = scan.image.transpose(2, 0, 1)
        part[:, height:] = 0
        part[:, :height, width:] = 0


def _fill_whole(parts: dict[str, NDArray], whole: Sequence[WholeScan], outside: Sequence[NDArray[np.int64]]) -> None:
    for name in ("labels", "inside", "donor"):
        _fill(parts[f"whole_{name}"], [getattr(scan, name).numpy() for scan in whole])
    _fill(parts["outside"], outside)
    _fill(parts["outside_xyz"], [scan.xyz.numpy()[rows] for scan, rows in zip(whole, outside, strict=True)])
