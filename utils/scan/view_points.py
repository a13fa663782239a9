"""The points of a batch in one of its test-time views: each scan moved by an affine map."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from utils.fp32 import exact_matmul
from utils.scan.views import move_to_view


def moved_points(points: Tensor, lengths: Sequence[int], maps: Tensor) -> Tensor:
    """Moves every scan of a batch by its affine map.

    Args:
        points: (P, 4) or (P, 5) float32: x, y, z (metres), and columns that stay: intensity, age.
        lengths: B numbers of points, one per scan.
        maps: (B, 3, 4) float32 [rotation | translation in metres].

    Returns:
        The moved points, of the shape of `points`.
    """
    moved = torch.empty_like(points)
    if points.device.type == "cpu":
        for of_scan, view, out in zip(points.split(list(lengths)), maps, moved.split(list(lengths)), strict=True):
            move_to_view(of_scan.numpy(), view.numpy(), out.numpy())
        return moved
    others = points.shape[1] - 3
    wide = F.pad(maps, (0, 0, 0, others))
    matrices, shifts = F.pad(wide[:, :, :3], (0, others)), wide[:, :, 3]
    matrices[:, range(3, 3 + others), range(3, 3 + others)] = 1
    # In half precision or TF32, rounding would move the points by a large part of a voxel.
    with torch.autocast(points.device.type, enabled=False), exact_matmul():
        scans = zip(shifts, points.split(list(lengths)), matrices, moved.split(list(lengths)), strict=True)
        for shift, part, matrix, out in scans:
            torch.addmm(shift, part, matrix.T, out=out)
    return moved
