"""Made-up data sets and scenes for the tests of tools/demo_world, and readers of their files."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np

from tools.demo_world import nuscenes, semantickitti
from tools.demo_world.geometry.materials import Material
from tools.demo_world.geometry.raycast import Scene
from tools.demo_world.options import DEFAULTS, DemoOptions
from tools.demo_world.sensors import lidar
from tools.demo_world.street import world
from tools.demo_world.street.objects import Kind, part
from tools.demo_world.tree import lidar_spec

TINY = DemoOptions(train_frames=2, val_frames=1, test_frames=1, beams=8, azimuth_steps=128, image_size=(96, 64))
SHORT = DemoOptions(train_frames=4, val_frames=3, test_frames=1, image_size=(96, 64))
TINY_NUSCENES = replace(
    DEFAULTS["nuscenes"], train_frames=1, val_frames=1, test_frames=1, beams=8, azimuth_steps=128, image_size=(64, 36)
)
# Few frames, exact ranges.
EXACT_NUSCENES = replace(
    DEFAULTS["nuscenes"],
    train_frames=8,
    val_frames=5,
    azimuth_steps=512,
    image_size=(320, 180),
    range_noise=0,
    dropout=0,
)


def read_scan(output, sequence, frame):
    """Reads the points of a frame, (N, 4) float32."""
    return np.fromfile(output / sequence / "velodyne" / f"{frame:06d}.bin", "<f4").reshape(-1, 4)


def read_labels(output, sequence, frame):
    """Reads the class ids and the instance ids of a frame, (N,) each."""
    labels = np.fromfile(output / sequence / "labels" / f"{frame:06d}.label", "<u4")
    return labels & 0xFFFF, labels >> 16


def read_calibration(output, sequence):
    """Reads the (3, 4) matrices of calib.txt, by name."""
    lines = (output / sequence / "calib.txt").read_text().splitlines()
    return {line.split(":")[0]: np.array(line.split(":")[1].split(), float).reshape(3, 4) for line in lines}


def read_table(output, version, name):
    """Reads a table of a nuScenes version, by token."""
    return {record["token"]: record for record in json.loads((output / version / f"{name}.json").read_text())}


def samples_of(devkit, scene):
    """Lists the sample records of a scene from the first to the last, by their links."""
    token, found = scene["first_sample_token"], []
    while token:
        found.append(devkit.get("sample", token))
        token = found[-1]["next"]
    return found


def sweep_of(devkit, sample):
    """Reads the (N, 5) points and (N,) labels of a sweep."""
    token = sample["data"]["LIDAR_TOP"]
    points = np.fromfile(devkit.get_sample_data_path(token), "<f4").reshape(-1, 5)
    return points, np.fromfile(f"{devkit.dataroot}/{devkit.get('lidarseg', token)['filename']}", np.uint8)


def file_bytes(output):
    """Reads the bytes of all files below a folder, by relative path."""
    return {path.relative_to(output).as_posix(): path.read_bytes() for path in output.rglob("*") if path.is_file()}


def scene_of(*items):
    """Makes a scene of these primitives, without ground."""
    sun = np.array([0.3, 0.2, 0.9])
    return Scene(np.concatenate([world.ground_rows(), *items]), None, sun / np.linalg.norm(sun))


def thing(shape, half):
    """Makes one painted primitive of a car at the origin."""
    return part(Kind.CAR, shape, (0, 0, 0), half, Material.PAINTED)


def kitti_points(seed, frame=0, **options):
    """Makes the scan of a frame of sequence 00 without its picture, in 0.1 s: (N, 4) float32, in KITTI's order."""
    chosen = DemoOptions(seed=seed, **options)
    time = frame * semantickitti.FRAME_TIME
    street = world.build(seed, semantickitti.TRAIN[0], chosen.train_frames * semantickitti.FRAME_TIME * world.EGO_SPEED)
    rng = np.random.default_rng([seed, frame])
    swept = lidar.sweep(street.scene(time), semantickitti.lidar_pose(street, time), lidar_spec(chosen), rng)
    azimuth = np.arctan2(swept.xyz[:, 1], swept.xyz[:, 0]) % (2 * np.pi)
    swept = swept.ordered(np.lexsort((azimuth, swept.beam)))
    return np.column_stack([swept.xyz, swept.reflectance]).astype(np.float32)


def nuscenes_points(seed, drive=0, **options):
    """Makes the first scan of a drive without its pictures, in 0.1 s: (N, 4) float32, intensity 0..255."""
    chosen = replace(DEFAULTS["nuscenes"], seed=seed, **options)
    _, swept = nuscenes.sweep(chosen, nuscenes.drives(chosen)[drive], 0)
    return np.column_stack([swept.xyz, np.round(swept.reflectance * 255)]).astype(np.float32)
