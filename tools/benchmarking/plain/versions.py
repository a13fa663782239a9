"""Plain versions of the project's computations: short, straight from the definitions, as they are commonly written.

`benchmark.py stages` measures the project against these, and tests check that both give the same results. Nothing of
the project is used in them. Sums are in fp32, in fp64 where the input is.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import PIL.Image
import torch
from numpy.typing import NDArray
from scipy.spatial import KDTree
from torch import Tensor

from dataloader.datasets.semantickitti.calibration import read_calibration
from utils.scan.records import Frame, Scan
from utils.scan.volume import Volume

Pairs = list[tuple[Tensor, Tensor]]
"""For every kernel offset (z slowest, x fastest), the input rows and the output rows that meet."""


def map_labels(raw: NDArray[np.uint16], learning_map: dict[int, int]) -> NDArray[np.uint8]:
    """Maps (N,) raw ids to (N,) learning ids, point by point."""
    return np.vectorize(learning_map.get)(raw).astype(np.uint8)


class PlainSource:
    """One frame in the SemanticKITTI layout, as a `Source`: the image is decoded at every reading.

    Args:
        folder: the sequence's folder.
        name: the frame, such as "000000".
        learning_map: raw ids to learning ids.
    """

    num_cameras = 1
    absent = ()
    notes = ()

    def __init__(self, folder: Path, name: str, learning_map: dict[int, int]) -> None:
        self.folder, self.name, self.learning_map = folder, name, learning_map
        self.calibration = read_calibration(folder / "calib.txt")

    def __len__(self) -> int:
        return 1

    def frame(self, index: int) -> Frame:
        """Returns the one frame, whatever the index."""
        return Frame(self.folder.name, self.name, str(self.folder / "velodyne" / f"{self.name}.bin"))

    def read(self, index: int, camera: int | None = 0) -> Scan:
        """Reads scan, labels and image from their files, and projects all points."""
        points = np.fromfile(self.folder / "velodyne" / f"{self.name}.bin", dtype=np.float32).reshape(-1, 4)
        raw = np.fromfile(self.folder / "labels" / f"{self.name}.label", dtype=np.uint32)
        labels = map_labels((raw & 0xFFFF).astype(np.uint16), self.learning_map)
        instances = (raw >> 16).astype(np.int32)
        image = np.asarray(PIL.Image.open(self.folder / "image_2" / f"{self.name}.png").convert("RGB"))
        pixels = self._project(points[:, :3], image.shape[1], image.shape[0])
        index_in_file = np.arange(len(points))
        return Scan(self.frame(index), points[:, :3], points[:, 3], labels, instances, index_in_file, pixels, image)

    def _project(self, xyz: NDArray[np.float32], width: int, height: int) -> NDArray[np.float32]:
        """Projects all points, (N, 2) float32 (row, col); NaN behind the sensor and outside of the image."""
        u, v, w = self.calibration @ np.vstack([xyz.T, np.ones(len(xyz))])
        with np.errstate(divide="ignore", invalid="ignore"):
            row, col = v / w, u / w
        seen = (xyz[:, 0] > 0) & (row > 0) & (row < height) & (col > 0) & (col < width)
        return np.where(seen[:, None], np.column_stack([row, col]), np.nan).astype(np.float32)


def evaluation_views(
    source: PlainSource, low: Sequence[float], high: Sequence[float], views: Sequence[NDArray[np.float32]]
) -> tuple[list[Tensor], Tensor]:
    """Makes an evaluation item by reading everything once per vote.

    Args:
        source: the frame.
        low, high: the points strictly between these corners are kept.
        views: a (3, 4) map [rotation | translation] per vote.

    Returns:
        Per vote (P, 4) float32 x, y, z, intensity; and for every point of the file (N,) int64 the nearest kept one.
    """
    points = []
    for view in views:
        scan = source.read(0)
        inside = ((scan.xyz > low) & (scan.xyz < high)).all(axis=1)
        moved = scan.xyz[inside] @ view[:, :3].T + view[:, 3]
        points.append(torch.from_numpy(np.column_stack([moved, scan.intensity[inside]])))
    return points, torch.from_numpy(KDTree(scan.xyz[inside]).query(scan.xyz)[1])


def voxelize(points: Tensor, rows: Tensor, volume: Volume, scale: int) -> tuple[Tensor, Tensor]:
    """Finds the distinct voxels at one scale.

    Args:
        points: (P, 4) x, y, z, intensity.
        rows: (P,) scan of each point.
        volume: the box and its grid.
        scale: voxels of the scale-1 grid along an edge.

    Returns:
        (V, 4) int64 batch, z, y, x, sorted; and (P,) int64 the voxel of every point.
    """
    low, high = points.new_tensor(volume.low), points.new_tensor(volume.high)
    cells = torch.ceil(points.new_tensor(volume.grid) / scale)
    index = torch.floor(cells * (points[:, :3] - low) / (high - low)).long()
    return torch.unique(torch.cat([rows[:, None], index.flip(1)], dim=1), dim=0, return_inverse=True)


def kernel_map(coordinates: Tensor) -> Pairs:
    """Finds the pairs of a 3x3x3 kernel between voxels (V, 4) batch, z, y, x, sorted: one search per offset."""
    shifted = coordinates - coordinates.amin(0) + 1
    _, depth, height, width = (shifted.amax(0) + 2).tolist()

    def number(voxels: Tensor) -> Tensor:
        batch, z, y, x = voxels.unbind(1)
        return ((batch * depth + z) * height + y) * width + x

    keys = number(shifted)
    pairs = []
    for offset in itertools.product((-1, 0, 1), repeat=3):
        wanted = number(shifted + torch.tensor([0, *offset]))
        position = torch.searchsorted(keys, wanted).clamp(max=len(keys) - 1)
        found = (keys[position] == wanted).nonzero()[:, 0]
        pairs.append((position[found], found))
    return pairs


def convolve(features: Tensor, weight: Tensor, pairs: Pairs) -> Tensor:
    """Convolves (V, C_in) features with a (27, C_in, C_out) weight to (V, C_out); the gradient is autograd's."""
    out = wide(features.new_zeros(len(features), weight.shape[2]))
    for (inputs, outputs), matrix in zip(pairs, weight, strict=True):
        out.index_add_(0, outputs, wide(features[inputs] @ matrix))
    return out


def wide(values: Tensor) -> Tensor:
    """Converts values to fp32, but leaves fp64 as it is."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def scatter_mean(values: Tensor, index: Tensor, size: int) -> Tensor:
    """Takes the mean of the rows of (R, C) values with equal index (R,), as (size, C)."""
    out = wide(values.new_zeros(size, values.shape[1]))
    return out.scatter_reduce(0, index[:, None].expand_as(values), wide(values), "mean", include_self=False)


@dataclass(frozen=True, eq=False)
class VoxelGrid:
    """The voxels of one scale: (V, 4) coordinates batch, z, y, x and (P,) the voxel of every point."""

    coordinates: Tensor
    inverse: Tensor

    @cached_property
    def pairs(self) -> Pairs:
        """The pairs of voxels that a 3x3x3 kernel connects."""
        return kernel_map(self.coordinates)

    @cached_property
    def groups(self) -> tuple[int, Tensor]:
        """The number of 2x2x2 groups of voxels, and the group of every voxel, (V,)."""
        divisor = torch.tensor([1, 2, 2, 2])
        halved = torch.div(self.coordinates, divisor, rounding_mode="floor")
        groups, group_of_voxel = torch.unique(halved, dim=0, return_inverse=True)
        return len(groups), group_of_voxel

    def mean(self, values: Tensor) -> Tensor:
        """Takes the mean of (P, C) values of the points over each voxel, as (V, C)."""
        return scatter_mean(values, self.inverse, len(self.coordinates))


class Geometry:
    """The voxels of a batch at scale 1 and at every scale of `scale_list`, and the features of its points.

    Attributes:
        grids: scale -> voxels.
        features: (P, 10) x, y, z, intensity, offset from the voxel's mean, offset from the voxel's low corner; (P, 11)
            with the age at the end, if the points have it.
    """

    def __init__(self, points: Tensor, rows: Tensor, volume: Volume, scale_list: Sequence[int]) -> None:
        self.grids = {scale: VoxelGrid(*voxelize(points.float(), rows, volume, scale)) for scale in {1, *scale_list}}
        xyz, base = points[:, :3], self.grids[1]
        corner = base.coordinates[:, [3, 2, 1]] * xyz.new_tensor(volume.voxel_size) + xyz.new_tensor(volume.low)
        mean = base.mean(xyz)
        offsets = [xyz - mean[base.inverse], xyz - corner[base.inverse]]
        self.features = torch.cat([points[:, :4], *offsets, points[:, 4:]], dim=1)
