"""nuScenes' tables -> one record per key frame (Caesar et al., CVPR 2020; nuScenes-lidarseg: Fong et al., RA-L 2022).

scene.json, sample.json, sample_data.json, sensor.json, calibrated_sensor.json     which scans there are
ego_pose.json                                                                      where the cameras see them
category.json, lidarseg.json                                                       their labels
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dataloader.datasets.nuscenes.poses import Poses, lidar_to_pixels, numbers
from dataloader.formats.json_records import Fields, Record, read_records
from utils.errors import UserError
from utils.names import checked_name, checked_path, shown

CAMERAS = ("CAM_FRONT", "CAM_FRONT_RIGHT", "CAM_BACK_RIGHT", "CAM_BACK", "CAM_BACK_LEFT", "CAM_FRONT_LEFT")
"""The six cameras, clockwise; a camera's number is its place here."""

LIDAR = "LIDAR_TOP"

TABLES = ("calibrated_sensor", "sample", "sample_data", "scene", "sensor")
"""The tables without which there are no scans."""

_CHANNELS = (LIDAR, *CAMERAS)
_LARGEST_IMAGE = 65535  # pixels along a side


class _KeyFrame(NamedTuple):
    """A record of sample_data that belongs to a sample; `sensor` is the row of its calibration."""

    token: str
    filename: str
    sensor: int
    ego_pose_token: str
    size: tuple[int, int]


SAMPLE_DATA = {
    "token": str,
    "sample_token": str,
    "calibrated_sensor_token": str,
    "ego_pose_token": str,
    "filename": str,
    "is_key_frame": bool,
}
"""Keys of a record of sample_data that are read, with their types."""

_Rows = list[list["_KeyFrame | None"]]
"""The key frames of every sample, of each of `_CHANNELS`; None where the tables have none."""


class Sensors(NamedTuple):
    """The calibrations of `_CHANNELS`: poses, (rows, 3, 3) intrinsics (0 for the LiDAR), and the channel of each."""

    poses: Poses
    intrinsics: NDArray[np.float64]
    channels: list[int]

    def is_lidar(self, row: int) -> bool:
        """Returns whether a calibration is one of the LiDAR."""
        return _CHANNELS[self.channels[row]] == LIDAR


def key_frames(folder: Path) -> NDArray[np.void]:
    """Reads one record per sample, sorted by scene name, then time.

    Args:
        folder: <data_path>/<version>, with the tables.

    Returns:
        (samples,) structured, text in ASCII: `scene`, its name; `token`, of the LIDAR_TOP sample_data; `lidar`,
        `lidarseg` (empty if there is none) and `images` (6,) (empty where the tables lack a camera, its calibration or
        its pose), files below data_path; `matrices` (6, 3, 4) float64, from (x, y, z, 1) in the lidar frame to
        (u, v, depth) in each of `CAMERAS`, depth in metres, u / depth and v / depth in pixels of the full image, NaN
        without an image; `sizes` (6, 2) int32, width and height of the full images.

    Raises:
        UserError: a table is damaged, tables do not fit together, a sample has no scan, a pose or calibration is no
            such thing, or a name would lead out of its folder.
    """
    samples = read_samples(folder)
    order = sorted(samples, key=samples.__getitem__)
    sensors = read_sensors(folder)
    measured = _measured(folder, order, sensors)
    lidar = [row[0].token for row in measured if row[0] is not None]
    if len(set(lidar)) < len(lidar):
        raise UserError(f"{folder / 'sample_data.json'}: two key frames have one token; unpack the metadata again")
    lidarseg = _lidarseg(folder, set(lidar))
    matrices = _matrices(folder, measured, sensors)
    seen = np.isfinite(matrices[:, :, 0, 0]).ravel()
    in_turn = (camera for row in measured for camera in row[1:])
    cameras = [camera if there else None for camera, there in zip(in_turn, seen, strict=True)]
    columns = {
        "scene": ascii_text(samples[token][0] for token in order),
        "token": ascii_text(lidar),
        "lidar": ascii_text(row[0].filename for row in measured if row[0] is not None),
        "lidarseg": ascii_text(lidarseg.get(token, "") for token in lidar),
        "images": ascii_text(m.filename if m else "" for m in cameras).reshape(-1, len(CAMERAS)),
        "matrices": matrices,
        "sizes": np.array([m.size if m else (0, 0) for m in cameras], dtype=np.int32).reshape(-1, len(CAMERAS), 2),
    }
    records = np.empty(len(order), dtype=[(name, a.dtype, a.shape[1:]) for name, a in columns.items()])
    for name, column in columns.items():
        records[name] = column
    return records


def category_names(folder: Path) -> dict[int, str]:
    """Reads raw label id -> category name; empty if there are no categories, or they have no index.

    Raises:
        UserError: the table is damaged.
    """
    path = folder / "category.json"
    categories = list(read_records(path)) if path.is_file() else []
    if any("index" not in category for category in categories):
        return {}
    names = dict(map(Fields(path, index=int, name=str), categories))
    if len(names) < len(categories):
        raise UserError(f"{path}: two categories have one index; unpack lidarseg again")
    return names


def read_samples(folder: Path) -> dict[str, tuple[str, int]]:
    """Reads token -> (scene name, timestamp)."""
    path, scenes = folder / "scene.json", {}
    for token, name in map(Fields(path, token=str, name=str), read_records(path)):
        scenes[token] = checked_name(name, "scene name", path)
    path, samples = folder / "sample.json", {}
    for token, scene, time in map(Fields(path, token=str, scene_token=str, timestamp=int), read_records(path)):
        if scene not in scenes:
            raise _not_there(path, "scene_token", scene, token, "scene.json")
        samples[token] = scenes[scene], time
    return samples


def read_sensors(folder: Path) -> Sensors:
    """Reads the calibrations of the LiDAR and the cameras."""
    path = folder / "sensor.json"
    names = dict(map(Fields(path, token=str, channel=str), read_records(path)))
    path = folder / "calibrated_sensor.json"
    tokens, records, channels = [], [], []
    fields = Fields(path, token=str, sensor_token=str)
    for record in read_records(path):
        token, sensor = fields(record)
        if names.get(sensor) in _CHANNELS:
            tokens.append(token)
            records.append(record)
            channels.append(_CHANNELS.index(names[sensor]))
    rotations, translations = ([record.get(key) for record in records] for key in ("rotation", "translation"))
    poses = Poses.of(tokens, rotations, translations, path)
    cameras = [row for row, channel in enumerate(channels) if _CHANNELS[channel] != LIDAR]
    found = [records[row].get("camera_intrinsic") for row in cameras]
    intrinsics = np.zeros((len(tokens), 3, 3))
    intrinsics[cameras] = numbers(found, "camera_intrinsic", (3, 3), [tokens[row] for row in cameras], path)
    return Sensors(poses, intrinsics, channels)


def _measured(folder: Path, order: list[str], sensors: Sensors) -> _Rows:
    """Reads the key frames of the samples `order`."""
    path = folder / "sample_data.json"
    rows: dict[str, list[_KeyFrame | None]] = {token: [None] * len(_CHANNELS) for token in order}
    fields, of_image = Fields(path, **SAMPLE_DATA), Fields(path, width=int, height=int)
    for record in read_records(path):
        if record.get("is_key_frame") is False:
            continue
        token, sample, sensor, pose, filename, _ = fields(record)
        row = sensors.poses.rows.get(sensor)
        if row is None:
            continue  # a radar, or a camera that was left out
        if sample not in rows:
            raise _not_there(path, "sample_token", sample, token, "sample.json")
        checked_name(token, "token", path)
        checked_path(filename, "filename", path)
        channel = sensors.channels[row]
        size = _size(record, of_image, path) if _CHANNELS[channel] != LIDAR else (0, 0)
        rows[sample][channel] = _KeyFrame(token, filename, row, pose, size)
    for token, row in rows.items():
        if row[0] is None:
            raise UserError(
                f"{path}: sample {shown(token)} has no key frame of {LIDAR}; unpack the metadata archive again"
            )
    return list(rows.values())


def _size(record: Record, fields: Fields, path: Path) -> tuple[int, int]:
    width, height = fields(record)
    if not (0 < width <= _LARGEST_IMAGE and 0 < height <= _LARGEST_IMAGE):
        raise UserError(
            f"{path}: the image {shown(record['filename'])} must have 1 to {_LARGEST_IMAGE} pixels a side, not "
            f"{shown(width)} x {shown(height)}; unpack the metadata archive again"
        )
    return width, height


def _lidarseg(folder: Path, scans: Container[str]) -> dict[str, str]:
    """Reads token of a scan -> file of its labels for those of `scans` that have any."""
    path = folder / "lidarseg.json"
    if not path.is_file():
        return {}
    files = map(Fields(path, sample_data_token=str, filename=str), read_records(path))
    return {scan: checked_path(filename, "filename", path) for scan, filename in files if scan in scans}


def _matrices(folder: Path, measured: _Rows, sensors: Sensors) -> NDArray[np.float64]:
    vehicles = vehicle_poses(folder, {m.ego_pose_token for row in measured for m in row if m is not None})
    sensor_rows = np.array([[m.sensor if m else -1 for m in row] for row in measured])
    vehicle_rows = np.array([[vehicles.rows.get(m.ego_pose_token, -1) if m else -1 for m in row] for row in measured])
    return lidar_to_pixels(sensors.poses, sensors.intrinsics, vehicles, sensor_rows, vehicle_rows)


def vehicle_poses(folder: Path, wanted: Container[str]) -> Poses:
    """Reads those of the `wanted` ego poses (by token) that the tables have; none without ego_pose.json."""
    path = folder / "ego_pose.json"
    poses = map(Fields(path, token=str, rotation=list, translation=list), read_records(path) if path.is_file() else ())
    tokens, rotations, translations = [], [], []
    for token, rotation, translation in poses:
        if token in wanted:
            tokens.append(token)
            rotations.append(rotation)
            translations.append(translation)
    return Poses.of(tokens, rotations, translations, path)


def ascii_text(values: Iterable[str]) -> NDArray[np.bytes_]:
    """Makes a column of text, as wide as the longest."""
    return np.array([value.encode("ascii") for value in values], dtype=np.bytes_)


def _not_there(path: Path, key: str, value: str, token: str, other: str) -> UserError:
    return UserError(f"{path}: {key} {shown(value)} of {shown(token)} is not in {other}; unpack both again")


def without_index(version: str) -> str:
    """Explains what is wrong with the category.json of the base release."""
    return f"the categories have no index, as in the release without lidarseg; {get_lidarseg(version)}"


def get_lidarseg(version: str) -> str:
    """Explains where labels come from."""
    return f"get the nuScenes-lidarseg archive of {version} at nuscenes.org and unpack it into data_path"
