"""The relational tables of a nuScenes version (schema of the nuscenes-devkit), as lists of records."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dataloader.datasets.nuscenes.splits import scenes_of
from tools.demo_world.geometry.poses import quaternion, turn
from tools.demo_world.nuscenes_labels import ATTRIBUTES, CATEGORIES, NAMES, attribute
from tools.demo_world.nuscenes_rig import LIDAR, SENSORS, Drive, Sensor, intrinsics
from tools.demo_world.street.objects import Kind

Record = dict[str, Any]
Tables = dict[str, list[Record]]

LOCATION = "boston-seaport"  # where traffic keeps right, as in our streets


@dataclass(frozen=True)
class Box:
    """An object that the LiDAR hit.

    Attributes:
        instance: its id in the drive. kind: its kind. moving: whether it moves.
        centre: metres, street frame. size: width, length, height. yaw: radians, street frame.
        points: number of points of the sweep on it.
    """

    instance: int
    kind: Kind
    moving: bool
    centre: tuple[float, float, float]
    size: tuple[float, float, float]
    yaw: float
    points: int


def token(*words: object) -> str:
    """Makes 32 hexadecimal digits that depend on `words` alone."""
    return hashlib.md5("/".join(map(str, words)).encode("ascii"), usedforsecurity=False).hexdigest()


def data_token(drive: Drive, sample: int, sensor: Sensor = LIDAR, sweep: int = 0) -> str:
    """Returns the token of a measurement, which its ego pose and its labels share."""
    return token(drive.seed, drive.name, sample, sensor.channel, *filter(None, [sweep]))


def map_name(seed: int) -> str:
    """Returns the name of the map's file, below the data set's folder."""
    return f"maps/{token(seed, 'map')}.png"


def data_name(drive: Drive, sample: int, sensor: Sensor, sweep: int = 0) -> str:
    """Returns the name of a measurement's file, below the data set's folder."""
    kind = "jpg" if sensor.field_of_view else "pcd.bin"
    stamp = drive.timestamp(sample, sensor, sweep)
    return f"{'sweeps' if sweep else 'samples'}/{sensor.channel}/{drive.log}__{sensor.channel}__{stamp}.{kind}"


def label_name(drive: Drive, sample: int) -> str:
    """Returns the name of a label file, below the data set's folder."""
    return f"lidarseg/v1.0-mini/{data_token(drive, sample)}_lidarseg.bin"


def tables(
    drives: Sequence[Drive], boxes: dict[tuple[int, int], list[Box]], image_size: tuple[int, int], labelled: bool
) -> Tables:
    """Makes all tables of a version.

    Args:
        drives: its scenes, at least one.
        boxes: the objects that the LiDAR hit, by drive (`order`) and sample.
        image_size: width and height of the pictures.
        labelled: whether there are labels and annotations; False for the test version.
    """
    seed = drives[0].seed
    found = _vocabulary(seed)
    found["map"] = [
        {
            "category": "semantic_prior",
            "token": token(seed, "map"),
            "filename": map_name(seed),
            "log_tokens": [token(seed, drive.name, "log") for drive in drives],
        }
    ]
    for name in ("log", "scene", "sample", "calibrated_sensor", "ego_pose", "sample_data", "lidarseg"):
        found[name] = []
    found["instance"], found["sample_annotation"] = [], []
    for drive in drives:
        _add_drive(found, drive)
        for sensor in SENSORS:
            _add_sensor(found, drive, sensor, image_size)
        if labelled:
            _add_annotations(found, drive, [boxes[drive.order, sample] for sample in range(drive.samples)])
            found["lidarseg"] += [_labels(drive, sample) for sample in range(drive.samples)]
    if not labelled:
        found["scene"] += _scenes_not_made(drives)
    return found


def _vocabulary(seed: int) -> Tables:
    levels = ("v0-40", "v40-60", "v60-80", "v80-100")
    return {
        "category": [
            {"token": token(seed, "category", name), "name": name, "description": "", "index": index}
            for name, index in CATEGORIES.items()
        ],
        "attribute": [
            {"token": token(seed, "attribute", name), "name": name, "description": ""} for name in ATTRIBUTES
        ],
        "visibility": [
            {"token": str(number), "level": level, "description": ""} for number, level in enumerate(levels, start=1)
        ],
        "sensor": [
            {
                "token": token(seed, "sensor", sensor.channel),
                "channel": sensor.channel,
                "modality": "camera" if sensor.field_of_view else "lidar",
            }
            for sensor in SENSORS
        ],
    }


def _linked(tokens: Sequence[str], number: int) -> Record:
    """Returns a record's own token, and the tokens of the records before and after it."""
    before = tokens[number - 1] if number else ""
    after = tokens[number + 1] if number + 1 < len(tokens) else ""
    return {"token": tokens[number], "prev": before, "next": after}


def _sample_tokens(drive: Drive) -> list[str]:
    return [token(drive.seed, drive.name, sample, "sample") for sample in range(drive.samples)]


def _add_drive(found: Tables, drive: Drive) -> None:
    """Adds the log, scene and samples of a drive."""
    log, scene = token(drive.seed, drive.name, "log"), token(drive.seed, drive.name)
    samples = _sample_tokens(drive)
    day = f"{drive.start:%Y-%m-%d}"
    found["log"].append(
        {"token": log, "logfile": drive.log, "vehicle": "n008", "date_captured": day, "location": LOCATION}
    )
    found["scene"].append(
        {
            "token": scene,
            "log_token": log,
            "nbr_samples": len(samples),
            "first_sample_token": samples[0],
            "last_sample_token": samples[-1],
            "name": drive.name,
            "description": "A made-up street",
        }
    )
    found["sample"] += [
        {**_linked(samples, number), "timestamp": drive.timestamp(number), "scene_token": scene}
        for number in range(drive.samples)
    ]


def _add_sensor(found: Tables, drive: Drive, sensor: Sensor, image_size: tuple[int, int]) -> None:
    """Adds a sensor's calibration, the ego poses at its measurements, and the measurements."""
    mount, camera = drive.mount(sensor), sensor.field_of_view > 0
    calibrated = token(drive.seed, drive.name, "calibrated_sensor", sensor.channel)
    found["calibrated_sensor"].append(
        {
            "token": calibrated,
            "sensor_token": token(drive.seed, "sensor", sensor.channel),
            "translation": mount[:3, 3].tolist(),
            "rotation": quaternion(mount[:3, :3]),
            "camera_intrinsic": intrinsics(sensor, image_size).tolist() if camera else [],
        }
    )
    moments = drive.moments(sensor)
    tokens = [data_token(drive, sample, sensor, sweep) for sample, sweep in moments]
    samples = _sample_tokens(drive)
    width, height = image_size if camera else (0, 0)
    for number, (sample, sweep) in enumerate(moments):
        pose = drive.city @ drive.ego(drive.time(sample, sensor, sweep))
        moment = {"timestamp": drive.timestamp(sample, sensor, sweep)}
        place = {"rotation": quaternion(pose[:3, :3]), "translation": pose[:3, 3].tolist()}
        found["ego_pose"].append({"token": tokens[number], **moment, **place})
        found["sample_data"].append(
            {
                **_linked(tokens, number),
                **moment,
                "sample_token": samples[sample + (sweep > 0)],  # of the sample that follows
                "ego_pose_token": tokens[number],
                "calibrated_sensor_token": calibrated,
                "fileformat": "jpg" if camera else "pcd",
                "is_key_frame": sweep == 0,
                "width": width,
                "height": height,
                "filename": data_name(drive, sample, sensor, sweep),
            }
        )


def _labels(drive: Drive, sample: int) -> Record:
    own = data_token(drive, sample)
    return {"token": own, "sample_data_token": own, "filename": label_name(drive, sample)}


def _add_annotations(found: Tables, drive: Drive, boxes: Sequence[list[Box]]) -> None:
    """Adds the instances of a drive, and their boxes in each of its samples."""
    seen: dict[int, list[tuple[int, Box]]] = {}
    for sample, hit in enumerate(boxes):
        for box in hit:
            seen.setdefault(box.instance, []).append((sample, box))
    samples = _sample_tokens(drive)
    for number, moments in sorted(seen.items()):
        own = token(drive.seed, drive.name, "instance", number)
        tokens = [token(own, sample) for sample, _ in moments]
        category = NAMES[moments[0][1].kind][0]
        found["instance"].append(
            {
                "token": own,
                "category_token": token(drive.seed, "category", category),
                "nbr_annotations": len(tokens),
                "first_annotation_token": tokens[0],
                "last_annotation_token": tokens[-1],
            }
        )
        found["sample_annotation"] += [
            {
                **_linked(tokens, place),
                "sample_token": samples[sample],
                "instance_token": own,
                "visibility_token": "",  # the schema's word for: not annotated
                "attribute_tokens": [token(drive.seed, "attribute", attribute(box.kind, box.moving))],
                **_placed(drive, box),
                "num_lidar_pts": box.points,
                "num_radar_pts": 0,
            }
            for place, (sample, box) in enumerate(moments)
        ]


def _placed(drive: Drive, box: Box) -> Record:
    centre = drive.city @ np.array([*box.centre, 1.0])
    rotation = drive.city[:3, :3] @ turn(0, 0, box.yaw)
    return {"translation": centre[:3].tolist(), "size": list(box.size), "rotation": quaternion(rotation)}


def _scenes_not_made(drives: Sequence[Drive]) -> list[Record]:
    """Yields records without samples for the other test scenes: the devkit's validator wants to know all scenes of the
    split."""
    made = {drive.name for drive in drives}
    return [
        {
            "token": token(drives[0].seed, name),
            "log_token": token(drives[0].seed, drives[0].name, "log"),
            "nbr_samples": 0,
            "first_sample_token": "",
            "last_sample_token": "",
            "name": name,
            "description": "Not made",
        }
        for name in scenes_of("test")
        if name not in made
    ]
