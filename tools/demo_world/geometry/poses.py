"""Rigid motions: rotation matrices, 4 x 4 poses and quaternions."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.transform import Rotation

Array = NDArray[Any]


def turn(x: float, y: float, z: float) -> Array:
    """Makes the (3, 3) rotation about x, then y, then z, in radians."""
    cx, cy, cz, sx, sy, sz = *np.cos([x, y, z]), *np.sin([x, y, z])
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return about_z @ about_y @ about_x


def rigid(rotation: Array, translation: ArrayLike) -> Array:
    """Makes the (4, 4) float64 pose of a (3, 3) rotation and a translation."""
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = rotation, translation
    return pose


def quaternion(rotation: Array) -> list[float]:
    """Computes w, x, y, z of a (3, 3) rotation."""
    x, y, z, w = Rotation.from_matrix(rotation).as_quat().tolist()
    return [w, x, y, z]
