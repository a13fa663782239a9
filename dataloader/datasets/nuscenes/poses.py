"""Poses and calibrations in nuScenes' tables -> the way of a LiDAR point into each camera's picture, or the city."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from utils.errors import UserError
from utils.names import shown
from utils.scan.trajectory import rotations_of

_LARGEST = 1e9
"""What poses and calibrations are made of: metres, pixels and unit quaternions. Products of seven stay finite."""


@dataclass(frozen=True)
class Poses:
    """Poses that send a point p to R p + t.

    Attributes:
        rows: token -> row.
        rotations: (rows, 3, 3) float64.
        positions: (rows, 3, 1) float64, metres.
    """

    rows: dict[str, int]
    rotations: NDArray[np.float64]
    positions: NDArray[np.float64]

    @staticmethod
    def of(tokens: Sequence[str], rotations: Sequence[Any], translations: Sequence[Any], path: Path) -> Poses:
        """Makes it from the values of a table.

        Args:
            tokens: of the records.
            rotations: quaternions w, x, y, z, not necessarily of length 1.
            translations: in metres.
            path: the table, for the error message.

        Raises:
            UserError: one of them is no such thing.
        """
        quaternions = numbers(rotations, "rotation", (4,), tokens, path)
        lengths = np.linalg.norm(quaternions, axis=-1, keepdims=True)
        if not (lengths > 0).all():
            zero = tokens[int(np.argmin(lengths))]
            raise UserError(f"{path}: the rotation of {shown(zero)} is zero; unpack the metadata archive again")
        turns = rotations_of(quaternions / lengths)
        positions = numbers(translations, "translation", (3,), tokens, path)[..., None]
        return Poses({token: row for row, token in enumerate(tokens)}, turns, positions)


def lidar_to_pixels(
    sensors: Poses,
    intrinsics: NDArray[np.float64],
    vehicles: Poses,
    sensor_rows: NDArray[np.int64],
    vehicle_rows: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Chains lidar -> vehicle (lidar time) -> global -> vehicle (camera time) -> camera -> pixels.

    Args:
        sensors: where the sensors are on the vehicle.
        intrinsics: (sensors, 3, 3), of those that are cameras.
        vehicles: where the vehicle is.
        sensor_rows, vehicle_rows: (samples, 1 + cameras), the lidar first; -1 where there is none.

    Returns:
        (samples, cameras, 3, 4) float64; NaN where a row of the camera or the lidar is missing.
    """
    known = (sensor_rows >= 0) & (vehicle_rows >= 0)
    known = known[:, 1:] & known[:, :1]
    matrices = np.full((*known.shape, 3, 4), np.nan)
    if not known.any():
        return matrices
    sensor_turn, sensor_at = sensors.rotations[sensor_rows], sensors.positions[sensor_rows]
    vehicle_turn, vehicle_at = vehicles.rotations[vehicle_rows], vehicles.positions[vehicle_rows]
    to_camera = np.swapaxes(sensor_turn[:, 1:], -1, -2)
    to_later = np.swapaxes(vehicle_turn[:, 1:], -1, -2)
    turn = to_camera @ to_later @ vehicle_turn[:, :1] @ sensor_turn[:, :1]
    # The two vehicle positions are kilometres from the origin and metres apart: their difference comes first.
    moved = vehicle_turn[:, :1] @ sensor_at[:, :1] + (vehicle_at[:, :1] - vehicle_at[:, 1:])
    shift = to_camera @ (to_later @ moved - sensor_at[:, 1:])
    found = intrinsics[sensor_rows[:, 1:]] @ np.concatenate([turn, shift], axis=-1)
    matrices[known] = found[known]
    return matrices


def lidar_to_global(
    sensors: Poses, vehicles: Poses, sensor_rows: NDArray[np.int64], vehicle_rows: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Chains lidar -> vehicle -> global.

    Args:
        sensors: where the sensors are on the vehicle.
        vehicles: where the vehicle is.
        sensor_rows, vehicle_rows: (sweeps,) of each sweep.

    Returns:
        (sweeps, 3, 4) float64 [rotation | position in metres].
    """
    turn, at = vehicles.rotations[vehicle_rows], vehicles.positions[vehicle_rows]
    return np.concatenate([turn @ sensors.rotations[sensor_rows], turn @ sensors.positions[sensor_rows] + at], axis=-1)


def numbers(
    values: Sequence[Any], key: str, shape: tuple[int, ...], tokens: Sequence[str], path: Path
) -> NDArray[np.float64]:
    """Values of a table as (values, *shape) float64.

    Args:
        values: as read.
        key, tokens, path: of the values, their records and the table, for the error message.
        shape: of each value.

    Raises:
        UserError: one has another shape, or holds something else than finite numbers of an ordinary size.
    """
    if not len(values):
        return np.empty((0, *shape))
    array = _array(values)
    if array is not None and array.shape[1:] == shape:
        return array
    bad = next(row for row, value in enumerate(values) if (a := _array(value)) is None or a.shape != shape)
    size = " x ".join(map(str, shape))
    raise UserError(
        f"{path}: {key} of {shown(tokens[bad])} must be {size} finite numbers; unpack the metadata archive again"
    )


def _array(value: Any) -> NDArray[np.float64] | None:
    try:
        array = np.array(value)  # without a dtype: text that looks like a number stays text
    except ValueError:  # of different lengths
        return None
    if array.dtype.kind not in "iuf" or not (np.abs(array) <= _LARGEST).all():
        return None
    return array.astype(np.float64, copy=False)
