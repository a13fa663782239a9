"""Arrays of points, as a `Segmenter` is given them -> clouds."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from utils.scan.point_cloud import PointCloud

Points = NDArray[Any] | torch.Tensor | PointCloud
"""(N, 3) x, y, z or (N, 4) x, y, z, intensity, any float or integer type; or a cloud that a reader has made."""


def as_cloud(points: Points, name: str = "the array") -> PointCloud:
    """Returns an array of points as a cloud.

    Args:
        points: see `Points`.
        name: what messages call it.

    Raises:
        ValueError: the array is not (N, 3) or (N, 4) with N of 1 or more, or does not hold real numbers.
    """
    if isinstance(points, PointCloud):
        return points
    if isinstance(points, torch.Tensor):
        points = _numpy(points, name)
    array = np.asarray(points)
    if array.ndim != 2 or array.shape[1] not in (3, 4) or not len(array):
        hint = "; points[:, :4] takes the first columns" if array.ndim == 2 and array.shape[1] > 4 else ""
        hint = "; it looks turned: points.T" if array.ndim == 2 and array.shape[0] in (3, 4) else hint
        shape = f"(N, 3) or (N, 4), N of 1 or more, not {array.shape}{hint}"
        raise ValueError(f"{name}: points must have the shape {shape}")
    if array.dtype.kind not in "fiu":
        raise ValueError(f"{name}: points must be real numbers, not {array.dtype}")
    real = np.float64 if array.dtype.itemsize > 4 or array.dtype.kind != "f" else np.float32
    intensity = None
    if array.shape[1] == 4:
        intensity = np.nan_to_num(array[:, 3].astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    return PointCloud(name, array[:, :3].astype(real), intensity)


def _numpy(points: torch.Tensor, name: str) -> NDArray[Any]:
    """Returns the numbers of a tensor; those of types that NumPy does not have as float32."""
    if points.layout != torch.strided or points.is_quantized or points.device.type == "meta":
        raise ValueError(f"{name}: points must be in a dense tensor, not a sparse, quantized or meta one")
    points = points.detach().cpu().resolve_conj().resolve_neg()
    return (points.float() if points.is_floating_point() and points.element_size() < 4 else points).numpy()
