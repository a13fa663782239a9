"""A tiny made-up nuScenes tree: random poses and calibrations, tables that nuscenes-devkit loads. Independent of the
demo data set, and of how the program reads tables."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import yaml

ROOT = Path(__file__).resolve().parents[2]
LABEL_MAPPING = ROOT / "config" / "label_mapping" / "nuscenes.yaml"
CHANNELS = (
    "LIDAR_TOP", "CAM_BACK", "CAM_BACK_LEFT", "CAM_BACK_RIGHT", "CAM_FRONT", "CAM_FRONT_LEFT", "CAM_FRONT_RIGHT",
)  # fmt: skip
AZIMUTHS: dict[str, float] = dict(zip(CHANNELS, (-90, 180, 110, -110, 0, 55, -55), strict=True))
IMAGE_SIZE = (160, 90)
POINTS = 600
MINI = {"scene-1077": 1, "scene-0061": 2, "scene-0103": 2, "scene-0916": 1}
"""Two scenes of mini_train, two of mini_val."""


def category_names() -> list[str]:
    """Returns the 32 categories in their usual order."""
    labels = yaml.safe_load(LABEL_MAPPING.read_text())["labels"]
    return [labels[raw] for raw in sorted(labels)]


def token(*words: object) -> str:
    """Makes a token that depends on `words` alone."""
    return hashlib.md5(repr(words).encode()).hexdigest()


def _quaternion(rng: np.random.Generator, yaw: float, tilt: float = 0.03) -> np.ndarray:
    """Returns (w, x, y, z) of a rotation about z by `yaw` (radians) and a small tilt about a random axis."""
    axis = rng.normal(size=3)
    axis *= np.sin(tilt / 2) / np.linalg.norm(axis)
    return _multiply(np.array([np.cos(tilt / 2), *axis]), np.array([np.cos(yaw / 2), 0, 0, np.sin(yaw / 2)]))


def _multiply(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    scalar = a[0] * b[0] - a[1:] @ b[1:]
    return np.array([scalar, *(a[0] * b[1:] + b[0] * a[1:] + np.cross(a[1:], b[1:]))])


class TreeWriter:
    """Collects tables and writes them, with the files they name.

    Args:
        root: data_path.
        version: folder of the tables.
        categories: name by raw id; None: categories without an index, and no labels, as in the base release.
        seed: the seed of all random numbers.
        sweeps: LiDAR sweeps between two key frames, with a calibration of their own, linked with them; at most 4.
    """

    def __init__(
        self, root: Path, version: str, categories: Sequence[str] | None, seed: int = 0, sweeps: int = 0
    ) -> None:
        self.root, self.version, self.categories, self.sweeps = root, version, categories, sweeps
        self.rng = np.random.default_rng(seed)
        names = ["attribute", "calibrated_sensor", "category", "ego_pose", "instance", "log", "map", "sample"]
        names += ["sample_annotation", "sample_data", "scene", "sensor", "visibility"]
        self.tables: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
        if categories is not None:
            self.tables["lidarseg"] = []
        for raw, name in enumerate(categories or category_names()):
            index = {} if categories is None else {"index": raw}
            self.add("category", token("category", name), name=name, description="", **index)
        for channel in CHANNELS:
            modality = "lidar" if channel == "LIDAR_TOP" else "camera"
            self.add("sensor", token(channel), channel=channel, modality=modality)

    def add(self, table: str, key: str, **values: Any) -> str:
        """Adds a record to a table and returns its token."""
        self.tables[table].append({"token": key, **values})
        return key

    def scene(self, name: str, samples: int) -> None:
        """Adds a scene with its log, map, calibrations and samples."""
        log = self.add("log", token("log", name), logfile="n000", vehicle="n000", date_captured="", location="x")
        image = f"maps/{token('map', name)}.png"
        (self.root / "maps").mkdir(parents=True, exist_ok=True)
        PIL.Image.new("L", (8, 8)).save(self.root / image)
        self.add("map", token("map", name), category="semantic_prior", filename=image, log_tokens=[log])
        keys = [token("sample", name, number) for number in range(samples)]
        self.add(
            "scene", token("scene", name), name=name, description="", log_token=log, nbr_samples=samples,
            first_sample_token=keys[0], last_sample_token=keys[-1],
        )  # fmt: skip
        calibrations = {channel: self._calibration(name, channel) for channel in CHANNELS}
        at = np.array([*self.rng.uniform(500, 2000, 2), 0.0])
        for number, key in enumerate(keys):
            before, after = (keys[number - 1] if number else ""), (keys[number + 1] if number + 1 < samples else "")
            time = 1532402927000000 + number * 500000
            self.add("sample", key, timestamp=time, prev=before, next=after, scene_token=token("scene", name))
            for channel in CHANNELS:
                self._measurement(name, key, channel, time, calibrations[channel], at)
            if self.sweeps and after:
                self._between(name, keys[number + 1], time, at)
            at = at + np.array([4.0, 1.5, 0.02])
        self._measurement(name, keys[-1], "LIDAR_TOP", time + 50000, calibrations["LIDAR_TOP"], at, key_frame=False)
        if self.sweeps:
            self._link(name)

    def _between(self, name: str, sample: str, time: int, at: np.ndarray) -> None:
        """Adds the sweeps after a key frame; they belong to the sample that follows."""
        own = self._calibration(name, "LIDAR_TOP", sample)
        for number in range(1, self.sweeps + 1):
            share = number / (self.sweeps + 1)
            moved = at + share * np.array([4.0, 1.5, 0.02])
            self._measurement(name, sample, "LIDAR_TOP", time + int(share * 500000), own, moved, key_frame=False)

    def _link(self, name: str) -> None:
        """Links the LiDAR's measurements of a scene."""
        ours = [data for data in self.tables["sample_data"] if f"/LIDAR_TOP/{name}__" in data["filename"]]
        ours.sort(key=lambda data: data["timestamp"])
        for before, after in itertools.pairwise(ours):
            before["next"], after["prev"] = after["token"], before["token"]

    def _calibration(self, scene: str, channel: str, *words: str) -> str:
        yaw = np.deg2rad(AZIMUTHS[channel])
        if channel == "LIDAR_TOP":
            rotation, intrinsic = _quaternion(self.rng, yaw), []
        else:
            # From z forward, x right, y down to x forward, y left, z up; then turned to where the camera looks.
            rotation = _multiply(_quaternion(self.rng, yaw), np.array([0.5, -0.5, 0.5, -0.5]))
            focal = self.rng.uniform(100, 130)
            width, height = IMAGE_SIZE
            intrinsic = [[focal, 0.0, width / 2 + 1.5], [0.0, focal, height / 2 - 2.5], [0.0, 0.0, 1.0]]
        return self.add(
            "calibrated_sensor", token("calibration", scene, channel, *words), sensor_token=token(channel),
            translation=self.rng.uniform(-1, 2, 3).tolist(), rotation=rotation.tolist(), camera_intrinsic=intrinsic,
        )  # fmt: skip

    def _measurement(
        self, scene: str, sample: str, channel: str, time: int, calibration: str, at: np.ndarray, key_frame: bool = True
    ) -> None:
        time += int(self.rng.integers(-40000, 40000))
        key = token("data", scene, channel, time)
        # The vehicle moves by up to a metre and turns between the lidar's time and a camera's.
        pose = self.add(
            "ego_pose", key, timestamp=time, translation=(at + self.rng.uniform(-1, 1, 3) * [1, 1, 0.1]).tolist(),
            rotation=_quaternion(self.rng, 2.0 + self.rng.uniform(-0.1, 0.1)).tolist(),
        )  # fmt: skip
        lidar = channel == "LIDAR_TOP"
        suffix, size = (".pcd.bin", (0, 0)) if lidar else (".jpg", IMAGE_SIZE)
        name = f"{'samples' if key_frame else 'sweeps'}/{channel}/{scene}__{channel}__{time}{suffix}"
        self.add(
            "sample_data", key, sample_token=sample, ego_pose_token=pose, calibrated_sensor_token=calibration,
            filename=name, fileformat=suffix[-3:], width=size[0], height=size[1], timestamp=time,
            is_key_frame=key_frame, prev="", next="",
        )  # fmt: skip
        if key_frame or self.sweeps:
            (self.root / name).parent.mkdir(parents=True, exist_ok=True)
            self._scan(name, key, key_frame) if lidar else self._image(name)

    def _scan(self, name: str, key: str, key_frame: bool) -> None:
        points = np.empty((POINTS, 5), dtype=np.float32)
        points[:, :3] = self.rng.uniform([-30, -30, -3], [30, 30, 4], (POINTS, 3))
        points[:, 3] = self.rng.integers(0, 256, POINTS)
        points[:, 4] = self.rng.integers(0, 32, POINTS)
        if self.sweeps:  # some of the own car
            points[:40, :2] = self.rng.uniform(-1.4, 1.4, (40, 2))
        points.tofile(self.root / name)
        if key_frame and self.categories is not None and self.version != "v1.0-test":
            file = f"lidarseg/{self.version}/{key}_lidarseg.bin"
            self.add("lidarseg", key, filename=file, sample_data_token=key)
            (self.root / file).parent.mkdir(parents=True, exist_ok=True)
            self.rng.integers(0, len(self.categories), POINTS).astype(np.uint8).tofile(self.root / file)

    def _image(self, name: str) -> None:
        small = self.rng.integers(0, 256, (9, 16, 3)).astype(np.uint8)
        PIL.Image.fromarray(small).resize(IMAGE_SIZE, PIL.Image.Resampling.BICUBIC).save(self.root / name, quality=95)

    def write(self) -> None:
        """Writes the tables, with their records in random order."""
        folder = self.root / self.version
        folder.mkdir(parents=True, exist_ok=True)
        if self.categories is not None:
            (self.root / "lidarseg" / self.version).mkdir(parents=True, exist_ok=True)
        for name, records in self.tables.items():
            order = self.rng.permutation(len(records))
            (folder / f"{name}.json").write_text(json.dumps([records[i] for i in order]))


def write_tree(
    root: Path,
    version: str = "v1.0-mini",
    scenes: Mapping[str, int] = MINI,
    categories: Sequence[str] | None = (),
    seed: int = 0,
    sweeps: int = 0,
) -> Path:
    """Writes a nuScenes tree.

    Args:
        root: data_path.
        version: folder of the tables.
        scenes: name -> number of samples.
        categories: name by raw id; () for the usual order; None for a tree without lidarseg.
        seed: the seed of all random numbers.
        sweeps: LiDAR sweeps between two key frames; at most 4.

    Returns:
        `root`.
    """
    writer = TreeWriter(root, version, category_names() if categories == () else categories, seed, sweeps)
    for name, samples in scenes.items():
        writer.scene(name, samples)
    writer.write()
    return root


def read_table(root: Path, name: str, version: str = "v1.0-mini") -> list[dict[str, Any]]:
    """Reads the records of a table."""
    return json.loads((root / version / f"{name}.json").read_text())


def write_table(root: Path, name: str, records: Any, version: str = "v1.0-mini") -> None:
    """Writes the records of a table."""
    (root / version / f"{name}.json").write_text(json.dumps(records))


class Tables:
    """The tables of a tree, by token."""

    def __init__(self, root: Path, version: str = "v1.0-mini") -> None:
        self.root, self.version = root, version
        self._read: dict[str, dict[str, dict[str, Any]]] = {}

    def _by_token(self, table: str) -> dict[str, dict[str, Any]]:
        if table not in self._read:
            self._read[table] = {record["token"]: record for record in read_table(self.root, table, self.version)}
        return self._read[table]

    def rows(self, table: str) -> list[dict[str, Any]]:
        """Lists the records of a table."""
        return list(self._by_token(table).values())

    def get(self, table: str, key: str) -> dict[str, Any]:
        """Returns the record of a table with the token `key`."""
        return self._by_token(table)[key]

    def channel(self, data: dict[str, Any]) -> str:
        """Returns the sensor channel of a record of sample_data."""
        calibration = self.get("calibrated_sensor", data["calibrated_sensor_token"])
        return self.get("sensor", calibration["sensor_token"])["channel"]

    def key_frame(self, sample: str, channel: str) -> dict[str, Any]:
        """Finds the key frame of a sample and a sensor in sample_data."""
        of_sample = (d for d in self.rows("sample_data") if d["sample_token"] == sample and d["is_key_frame"])
        return next(data for data in of_sample if self.channel(data) == channel)
