"""The records that travel through the program, in the order in which they appear.

    source -> Scan -> augmentation -> collate -> Batch -> network -> Segmentation -> metrics, submission, pictures

All are frozen: a step that changes something returns a new record. Shape legend, used everywhere:

    N  points of one scan       P  points of a batch       B  scans in a batch
    V  voxels (views, in `Batch.views`)                     C  channels       K  classes
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from utils.fp32 import exact_matmul


@dataclass(frozen=True)
class Frame:
    """Which sweep a record came from.

    Attributes:
        sequence: sequence name ("08").
        name: frame name within the sequence ("000123"); with `sequence` it names the submission file.
        path: the scan file on disk, for error messages.
    """

    sequence: str
    name: str
    path: str


@dataclass(frozen=True)
class Scan:
    """One LiDAR sweep, column by column; row i of every column is the same point.

    Attributes:
        frame: where it came from.
        xyz: (N, 3) float32, metres, sensor frame, z up (x forward, y left in SemanticKITTI; x right, y forward in
            nuScenes).
        intensity: (N,) float32 as the data set has it: 0..1 in SemanticKITTI, 0..255 in nuScenes.
        labels: (N,) uint8, learning ids; 0 is ignored.
        instances: (N,) int32, instance ids; 0 is none.
        index: (N,) int64, row of the point in its file; -1 for a point mixed in from another scan.
        pixels: (N, 2) float32, (row, col) in `image`; NaN where the camera does not see the point.
        image: (H, W, 3) uint8 RGB, or None when no image was asked for.
    """

    frame: Frame
    xyz: NDArray[np.float32]
    intensity: NDArray[np.float32]
    labels: NDArray[np.uint8]
    instances: NDArray[np.int32]
    index: NDArray[np.int64]
    pixels: NDArray[np.float32]
    image: NDArray[np.uint8] | None = None

    def __len__(self) -> int:
        return len(self.xyz)

    def select(self, rows: NDArray[np.bool_] | NDArray[np.int64]) -> Scan:
        """The points of `rows`, all columns together; the image stays.

        Args:
            rows: a mask, which is faster where long runs of points are kept, or row numbers, for points here and there.
        """
        return replace(
            self,
            xyz=_rows_of(self.xyz, rows),
            intensity=_rows_of(self.intensity, rows),
            labels=_rows_of(self.labels, rows),
            instances=_rows_of(self.instances, rows),
            index=_rows_of(self.index, rows),
            pixels=_rows_of(self.pixels, rows),
        )

    @staticmethod
    def concatenate(scans: Sequence[Scan]) -> Scan:
        """All points of `scans` as one scan, with the frame and the image of the first."""
        return replace(
            scans[0],
            xyz=np.concatenate([s.xyz for s in scans]),
            intensity=np.concatenate([s.intensity for s in scans]),
            labels=np.concatenate([s.labels for s in scans]),
            instances=np.concatenate([s.instances for s in scans]),
            index=np.concatenate([s.index for s in scans]),
            pixels=np.concatenate([s.pixels for s in scans]),
        )


def no_pixels(count: int) -> NDArray[np.float32]:
    """`Scan.pixels` of `count` points that no camera sees: one NaN repeated, in no memory; not to be written to."""
    return np.broadcast_to(np.float32(np.nan), (count, 2))


def _rows_of(column: NDArray[Any], rows: NDArray[np.bool_] | NDArray[np.int64]) -> NDArray[Any]:
    """Rows of (N,) or (N, C); faster than plain indexing, several times so for a mask."""
    if not any(column.strides):  # one number, repeated
        count = int(np.count_nonzero(rows)) if rows.dtype == np.bool_ else len(rows)
        return np.broadcast_to(column[:1], (count, *column.shape[1:]))
    if rows.dtype != np.bool_:
        return column.take(rows, axis=0)
    if column.ndim == 1:
        return column[rows]
    row = np.dtype((np.void, column.itemsize * column.shape[1]))
    return np.ascontiguousarray(column).view(row)[:, 0][rows].view(column.dtype).reshape(-1, column.shape[1])


@dataclass(frozen=True)
class WholeScan:
    """What evaluation must know of a scan as it lies on disk, points outside the volume included.

    Attributes:
        frame: where it came from.
        xyz: (N, 3) float32, all points of the file.
        labels: (N,) uint8, learning ids of all points of the file; 0 is ignored.
        inside: (N,) bool, the point lies in the volume (and so goes through the network).
        donor: (N,) int64, the row, among the points that go through the network, whose prediction the point takes:
            its own when inside, else that of the nearest point inside.
    """

    frame: Frame
    xyz: Tensor
    labels: Tensor
    inside: Tensor
    donor: Tensor

    def map_tensors(self, function: Callable[[Tensor], Tensor]) -> WholeScan:
        """A copy with `function` applied to every tensor."""
        return replace(
            self,
            xyz=function(self.xyz),
            labels=function(self.labels),
            inside=function(self.inside),
            donor=function(self.donor),
        )


@dataclass(frozen=True)
class Sample:
    """One item of the data set, before it is batched.

    Attributes:
        scan: the points that go through the network.
        whole: the scan as on disk (evaluation only).
        views: (V, 3, 4) float32 affine maps [rotation | translation] of the test-time views (evaluation with votes).
    """

    scan: Scan
    whole: WholeScan | None = None
    views: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class Batch:
    """Scans stacked point by point.

    Attributes:
        points: (P, 4) float32: x, y, z (m), intensity.
        scan_ids: (P,) int64, the scan (0..B-1) each point belongs to; ascending.
        labels: (P,) int64 learning ids; 0 is ignored.
        pixels: (P, 2) int64 (row, col) into the scan's image; -1 where there is none.
        visible: (M,) int64, the rows of `points` that have a pixel; ascending. Known here, on the host, because a
            device that had to find them would keep the host waiting for their number.
        images: (B, 3, H, W) uint8 RGB, or float32 if normalised already; None when no image is used. They travel as
            bytes, a quarter of the size, and the image branch normalises them.
        lengths: points per scan, B numbers.
        whole: the scans as on disk, B of them (evaluation), or none (training).
        views: (B, V, 3, 4) float32 affine maps for test-time augmentation, or None.
    """

    points: Tensor
    scan_ids: Tensor
    labels: Tensor
    pixels: Tensor
    visible: Tensor
    images: Tensor | None
    lengths: tuple[int, ...]
    whole: tuple[WholeScan, ...] = field(default=())
    views: Tensor | None = None

    @property
    def num_scans(self) -> int:
        return len(self.lengths)

    def _map_tensors(self, function: Callable[[Tensor], Tensor]) -> Batch:
        return replace(
            self,
            points=function(self.points),
            scan_ids=function(self.scan_ids),
            labels=function(self.labels),
            pixels=function(self.pixels),
            visible=function(self.visible),
            images=None if self.images is None else function(self.images),
            whole=tuple(scan.map_tensors(function) for scan in self.whole),
            views=None if self.views is None else function(self.views),
        )

    def to(self, device: torch.device | str, non_blocking: bool = True) -> Batch:
        """A copy on `device`."""
        return self._map_tensors(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Batch:
        """A copy in page-locked memory, every number at a place of its own; called by the DataLoader.

        A tensor that repeats one number (the pixels of a batch without images) cannot be copied as it is.
        """
        return self._map_tensors(lambda tensor: tensor.contiguous().pin_memory())

    def view(self, number: int) -> Batch:
        """The batch as seen in test-time view `number`: every scan rotated and moved by its own affine map.

        Raises:
            ValueError: the batch carries no views.
        """
        if self.views is None:
            raise ValueError("this batch carries no test-time views")
        maps = F.pad(self.views[:, number], (0, 0, 0, 1))  # the fourth row: intensity stays what it is
        matrices, shifts = F.pad(maps[:, :, :3], (0, 1)), maps[:, :, 3]
        matrices[:, 3, 3] = 1
        moved = torch.empty_like(self.points)
        # In half precision or TF32 the points would move by much of a voxel.
        with torch.autocast(self.points.device.type, enabled=False), exact_matmul():
            scans = zip(shifts, self.points.split(self.lengths), matrices, moved.split(self.lengths), strict=True)
            for shift, points, matrix, out in scans:
                torch.addmm(shift, points, matrix.T, out=out)
        return replace(self, points=moved)


@dataclass(frozen=True)
class Segmentation:
    """The result for one scan, point by point in file order.

    Attributes:
        whole: the scan it belongs to.
        prediction: (N,) uint8 learning ids, 1..K-1: every point of the file has a class.
        finite: () bool; False if logits were NaN or infinite, so that the classes mean nothing.
    """

    whole: WholeScan
    prediction: Tensor
    finite: Tensor | bool = True
