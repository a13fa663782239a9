"""nuScenes' tables, as nuscenes-devkit loads them -> one record per key frame (Caesar et al., CVPR 2020; nuScenes-
lidarseg: Fong et al., RA-L 2022), and what to say of tables that cannot be loaded."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from utils.errors import UserError

CAMERAS = ("CAM_FRONT", "CAM_FRONT_RIGHT", "CAM_BACK_RIGHT", "CAM_BACK", "CAM_BACK_LEFT", "CAM_FRONT_LEFT")
"""The six cameras, clockwise; a camera's number is its place here."""

LIDAR = "LIDAR_TOP"

TABLES = (
    "attribute", "calibrated_sensor", "category", "ego_pose", "instance", "log", "map", "sample", "sample_annotation",
    "sample_data", "scene", "sensor", "visibility",
)  # fmt: skip
"""The tables that every version has, and the devkit asks for."""

Record = dict[str, Any]


def key_frames(tables: Any) -> NDArray[np.void]:
    """One record per sample, sorted by scene name, then time.

    Args:
        tables: nuscenes-devkit's `NuScenes`.

    Returns:
        (samples,) structured, text in UTF-8: `scene`, its name; `token`, of the LIDAR_TOP sample_data; `lidar`,
        `lidarseg` (empty if there is none) and `images` (6,), files below data_path; `matrices` (6, 3, 4) float64,
        from (x, y, z, 1) in the lidar frame to (u, v, depth) in each of `CAMERAS`, depth in metres, u / depth and
        v / depth in pixels of the full image; `sizes` (6, 2) int32, width and height of the full images.

    Raises:
        UserError: a sample lacks a sensor, or a pose or calibration is no such thing.
        KeyError, TypeError, ValueError: the tables do not fit together.
    """
    scenes = {scene["token"]: scene["name"] for scene in tables.scene}
    samples = sorted(tables.sample, key=lambda sample: (scenes[sample["scene_token"]], sample["timestamp"]))
    lidarseg = {record["sample_data_token"]: record["filename"] for record in getattr(tables, "lidarseg", ())}
    measured = [[_sample_data(tables, sample, channel) for channel in (LIDAR, *CAMERAS)] for sample in samples]
    lidar, cameras = [row[0] for row in measured], [row[1:] for row in measured]
    columns = {
        "scene": _text([scenes[sample["scene_token"]] for sample in samples]),
        "token": _text([record["token"] for record in lidar]),
        "lidar": _text([record["filename"] for record in lidar]),
        "lidarseg": _text([lidarseg.get(record["token"], "") for record in lidar]),
        "images": _text([record["filename"] for row in cameras for record in row]).reshape(-1, len(CAMERAS)),
        "matrices": _lidar_to_pixels(tables, measured),
        "sizes": np.array([[(image["width"], image["height"]) for image in row] for row in cameras], dtype=np.int32),
    }
    records = np.empty(len(samples), dtype=[(name, a.dtype, a.shape[1:]) for name, a in columns.items()])
    for name, column in columns.items():
        records[name] = column
    return records


def category_names(tables: Any) -> dict[int, str]:
    """Raw label id -> category name; empty if the categories have no index."""
    if any("index" not in category for category in tables.category):
        return {}
    names = {int(category["index"]): str(category["name"]) for category in tables.category}
    if len(names) < len(tables.category):
        raise UserError(f"{tables.table_root}/category.json: two categories have one index; unpack lidarseg again")
    return names


def _sample_data(tables: Any, sample: Record, channel: str) -> Record:
    if channel not in sample["data"]:
        raise UserError(
            f"{tables.table_root}/sample_data.json: sample {sample['token']} has no key frame of {channel}; unpack the "
            "metadata archive again"
        )
    return tables.get("sample_data", sample["data"][channel])


def _text(values: Sequence[str]) -> NDArray[np.bytes_]:
    return np.array([value.encode() for value in values], dtype=np.bytes_)


def _lidar_to_pixels(tables: Any, measured: list[list[Record]]) -> NDArray[np.float64]:
    """(samples, 6, 3, 4): lidar -> ego (lidar time) -> global -> ego (camera time) -> camera -> pixels."""
    sensors = [[tables.get("calibrated_sensor", m["calibrated_sensor_token"]) for m in row] for row in measured]
    vehicles = [[tables.get("ego_pose", m["ego_pose_token"]) for m in row] for row in measured]
    sensor_turn, sensor_at = _poses(sensors, f"{tables.table_root}/calibrated_sensor.json")
    vehicle_turn, vehicle_at = _poses(vehicles, f"{tables.table_root}/ego_pose.json")
    to_camera = np.swapaxes(sensor_turn[:, 1:], -1, -2)
    to_later = np.swapaxes(vehicle_turn[:, 1:], -1, -2)
    turn = to_camera @ to_later @ vehicle_turn[:, :1] @ sensor_turn[:, :1]
    # The two vehicle positions are kilometres from the origin and metres apart: their difference comes first.
    moved = vehicle_turn[:, :1] @ sensor_at[:, :1] + (vehicle_at[:, :1] - vehicle_at[:, 1:])
    shift = to_camera @ (to_later @ moved - sensor_at[:, 1:])
    return _intrinsics(sensors, tables) @ np.concatenate([turn, shift], axis=-1)


def _poses(records: list[list[Record]], path: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Rotation matrices (samples, 7, 3, 3) and positions (samples, 7, 3, 1) of poses that send p to R p + t."""
    quaternions = _numbers(records, "rotation", (4,), path)
    lengths = np.linalg.norm(quaternions, axis=-1, keepdims=True)
    if not (lengths > 0).all():
        raise UserError(f"{path}: a rotation is zero; unpack the metadata archive again")
    w, x, y, z = np.moveaxis(quaternions / lengths, -1, 0)
    rotations = np.empty((*w.shape, 3, 3))
    rotations[..., 0, :] = np.stack([1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)], axis=-1)
    rotations[..., 1, :] = np.stack([2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)], axis=-1)
    rotations[..., 2, :] = np.stack([2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)], axis=-1)
    return rotations, _numbers(records, "translation", (3,), path)[..., None]


def _intrinsics(sensors: list[list[Record]], tables: Any) -> NDArray[np.float64]:
    """(samples, 6, 3, 3)."""
    cameras = [row[1:] for row in sensors]
    return _numbers(cameras, "camera_intrinsic", (3, 3), f"{tables.table_root}/calibrated_sensor.json")


def _numbers(records: list[list[Record]], key: str, shape: tuple[int, ...], path: str) -> NDArray[np.float64]:
    """The values of `key`, (samples, sensors, *shape), which must be finite."""
    try:
        values = np.array([[record[key] for record in row] for row in records], dtype=np.float64)
    except (TypeError, ValueError):  # of different lengths, or no numbers
        values = np.empty(0)
    if values.shape[2:] == shape and np.isfinite(values).all():
        return values
    token = next(record["token"] for row in records for record in row if not _is_good(record[key], shape))
    size = " x ".join(map(str, shape))
    raise UserError(f"{path}: {key} of {token} must be {size} finite numbers; unpack the metadata archive again")


def _is_good(value: Any, shape: tuple[int, ...]) -> bool:
    try:
        array = np.array(value, dtype=np.float64)
    except (TypeError, ValueError):
        return False
    return array.shape == shape and bool(np.isfinite(array).all())


def explain(root: Path, version: str, error: Exception) -> UserError:
    """Why the tables could not be loaded, looked for only now: the devkit gives a traceback that names no file."""
    folder = root / version
    if isinstance(error, MemoryError):
        return out_of_memory(folder)
    for path in sorted(folder.glob("*.json")):
        try:
            content = json.loads(path.read_bytes())
        except OSError as reason:
            return UserError(f"{path}: cannot read the table ({reason.strerror}); correct it or unpack it again")
        except (ValueError, RecursionError):
            return UserError(f"{path}: not valid JSON (damaged or truncated); unpack the archive it came in again")
        if path.stem in TABLES and not (isinstance(content, list) and all(isinstance(row, dict) for row in content)):
            return UserError(f"{path}: not a list of records; unpack the archive it came in again")
    if (folder / "lidarseg.json").exists():
        if any("index" not in category for category in json.loads((folder / "category.json").read_bytes())):
            return UserError(f"{folder / 'category.json'}: {without_index(version)}")
        labels = root / "lidarseg" / version
        if not labels.is_dir():
            return UserError(f"{labels}: no such folder, but there is {version}/lidarseg.json; {get_lidarseg(version)}")
    reason = f"{type(error).__name__}: {error}".splitlines()[0].rstrip(" :")
    return UserError(
        f"{folder}: nuscenes-devkit cannot load the tables ({reason}); unpack the archives of {version} again"
    )


def without_index(version: str) -> str:
    """What is wrong with the category.json of the base release."""
    return f"the categories have no index, as in the release without lidarseg; {get_lidarseg(version)}"


def get_lidarseg(version: str) -> str:
    """Where labels come from."""
    return f"get the nuScenes-lidarseg archive of {version} at nuscenes.org and unpack it into data_path"


def out_of_memory(folder: Path) -> UserError:
    return UserError(
        f"{folder}: reading the tables was stopped, probably for want of memory (v1.0-trainval takes about 8 GB); free "
        "some, or open the data set once on a larger machine: later starts need none"
    )
