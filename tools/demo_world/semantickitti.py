"""Writes what the sensors see on drives through made-up streets as a SemanticKITTI tree (KITTI odometry format).

<output>/<sequence>/velodyne/000000.bin    float32 x, y, z (m), reflectance
                    labels/000000.label    uint32 instance id << 16 | raw semantic id (not in the test sequence)
                    image_2/000000.png     left colour camera
                    calib.txt  poses.txt
<output>/demo_world.json                   the options it was made with
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tools.demo_world import manifest
from tools.demo_world.geometry.poses import turn
from tools.demo_world.geometry.raycast import Scene
from tools.demo_world.options import DemoOptions
from tools.demo_world.sensors import camera, lidar
from tools.demo_world.street import world
from tools.demo_world.street.objects import Kind
from tools.demo_world.tree import Summary, lidar_spec
from tools.making.frames import Progress, map_frames
from utils.files import whole_file, write_bytes, write_text

Array = NDArray[Any]

TRAIN, VAL, TEST = (0, 1, 2, 3, 4, 5, 6, 7, 9, 10), 8, 11
FRAME_TIME = 0.2  # seconds; at 8 m/s two frames are 1.6 m apart
LIDAR_HEIGHT = 1.73  # metres

# Kind -> (raw id, raw id when it moves, name of the class in the 19-class benchmark or None where that ignores it).
RAW_IDS: dict[Kind, tuple[int, int, str | None]] = {
    Kind.NOTHING: (1, 1, None),  # a ghost: "outlier"
    Kind.ROAD: (40, 40, "road"),
    Kind.LANE_MARK: (60, 60, "road"),
    Kind.PARKING: (44, 44, "parking"),
    Kind.SIDEWALK: (48, 48, "sidewalk"),
    Kind.OTHER_GROUND: (49, 49, "other-ground"),
    Kind.TERRAIN: (72, 72, "terrain"),
    Kind.BUILDING: (50, 50, "building"),
    Kind.FENCE: (51, 51, "fence"),
    Kind.WALL: (52, 52, None),
    Kind.VEGETATION: (70, 70, "vegetation"),
    Kind.TRUNK: (71, 71, "trunk"),
    Kind.POLE: (80, 80, "pole"),
    Kind.TRAFFIC_SIGN: (81, 81, "traffic-sign"),
    Kind.CAR: (10, 252, "car"),
    Kind.TRUCK: (18, 258, "truck"),
    Kind.BUS: (13, 257, "other-vehicle"),
    Kind.TRAILER: (20, 259, "other-vehicle"),
    Kind.CONSTRUCTION_VEHICLE: (20, 259, "other-vehicle"),
    Kind.BICYCLE: (11, 11, "bicycle"),
    Kind.MOTORCYCLE: (15, 15, "motorcycle"),
    Kind.PERSON: (30, 254, "person"),
    Kind.BICYCLIST: (31, 253, "bicyclist"),
    Kind.MOTORCYCLIST: (32, 255, "motorcyclist"),
    Kind.TRAFFIC_CONE: (99, 99, None),
    Kind.BARRIER: (99, 99, None),
    Kind.STREET_FURNITURE: (99, 99, None),
    Kind.CLUTTER: (0, 0, None),
}
BENCHMARK_CLASSES = 19
_CLASS_OF = {raw: name for *ids, name in RAW_IDS.values() for raw in ids if name is not None}


@dataclass(frozen=True)
class Calibration:
    """The sensors' geometry, as in calib.txt.

    Attributes:
        projections: (4, 3, 4) float64 P0..P3, camera 0 to pixels of each camera.
        velodyne_to_camera: (4, 4) float64 Tr, LiDAR to camera 0.
    """

    projections: Array
    velodyne_to_camera: Array


def calibration(image_size: tuple[int, int]) -> Calibration:
    """Places four cameras like KITTI's: 82 degrees wide, 54 cm apart, a fraction of a degree off the LiDAR's axes."""
    width, height = image_size
    focal = 0.5793 * width
    intrinsics = np.array([[focal, 0, 0.4893 * width], [0, focal, 0.4926 * height], [0, 0, 1]])
    offsets = [(0, 0, 0), (-0.5372, 0, 0), (0.0597, -0.0003, 0.0028), (-0.4729, 0.0023, 0.0027)]
    projections = [intrinsics @ np.column_stack([np.eye(3), np.array(t, np.float64)]) for t in offsets]
    axes = np.array([[0.0, -1, 0], [0, 0, -1], [1, 0, 0]])  # x forward, y left, z up -> x right, y down, z forward
    velodyne_to_camera = np.eye(4)
    velodyne_to_camera[:3, :3] = turn(0.0074, 0.0004, -0.0021) @ axes
    velodyne_to_camera[:3, 3] = -0.0119, -0.0704, -0.2857
    return Calibration(np.stack(projections), velodyne_to_camera)


def lidar_pose(street: world.World, time: float) -> Array:
    """Returns the pose of the LiDAR in the world at `time` seconds, (4, 4) float64."""
    x, y, heading = street.ego(time)
    pose = np.eye(4)
    pose[:3, :3] = turn(0, 0, heading)
    pose[:3, 3] = x, y, LIDAR_HEIGHT
    return pose


def raw_labels(scene: Scene, primitive: Array) -> Array:
    """Returns the label-file entries, (n,) uint32, for rows of the scene's table that were hit."""
    table = np.array([RAW_IDS[kind][:2] for kind in Kind], np.uint32)
    rows = scene.primitives[primitive]
    semantic = table[rows["kind"], rows["moving"].astype(np.int64)]
    return semantic | (rows["instance"].astype(np.uint32) << np.uint32(16))


def observe(options: DemoOptions, sequence: int, frame: int) -> tuple[Scene, lidar.Sweep, camera.Picture]:
    """Measures a frame with LiDAR and left colour camera; noise depends on seed, sequence and frame alone.

    The sweep is in KITTI's order: beam after beam, each from straight ahead round to the left.
    """
    scene, sweep, pose = scan(options, sequence, frame)
    calib = calibration(options.image_size)
    intrinsics = calib.projections[0][:, :3]
    to_camera_2 = np.eye(4)
    to_camera_2[:3, 3] = np.linalg.inv(intrinsics) @ calib.projections[2][:, 3]
    camera_pose = pose @ np.linalg.inv(to_camera_2 @ calib.velodyne_to_camera)
    shadows = camera.cast_shadows(scene, pose[:3, 3] + 28 * pose[:3, 0])
    rng = np.random.default_rng([options.seed, sequence, frame, 1])
    return scene, sweep, camera.render(scene, camera_pose, intrinsics, options.image_size, rng, shadows)


def scan(options: DemoOptions, sequence: int, frame: int) -> tuple[Scene, lidar.Sweep, Array]:
    """Measures a frame with the LiDAR alone, as `observe` does; returns its pose, (4, 4) float64, and no picture."""
    street = _street(options.seed, sequence, _frames(options)[sequence])
    scene, pose = street.scene(frame * FRAME_TIME), lidar_pose(street, frame * FRAME_TIME)
    sweep = lidar.sweep(scene, pose, lidar_spec(options), np.random.default_rng([options.seed, sequence, frame, 0]))
    azimuth = np.arctan2(sweep.xyz[:, 1], sweep.xyz[:, 0]) % (2 * np.pi)
    return scene, sweep.ordered(np.lexsort((azimuth, sweep.beam))), pose


def write_part(output: Path, options: DemoOptions, frames: Iterable[tuple[int, int]], pictures: bool = True) -> None:
    """Writes some frames of the set that `write_tree` makes, byte by byte the same ones, and what their folders need.

    Args:
        output: folder of the sequences.
        options: the choices for the whole data set.
        frames: (sequence, frame) of each.
        pictures: whether to write the pictures of the camera, which take the most time.
    """
    frames = list(frames)
    for sequence in {sequence for sequence, _ in frames}:
        _write_geometry(output, options, sequence, _frames(options)[sequence])
    for frame in frames:
        _write_frame(output, options, frame, pictures)


def training_frames(options: DemoOptions) -> list[tuple[int, int]]:
    """Lists the (sequence, frame) of the training scans, in their order."""
    return [
        (sequence, frame) for sequence, count in _frames(options).items() if sequence in TRAIN for frame in range(count)
    ]


def write_tree(
    output: Path,
    options: DemoOptions,
    progress: Progress | None = None,
    overwrite: bool = False,
) -> Summary:
    """Writes sequences 00 (train), 08 (validation) and 11 (test, without labels) below `output`.

    With `train_streets` the training frames are spread over 00, 01 and so on.

    Args:
        output: folder of the sequences. If it holds a complete set made with the same options, nothing is done.
        options: the choices for the data set.
        progress: called after each frame.
        overwrite: whether to replace a set made with other options; what this tool did not make always stays.

    Raises:
        UserError: `output` holds something else.
    """
    frames = [(sequence, frame) for sequence, count in _frames(options).items() for frame in range(count)]
    note = manifest.claim(output, options.identity(), list(_files(output, options)), overwrite)
    if note is not None:
        return Summary(False, len(frames), note["points"], note["classes"], BENCHMARK_CLASSES)
    for sequence, count in _frames(options).items():
        _write_geometry(output, options, sequence, count)
    raw_ids: dict[int, set[int]] = {sequence: set() for sequence in _frames(options)}
    points = 0
    write = partial(_write_frame, output, options)
    for (sequence, _), (count, found) in map_frames(write, frames, options.workers, progress):
        points += count
        raw_ids[sequence] |= found
    classes = {
        f"{sequence:02d}": sorted({_CLASS_OF[raw] for raw in raw_ids[sequence] if raw in _CLASS_OF})
        for sequence in raw_ids
        if sequence != TEST
    }
    manifest.complete(output, points=points // len(frames), classes=classes)
    return Summary(True, len(frames), points // len(frames), classes, BENCHMARK_CLASSES)


def _frames(options: DemoOptions) -> dict[int, int]:
    """Returns the number of frames of each sequence; training frames are spread evenly, the first streets get more."""
    each, more = divmod(options.train_frames, options.train_streets)
    train = {sequence: each + (n < more) for n, sequence in enumerate(TRAIN[: options.train_streets])}
    return {**train, VAL: options.val_frames, TEST: options.test_frames}


@lru_cache(maxsize=4)
def _street(seed: int, sequence: int, frames: int) -> world.World:
    return world.build(seed, sequence, frames * FRAME_TIME * world.EGO_SPEED)


def _frame_files(output: Path, sequence: int, frame: int) -> tuple[Path, Path, Path | None]:
    """Lists the scan, the picture and (except in the test sequence) the labels of a frame."""
    folder, name = output / f"{sequence:02d}", f"{frame:06d}"
    labels = None if sequence == TEST else folder / "labels" / f"{name}.label"
    return folder / "velodyne" / f"{name}.bin", folder / "image_2" / f"{name}.png", labels


def _files(output: Path, options: DemoOptions) -> Iterator[Path]:
    for sequence, count in _frames(options).items():
        yield output / f"{sequence:02d}" / "calib.txt"
        yield output / f"{sequence:02d}" / "poses.txt"
        for frame in range(count):
            yield from (path for path in _frame_files(output, sequence, frame) if path is not None)


def _write_frame(
    output: Path, options: DemoOptions, which: tuple[int, int], pictures: bool = True
) -> tuple[int, set[int]]:
    """Writes one frame; returns its number of points and the raw semantic ids among them."""
    scan_file, image_file, label_file = _frame_files(output, *which)
    scene, sweep, picture = observe(options, *which) if pictures else (*scan(options, *which)[:2], None)
    write_bytes(scan_file, np.column_stack([sweep.xyz, sweep.reflectance]).astype("<f4").tobytes())
    if picture is not None:
        with whole_file(image_file) as file:
            Image.fromarray(picture.image).save(file, "PNG")
    labels = raw_labels(scene, sweep.primitive)
    if label_file is not None:
        write_bytes(label_file, labels.astype("<u4").tobytes())
    return len(labels), set(np.unique(labels & np.uint32(0xFFFF)).tolist())


def _write_geometry(output: Path, options: DemoOptions, sequence: int, frames: int) -> None:
    """Writes the sequence's calib.txt and poses.txt (camera 0 of each frame in camera 0 of the first)."""
    calib = calibration(options.image_size)
    matrices = [(f"P{i}", matrix) for i, matrix in enumerate(calib.projections)]
    matrices.append(("Tr", calib.velodyne_to_camera[:3]))
    lines = [f"{name}: " + " ".join(f"{value:.12e}" for value in matrix.ravel()) for name, matrix in matrices]
    _write_lines(output / f"{sequence:02d}" / "calib.txt", lines)

    street = _street(options.seed, sequence, frames)
    to_world = [lidar_pose(street, frame * FRAME_TIME) for frame in range(frames)]
    to_lidar = np.linalg.inv(calib.velodyne_to_camera)
    first = np.linalg.inv(to_world[0] @ to_lidar)
    poses = [(first @ pose @ to_lidar)[:3] for pose in to_world]
    lines = [" ".join(f"{value:.9e}" for value in pose.ravel()) for pose in poses]
    _write_lines(output / f"{sequence:02d}" / "poses.txt", lines)


def _write_lines(path: Path, lines: list[str]) -> None:
    write_text(path, "\n".join(lines) + "\n")
