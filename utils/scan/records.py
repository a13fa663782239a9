"""The records that travel through the program, in the order in which they appear.

    source -> Scan -> augmentation -> collate -> Batch -> network -> Segmentation -> metrics, submission, pictures

All are frozen: a step that changes something returns a new record. These letters stand for sizes everywhere:

    N  points of one scan       P  points of a batch       B  scans in a batch      M  points that have a pixel
    V  voxels (views, in `Batch.views`)                     C  channels              K  classes
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:  # names, not values: a scan is listed, read and checked before torch is imported
    import torch
    from torch import Tensor


@dataclass(frozen=True)
class Frame:
    """A frozen record of which sweep of a data set a scan is.

    Attributes:
        sequence: name of the sequence ("08").
        name: name of the frame in the sequence ("000123"); with `sequence` it names the submission file.
        path: the scan file on disk, for error messages.
    """

    sequence: str
    name: str
    path: str


Rows = NDArray[np.bool_] | NDArray[np.int64]
"""A choice of points of a scan: a mask (N,), or the numbers of rows."""


@dataclass(frozen=True)
class Scan:
    """A frozen record of one LiDAR sweep, column by column; row i of every column is the same point.

    Points of past sweeps may follow those of the sweep itself, moved into its frame; `age` tells them apart.

    Attributes:
        frame: which sweep it is.
        xyz: (N, 3) float32, metres, sensor frame, z up (x forward, y left in SemanticKITTI; x right, y forward in
            nuScenes).
        intensity: (N,) float32 as in the data set: 0..1 in SemanticKITTI, 0..255 in nuScenes.
        labels: (N,) uint8 learning ids; 0 is ignored.
        instances: (N,) int32 instance ids; 0 means no instance.
        index: (N,) int64, row of the point in its file; -1 for a point of a past sweep, or mixed in from another scan.
        pixels: (N, 2) float32 (row, column) in `image`; NaN if the camera does not see the point.
        image: (H, W, 3) uint8 RGB; None if the scan was read without its image.
        age: (N,) float32, how old the sweep of the point is: 0 for the sweep itself, else the number of scans since
            then (SemanticKITTI) or seconds (nuScenes). None: all points are of the sweep itself.
        image_features: (h, w, D) float16, kept features of a frozen teacher in place of the image; None: none.
        image_size: (H, W) of the image that `image_features` are of, pixels; `pixels` are in it.
    """

    frame: Frame
    xyz: NDArray[np.float32]
    intensity: NDArray[np.float32]
    labels: NDArray[np.uint8]
    instances: NDArray[np.int32]
    index: NDArray[np.int64]
    pixels: NDArray[np.float32]
    image: NDArray[np.uint8] | None = None
    age: NDArray[np.float32] | None = None
    image_features: NDArray[np.float16] | None = None
    image_size: tuple[int, int] | None = None

    def __len__(self) -> int:
        return len(self.xyz)

    @property
    def ages(self) -> NDArray[np.float32]:
        """The column `age`, (N,) float32, also where it is None: then all are 0, in read-only memory."""
        return constant(np.float32(0), len(self)) if self.age is None else self.age

    def select(self, rows: Rows) -> Scan:
        """Returns the scan of some of the points: the same rows of all columns, with the same image.

        Args:
            rows: an (N,) bool mask, which is faster if most points stay, or int64 row numbers, faster for few points.
        """
        return replace(
            self,
            xyz=rows_of(self.xyz, rows),
            intensity=rows_of(self.intensity, rows),
            labels=rows_of(self.labels, rows),
            instances=rows_of(self.instances, rows),
            index=rows_of(self.index, rows),
            pixels=rows_of(self.pixels, rows),
            age=None if self.age is None else rows_of(self.age, rows),
        )

    @staticmethod
    def concatenate(scans: Sequence[Scan], rows: Sequence[Rows | None] | None = None) -> Scan:
        """Returns all points of `scans`, at least one, as one scan with the frame and the image of the first.

        Args:
            scans: in order.
            rows: what to select of each scan, as in `select`; None: all. To select and to append in one go saves a copy
                of all columns.
        """
        chosen = [None] * len(scans) if rows is None else rows
        counts = [len(scan) if part is None else _count(part) for scan, part in zip(scans, chosen, strict=True)]

        def column(name: str) -> NDArray[Any]:
            return _appended([getattr(scan, name) for scan in scans], chosen, counts)

        return replace(
            scans[0],
            xyz=column("xyz"),
            intensity=column("intensity"),
            labels=column("labels"),
            instances=column("instances"),
            index=column("index"),
            pixels=column("pixels"),
            age=None if all(scan.age is None for scan in scans) else column("ages"),
        )


def no_pixels(count: int) -> NDArray[np.float32]:
    """Returns `Scan.pixels` of `count` points that no camera sees: (count, 2) float32 NaN, read-only.

    It is one NaN that is repeated without using memory.
    """
    return np.broadcast_to(np.float32(np.nan), (count, 2))


def constant(value: np.generic, count: int) -> NDArray[Any]:
    """Returns a column of `count` points that all have one value: it is repeated without using memory, read-only."""
    return np.broadcast_to(value, (count,))


def _count(rows: Rows) -> int:
    return int(np.count_nonzero(rows)) if rows.dtype == np.bool_ else len(rows)


def _appended(columns: Sequence[NDArray[Any]], rows: Sequence[Rows | None], counts: Sequence[int]) -> NDArray[Any]:
    """Appends rows of columns (`counts` of each); what repeats one number throughout does so afterwards, too."""
    first, total = columns[0], sum(counts)
    if not any(any(column.strides) for column in columns) and all(
        np.array_equal(column[:1], first[:1], equal_nan=first.dtype.kind == "f") for column in columns
    ):
        return np.broadcast_to(first[:1], (total, *first.shape[1:]))
    appended = np.empty((total, *first.shape[1:]), first.dtype)
    end = 0
    for column, part, count in zip(columns, rows, counts, strict=True):
        start, end = end, end + count
        if part is None or (part.dtype == np.bool_ and count == len(column)):
            appended[start:end] = column
        elif part.dtype != np.bool_ and any(column.strides):
            column.take(part, axis=0, out=appended[start:end], mode="clip")  # "raise" would take by way of a copy
        else:
            appended[start:end] = rows_of(column, part)
    return appended


def rows_of(column: NDArray[Any], rows: Rows) -> NDArray[Any]:
    """Returns rows of an (N,) or (N, C) column; faster than plain indexing, for a mask several times as fast."""
    if not any(column.strides):  # one number that is repeated
        return np.broadcast_to(column[:1], (_count(rows), *column.shape[1:]))
    if rows.dtype != np.bool_:
        return column.take(rows, axis=0)
    if column.ndim == 1:
        return column[rows]
    row = np.dtype((np.void, column.itemsize * column.shape[1]))
    return np.ascontiguousarray(column).view(row)[:, 0][rows].view(column.dtype).reshape(-1, column.shape[1])


@dataclass(frozen=True)
class WholeScan:
    """A frozen record of a scan as it is on disk, with the points outside the volume, for evaluation.

    Attributes:
        frame: which sweep it is.
        xyz: (N, 3) float32, metres, all points of the file.
        labels: (N,) uint8 learning ids of all points of the file; 0 is ignored.
        inside: (N,) bool, whether the point lies in the volume and so goes through the network.
        donor: (N,) int64, a row among the points that go through the network: the point takes the prediction of that
            row, which is its own if it is inside, else that of the nearest point inside.
    """

    frame: Frame
    xyz: Tensor
    labels: Tensor
    inside: Tensor
    donor: Tensor

    def map_tensors(self, function: Callable[[Tensor], Tensor]) -> WholeScan:
        """Returns a copy with `function` applied to every tensor."""
        return replace(
            self,
            xyz=function(self.xyz),
            labels=function(self.labels),
            inside=function(self.inside),
            donor=function(self.donor),
        )


@dataclass(frozen=True)
class Sample:
    """A frozen record of one item of the data set, before it is put into a batch.

    Attributes:
        scan: the points that go through the network; those of past sweeps come after those of the sweep itself.
        whole: the scan as on disk (evaluation only).
        views: (V, 3, 4) float32 affine maps [rotation | translation in metres] of the V test-time views (evaluation
            with votes only).
    """

    scan: Scan
    whole: WholeScan | None = None
    views: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class Batch:
    """A frozen record of B scans with their points stacked.

    Attributes:
        points: (P, 4) float32: x, y, z (metres), intensity; (P, 5) with the age (`Scan.age`) for networks that take it.
        scan_ids: (P,) int64, number of the scan (0..B-1) of each point; ascending.
        labels: (P,) int64 learning ids; 0 is ignored.
        pixels: (P, 2) int64 (row, column) in the image of the scan; -1 for a point without a pixel.
        visible: (M,) int64, the rows of `points` that have a pixel; ascending. They are computed on the host: if a GPU
            computed them, the host would have to wait for their number.
        images: (B, 3, H, W) uint8 RGB, or float32 if normalised already; None if no images are used. As uint8 they are
            a quarter of the size; the image branch normalises them. One that is smaller than the others lies in the
            upper left corner, with black around it.
        lengths: B numbers of points, one per scan.
        whole: the B scans as on disk (evaluation), or empty (training).
        views: (B, V, 3, 4) float32 affine maps of the V test-time views, or None.
        image_sizes: B pairs (height, width), the sizes of the images in pixels; empty: all are H x W, or there are
            none.
        image_features: (B, h, w, D) float16, features of a frozen teacher that were kept, in place of `images`; or
            None. A smaller map lies in the upper left corner.
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
    image_sizes: tuple[tuple[int, int], ...] = ()
    image_features: Tensor | None = None

    @property
    def num_scans(self) -> int:
        """The number of scans B."""
        return len(self.lengths)

    @property
    def counted(self) -> Tensor | None:
        """A (P,) bool mask of the points whose label says something; None: all.

        A point of a past sweep without a label is none: its label may have been left out on purpose
        (`dataset_params.past_labels`). One of the sweep itself that has none is a point that is to be ignored.
        """
        return None if self.points.shape[1] == 4 else (self.points[:, 4] == 0) | (self.labels > 0)

    def map_tensors(self, function: Callable[[Tensor], Tensor]) -> Batch:
        """Returns a batch with what a function makes of each tensor."""
        return replace(
            self,
            points=function(self.points),
            scan_ids=function(self.scan_ids),
            labels=function(self.labels),
            pixels=function(self.pixels),
            visible=function(self.visible),
            images=None if self.images is None else function(self.images),
            image_features=None if self.image_features is None else function(self.image_features),
            whole=tuple(scan.map_tensors(function) for scan in self.whole),
            views=None if self.views is None else function(self.views),
        )

    def to(self, device: torch.device | str, non_blocking: bool = True) -> Batch:
        """Returns a copy on `device`."""
        return self.map_tensors(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Batch:
        """Returns a copy in page-locked memory; the DataLoader calls this.

        Tensors are made contiguous first: one that repeats a single number (the pixels of a batch without images)
        cannot be pinned as it is.
        """
        return self.map_tensors(lambda tensor: tensor.contiguous().pin_memory())

    def view(self, number: int) -> Batch:
        """Returns the batch in test-time view `number` (0..V-1), with every scan moved by the affine map of that view.

        Raises:
            ValueError: the batch has no views.
        """
        if self.views is None:
            raise ValueError("this batch carries no test-time views")
        from utils.scan.view_points import moved_points  # here: it imports torch, which the records do not need

        return replace(self, points=moved_points(self.points, self.lengths, self.views[:, number]))


@dataclass(frozen=True)
class Segmentation:
    """A frozen record of the predicted classes of one scan, for all its points in file order.

    Attributes:
        whole: the scan as on disk.
        prediction: (N,) uint8 learning ids, 1..K-1: every point of the file has a class.
        finite: scalar bool; False if logits were NaN or infinite, and the prediction is meaningless.
        confidence: (N,) float32, 0..1, of the predicted class among the classes 1..K-1; None if it was not asked for.
        one_view: (N,) uint8, what `prediction` would be without votes; None if it was not asked for.
    """

    whole: WholeScan
    prediction: Tensor
    finite: Tensor | bool = True
    confidence: Tensor | None = None
    one_view: Tensor | None = None
