"""nuScenes' tables -> one record per LiDAR sweep, key frames and the sweeps between them, linked to the one before.

sample.json, scene.json, sample_data.json, sensor.json, calibrated_sensor.json, ego_pose.json
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dataloader.datasets.nuscenes.poses import lidar_to_global
from dataloader.datasets.nuscenes.tables import (
    SAMPLE_DATA,
    Sensors,
    ascii_text,
    read_samples,
    read_sensors,
    vehicle_poses,
)
from dataloader.formats.json_records import Fields, read_records
from utils.errors import UserError
from utils.names import checked_path, shown

NONE, CUT = -1, -2
"""In `previous`: the sweep is the first of its scene, or the tables name one that is no earlier sweep of its scene."""

_LATEST = 1 << 62  # microseconds

_SAMPLE_DATA = {**SAMPLE_DATA, "timestamp": int, "prev": str}


class _Sweep(NamedTuple):
    """A record of sample_data of the LiDAR; `sample` is empty unless it is a key frame, `sensor` its calibration."""

    scene: str
    time: int
    token: str
    filename: str
    sample: str
    sensor: int
    ego_pose_token: str
    previous: str


def lidar_sweeps(folder: Path) -> NDArray[np.void]:
    """Reads one record per LIDAR_TOP sweep that has a pose, sorted by scene name, then time.

    Args:
        folder: <data_path>/<version>, with the tables.

    Returns:
        (sweeps,) structured: `lidar`, the file below data_path, ASCII; `time` in microseconds; `pose` (3, 4) float64,
        from the lidar frame to the global one, metres; `frame`, the row of the key frame in what `tables.key_frames`
        gives, -1 for other sweeps; `previous`, the row of the sweep before it, which is an earlier one of the same
        scene, or `NONE` or `CUT`.

    Raises:
        UserError: a table is damaged, a pose or calibration is no such thing, or a name would lead out of its folder.
    """
    samples = read_samples(folder)
    sensors = read_sensors(folder)
    found = _lidar_data(folder, samples, sensors)
    vehicles = vehicle_poses(folder, {sweep.ego_pose_token for sweep in found})
    found = sorted(sweep for sweep in found if sweep.ego_pose_token in vehicles.rows)
    rows = {sweep.token: row for row, sweep in enumerate(found)}
    if len(rows) < len(found):
        raise UserError(f"{folder / 'sample_data.json'}: two sweeps have one token; unpack the metadata again")
    frames = {sample: row for row, sample in enumerate(sorted(samples, key=samples.__getitem__))}
    columns = {
        "lidar": ascii_text(sweep.filename for sweep in found),
        "time": np.array([sweep.time for sweep in found], dtype=np.int64),
        "pose": lidar_to_global(
            sensors.poses,
            vehicles,
            np.array([sweep.sensor for sweep in found], dtype=np.int64),
            np.array([vehicles.rows[sweep.ego_pose_token] for sweep in found], dtype=np.int64),
        ),
        "frame": np.array([frames[sweep.sample] if sweep.sample else -1 for sweep in found], dtype=np.int32),
        "previous": np.array([_row_before(sweep, found, rows) for sweep in found], dtype=np.int32),
    }
    records = np.empty(len(found), dtype=[(name, a.dtype, a.shape[1:]) for name, a in columns.items()])
    for name, column in columns.items():
        records[name] = column
    return records


def _lidar_data(folder: Path, samples: Mapping[str, tuple[str, int]], sensors: Sensors) -> list[_Sweep]:
    """Reads the records of the LiDAR that belong to a sample."""
    path = folder / "sample_data.json"
    ours = {token: row for token, row in sensors.poses.rows.items() if sensors.is_lidar(row)}
    fields, found = Fields(path, **_SAMPLE_DATA), []
    for record in read_records(path):
        if record.get("calibrated_sensor_token") not in ours:
            continue
        token, sample, sensor, pose, filename, is_key_frame, time, previous = fields(record)
        if sample not in samples:
            continue  # of a scene that was left out
        if not 0 <= time < _LATEST:
            raise UserError(
                f"{path}: timestamp of {shown(token)} must be microseconds from 0 on, not {shown(time)}; unpack the "
                "metadata archive again"
            )
        checked_path(filename, "filename", path)
        key = sample if is_key_frame else ""
        found.append(_Sweep(samples[sample][0], time, token, filename, key, ours[sensor], pose, previous))
    return found


def _row_before(sweep: _Sweep, found: list[_Sweep], rows: Mapping[str, int]) -> int:
    """Finds the row of the sweep before a sweep; times that increase along a chain leave no room for a cycle."""
    if not sweep.previous:
        return NONE
    row = rows.get(sweep.previous, CUT)
    return row if row >= 0 and (found[row].scene, found[row].time < sweep.time) == (sweep.scene, True) else CUT
