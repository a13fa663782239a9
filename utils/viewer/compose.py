"""The composition of a frame and a choice: points in their colours, the picture of a camera, counts of the classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from utils.pictures.raster import Pixels, camera_view
from utils.text import printable, shortened
from utils.viewer.choice import Choice
from utils.viewer.coloring import AGE, Look, color, colorings, labellings, pick, points_of, times_shown, visible
from utils.viewer.loading import Frame
from utils.viewer.records import CameraPose, Frames, ShownCamera
from utils.viewer.scene import Cloud, Setting

_WIDEST = 1280
"""Width of the picture of a camera, pixels, at most."""


@dataclass(frozen=True)
class Shown:
    """A frozen record of what is to be seen of a frame.

    Attributes:
        look: how the points are shown; its colouring is one that the frame has.
        names: names of the predictions that are shown, [None] if there is none.
        clouds: their points, in the same order.
        setting: what is shown beside the points.
        points: (K + added,) points of each class, by the labelling that is shown first, without those of past scans;
            None without classes.
        iou: (K,) IoU of each class of the first prediction; None without truth.
    """

    look: Look
    names: Sequence[str | None]
    clouds: Sequence[Cloud]
    setting: Setting
    points: NDArray[np.int64] | None
    iou: NDArray[np.float64] | None


def compose(frames: Frames, frame: Frame, choice: Choice) -> Shown:
    """Returns what is to be seen of a frame.

    Args:
        frames: where it comes from, for names and colours.
        frame: the frame.
        choice: what is chosen.
    """
    scan = frame.scan
    predictions = list(scan.predictions)
    coloring = pick(choice.coloring, colorings(scan))
    assert coloring is not None
    look = Look(coloring, choice.hidden, choice.marked, choice.ground, choice.past)
    both = choice.side_by_side and len(predictions) > 1
    names: list[str | None] = [*predictions[:2]] if both else [pick(choice.prediction, predictions)]
    ids = labellings(scan, names[0], coloring)
    counts = frame.counts.get(names[0] or "")
    return Shown(
        look=look,
        names=names,
        clouds=[_cloud(frames, frame, name, look, with_title=both) for name in names],
        setting=Setting(choice.ground, choice.point_size, choice.rings, frame.floor, _poses(frame)),
        points=points_of(ids[0][scan.current], len(frames.names)) if ids else None,
        iou=None if counts is None else counts.iou,
    )


def _cloud(frames: Frames, frame: Frame, name: str | None, look: Look, with_title: bool) -> Cloud:
    scan = frame.scan
    kept = visible(scan, name, look, len(frames.names))
    rgb = color(scan, name, look, frames.colors, frames.num_classes)
    xyz = (scan.xyz[kept] - frame.origin).astype(np.float32)
    return Cloud(xyz, rgb[kept], shortened(printable(name), 60) if with_title and name is not None else "")


def cloud_by_age(frames: Frames, frame: Frame, shown: Shown) -> Cloud | None:
    """Returns the points in the colours of their age, to stand beside another colouring; None without past scans."""
    if frame.scan.age is None or not shown.look.past or shown.look.coloring == AGE:
        return None
    cloud = _cloud(frames, frame, shown.names[0], replace(shown.look, coloring=AGE), with_title=False)
    return replace(cloud, title=AGE)


def classes_there(frames: Frames, frame: Frame, shown: Shown) -> NDArray[np.bool_]:
    """Returns which of the (K + added) classes have points in what is shown of a frame."""
    there = np.zeros(len(frames.names), dtype=bool)
    kept = times_shown(frame.scan, shown.look)
    for name in shown.names:
        for ids in labellings(frame.scan, name, shown.look.coloring):
            there |= points_of(ids[kept], len(there)) > 0
    return there


def cameras(frame: Frame) -> dict[str, ShownCamera]:
    """Returns the cameras of a frame by name."""
    return {camera.picture.name: camera for row in frame.scan.cameras for camera in row}


def pose_in_scene(frame: Frame, camera: ShownCamera | None) -> CameraPose | None:
    """Returns the pose of a camera relative to the origin of the points that are shown; None if it is not known."""
    if camera is None or camera.pose is None:
        return None
    matrix = camera.pose.matrix.astype(np.float64)
    matrix[:3, 3] -= frame.origin
    return replace(camera.pose, matrix=matrix)


def _poses(frame: Frame) -> list[CameraPose]:
    found = (pose_in_scene(frame, camera) for camera in cameras(frame).values())
    return [pose for pose in found if pose is not None]


def camera_picture(frames: Frames, frame: Frame, shown: Shown, camera: ShownCamera) -> Pixels:
    """Draws the points over the picture of a camera, those that are shown in the scene, in the same colours.

    Returns:
        (H, W, 3) uint8 RGB, at most 1280 wide.
    """
    name = shown.names[0]
    kept = visible(frame.scan, name, shown.look, len(frames.names))
    rgb = color(frame.scan, name, shown.look, frames.colors, frames.num_classes)
    picture = replace(camera.picture, pixels=camera.picture.pixels[kept])
    return camera_view(picture, rgb[kept], min(picture.image.shape[1], _WIDEST))
