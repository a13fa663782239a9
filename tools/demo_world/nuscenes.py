"""Writes what the sensors see on short drives as a nuScenes tree (lidarseg labels; LiDAR sweeps between key frames).

<output>/v1.0-mini/*.json    tables: 8 scenes of mini_train, 2 of mini_val
         v1.0-test/*.json    2 scenes of the test split, without labels
         samples/LIDAR_TOP/*.pcd.bin   float32 x, y, z (m; x right, y forward), intensity 0..255, ring 0 (lowest) up
                 CAM_*/*.jpg           six cameras
         sweeps/LIDAR_TOP/*.pcd.bin    the sweeps between two key frames; they have no labels
         lidarseg/v1.0-mini/<LIDAR_TOP token>_lidarseg.bin   uint8 index of the category
         maps/*.png          where the drives lead, 0.1 m a pixel
         demo_world.json     the options it was made with
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from tools.demo_world import manifest
from tools.demo_world.geometry import raycast
from tools.demo_world.geometry.ground import BANDS
from tools.demo_world.geometry.raycast import Scene
from tools.demo_world.nuscenes_labels import BENCHMARK_CLASSES, class_names, raw_ids
from tools.demo_world.nuscenes_rig import CAMERAS, LIDAR, SENSORS, Drive, Sensor, drives, intrinsics
from tools.demo_world.nuscenes_tables import Box, data_name, label_name, map_name, tables
from tools.demo_world.options import DemoOptions
from tools.demo_world.sensors import camera, lidar
from tools.demo_world.street import world
from tools.demo_world.street.objects import Kind
from tools.demo_world.tree import Frame, Summary, lidar_spec
from tools.making.frames import Progress, map_frames
from utils.files import whole_file, write_bytes, write_text

Array = NDArray[Any]

# Which splits a version's tables list; those of mini are labelled.
VERSIONS = {"v1.0-mini": ("mini_train", "mini_val"), "v1.0-test": ("test",)}
TABLES = (
    "category", "attribute", "visibility", "instance", "sensor", "calibrated_sensor", "ego_pose", "log", "scene",
    "sample", "sample_data", "sample_annotation", "map", "lidarseg",
)  # fmt: skip
# The devkit lists this folder, so it has to be there, and an empty one gets lost in copies.
_NO_LABELS = "lidarseg/v1.0-test/README.txt"
_MAP_EDGE = 600.0  # metres
_JPEG_QUALITY = 90


def sweep(options: DemoOptions, drive: Drive, sample: int, between: int = 0) -> tuple[Scene, lidar.Sweep]:
    """Measures with the LiDAR, in the order in which its lasers fire; noise depends on seed, drive and moment alone.

    Args:
        options: the choices for the data set.
        drive: the scene.
        sample: the key frame.
        between: which sweep after it; 0: the key frame itself.
    """
    time = drive.time(sample, sweep=between)
    scene, pose = drive.street.scene(time), drive.ego(time) @ drive.mount(LIDAR)
    rng = np.random.default_rng([options.seed, drive.number, sample, 0, *filter(None, [between])])
    swept = lidar.sweep(scene, pose, lidar_spec(options), rng)
    azimuth = np.arctan2(swept.xyz[:, 1], swept.xyz[:, 0])
    step = np.floor((np.pi - azimuth) / (2 * np.pi) * options.azimuth_steps)
    return scene, swept.ordered(np.lexsort((-swept.beam, step)))


def pictures(options: DemoOptions, drive: Drive, sample: int) -> Iterator[tuple[Sensor, Scene, camera.Picture]]:
    """Renders each camera's picture; yields it with the scene at that time."""
    usual = float(np.mean([drive.time(sample, sensor) for sensor in CAMERAS]))
    # One map of shadows for all: they hardly move in the hundredth of a second between two cameras.
    shadows = camera.cast_shadows(drive.street.scene(usual), drive.ego(usual)[:3, 3], reach=45, texel=0.16)
    for number, sensor in enumerate(CAMERAS, start=1):
        time = drive.time(sample, sensor)
        scene, pose = drive.street.scene(time), drive.ego(time) @ drive.mount(sensor)
        rng = np.random.default_rng([options.seed, drive.number, sample, number])
        matrix = intrinsics(sensor, options.image_size)
        yield sensor, scene, camera.render(scene, pose, matrix, options.image_size, rng, shadows)


def write_tree(
    output: Path,
    options: DemoOptions,
    progress: Progress | None = None,
    overwrite: bool = False,
) -> Summary:
    """Writes the versions v1.0-mini and v1.0-test below `output`.

    Args:
        output: the data set's folder. If it holds a complete set made with the same options, nothing is done.
        options: the choices for the data set. The scenes of a split share its frames evenly, and each has one at least.
        progress: called after each sample.
        overwrite: whether to replace a set made with other options; what this tool did not make always stays.

    Raises:
        UserError: `output` holds something else.
    """
    every = drives(options)
    frames = [(drive.order, sample) for drive in every for sample in range(drive.samples)]
    identity = {"dataset": "nuScenes", **options.identity()}
    names = list(_names(options, every))
    note = manifest.claim(output, identity, [output / name for name in names], overwrite, _indices(output))
    if note is not None:
        return Summary(False, len(frames), note["points"], note["classes"], BENCHMARK_CLASSES)
    boxes: dict[Frame, list[Box]] = {}
    ids: dict[str, set[int]] = {drive.split: set() for drive in every if drive.split != "test"}
    points = 0
    write = partial(_write_sample, output, options)
    for (order, sample), (labels, hit) in map_frames(write, frames, options.workers, progress):
        points += labels.sum()
        boxes[order, sample] = hit
        ids.get(every[order].split, set()).update(np.flatnonzero(labels).tolist())
    _draw_map(output / map_name(options.seed), every)
    write_text(output / _NO_LABELS, "The test scenes come without labels.\n")
    _write_tables(output, options, every, boxes)
    classes = {split: class_names(found) for split, found in ids.items()}
    mean = int(points) // len(frames)
    manifest.complete(output, points=mean, classes=classes)
    return Summary(True, len(frames), mean, classes, BENCHMARK_CLASSES)


def _names(options: DemoOptions, every: list[Drive]) -> Iterator[str]:
    """Yields the names of all files, below the data set's folder."""
    yield from (f"{version}/{table}.json" for version in VERSIONS for table in TABLES)
    yield from (map_name(options.seed), _NO_LABELS)
    for drive in every:
        for sensor in SENSORS:
            yield from (data_name(drive, sample, sensor, between) for sample, between in drive.moments(sensor))
        for sample in range(drive.samples):
            if drive.split != "test":
                yield label_name(drive, sample)


def _indices(output: Path) -> list[Path]:
    """Lists the files that dataloader/datasets/nuscenes/index.py keeps beside the tables."""
    names = [f"{name}.{kind}" for name in ("2dpass_index", "2dpass_index_sweeps") for kind in ("npy", "json")]
    return [output / version / name for version in VERSIONS for name in names]


def _write_sample(output: Path, options: DemoOptions, which: Frame) -> tuple[Array, list[Box]]:
    """Writes the files of a sample and of the sweeps after it; returns the number of points of each raw id in the
    sample, and the objects that were hit."""
    drive, sample = drives(options)[which[0]], which[1]
    for between in (number for key_frame, number in drive.moments() if key_frame == sample and number):
        swept = sweep(options, drive, sample, between)[1]
        _write_points(output / data_name(drive, sample, LIDAR, between), swept, options.beams)
    scene, swept = sweep(options, drive, sample)
    _write_points(output / data_name(drive, sample, LIDAR), swept, options.beams)
    labels = raw_ids(scene.primitives["kind"][swept.primitive])
    if drive.split != "test":
        write_bytes(output / label_name(drive, sample), labels.tobytes())
    for sensor, _, picture in pictures(options, drive, sample):
        with whole_file(output / data_name(drive, sample, sensor)) as file:
            Image.fromarray(picture.image).save(file, "JPEG", quality=_JPEG_QUALITY)
    return np.bincount(labels, minlength=256), _boxes(scene, swept)


def _write_points(path: Path, swept: lidar.Sweep, beams: int) -> None:
    intensity, ring = np.round(swept.reflectance * 255), beams - 1 - swept.beam
    write_bytes(path, np.column_stack([swept.xyz, intensity, ring]).astype("<f4").tobytes())


def _boxes(scene: Scene, swept: lidar.Sweep) -> list[Box]:
    """Makes a box around each object that was hit: the extent of its primitives, which all have the object's
    heading."""
    rows = scene.primitives
    points = np.bincount(rows["instance"][swept.primitive])
    found = []
    for instance in np.flatnonzero(points[1:]) + 1:
        own = rows[rows["instance"] == instance]
        yaw = float(own["yaw"][0])
        axes = np.array([[np.cos(yaw), np.sin(yaw)], [-np.sin(yaw), np.cos(yaw)]])
        spots = raycast.corners(own).reshape(-1, 3)
        spots[:, :2] = spots[:, :2] @ axes.T
        low, high = spots.min(axis=0), spots.max(axis=0)
        x, y, z = (low + high) / 2
        length, width, height = (high - low).tolist()
        place = axes.T @ (x, y)
        found.append(
            Box(
                instance=int(instance),
                kind=Kind(int(own["kind"][0])),
                moving=bool(own["moving"][0]),
                centre=(float(place[0]), float(place[1]), float(z)),
                size=(width, length, height),
                yaw=yaw,
                points=int(points[instance]),
            )
        )
    return found


def _draw_map(path: Path, every: list[Drive]) -> None:
    """Draws a mask of the carriageways (255) around the drives; north is up, the city's origin the lower left
    corner."""
    pixels = int(_MAP_EDGE * 10)
    mask = Image.new("L", (pixels, pixels))
    pen = ImageDraw.Draw(mask)
    for drive in every:
        end = drive.samples * drive.time(1) * world.EGO_SPEED
        along = np.arange(-50.0, end + 50, 2.0)
        edges = [(s, -BANDS[0]) for s in along] + [(s, BANDS[0]) for s in along[::-1]]
        spots = np.array([(*drive.street.street.place(s, d)[:2], 0.0, 1.0) for s, d in edges]) @ drive.city.T
        pen.polygon([(x * 10, pixels - y * 10) for x, y, *_ in spots.tolist()], fill=255)
    with whole_file(path) as file:
        mask.save(file, "PNG")


def _write_tables(output: Path, options: DemoOptions, every: list[Drive], boxes: dict[Frame, list[Box]]) -> None:
    for version, splits in VERSIONS.items():
        own = [drive for drive in every if drive.split in splits]
        found = tables(own, boxes, options.image_size, labelled=version != "v1.0-test")
        for name in TABLES:
            write_text(output / version / f"{name}.json", json.dumps(found[name], indent=0) + "\n")
