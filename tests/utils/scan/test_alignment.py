"""The step into the frame of the training: the exact inverse of what was done to the points, and flags that say it."""

from __future__ import annotations

import argparse
import itertools
import shlex
from typing import Any, cast

import numpy as np
import pytest

from utils.command.alignment_flags import add_alignment_flags, alignment_of
from utils.command.flags import Parser
from utils.scan.alignment import Alignment
from utils.scan.axes import parse_axes, write_axes
from utils.scan.point_cloud import PointCloud
from utils.scan.sensor import NUSCENES, SEMANTICKITTI

VECTORS = {sign + name: (1 if not sign else -1) * np.eye(3)[n] for n, name in enumerate("xyz") for sign in ("", "-")}
ALL_AXES = [
    axes for axes in itertools.permutations(VECTORS, 3) if abs(np.linalg.det([VECTORS[axis] for axis in axes])) == 1
]


def points(count: int = 300, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 20, (count, 3)).astype(np.float32)


def parsed(text: str) -> argparse.Namespace:
    parser = Parser()
    add_alignment_flags(parser)
    return parser.parse_args(shlex.split(text))


def in_frame(xyz: np.ndarray, axes: tuple[str, str, str], forward: str = "x") -> Any:
    """Writes points of the training's frame in a frame whose `axes` point forward, left and up."""
    ahead, left, up = xyz.astype(np.float64).T if forward == "x" else (xyz[:, 1], -xyz[:, 0], xyz[:, 2])
    return np.column_stack([ahead, left, up]) @ np.array([VECTORS[axis] for axis in axes])


def test_there_are_48_frames() -> None:
    assert len(ALL_AXES) == 48
    for axes in ALL_AXES:
        assert parse_axes(write_axes(axes)) == axes


@pytest.mark.parametrize("sensor", [SEMANTICKITTI, NUSCENES], ids=lambda sensor: sensor.name)
def test_every_frame_is_turned_back_exactly(sensor) -> None:
    xyz = points()
    for axes in ALL_AXES:
        cloud = PointCloud("x", in_frame(xyz, axes, sensor.forward))
        aligned = Alignment(axes).apply(cloud, sensor, None)
        assert aligned.xyz.dtype == np.float32 and np.array_equal(aligned.xyz, xyz), axes
    assert np.array_equal(Alignment().apply(PointCloud("x", xyz), sensor, None).xyz, xyz)


KNOWN = {
    "forward=x": "x y z", "forward=y": "y -x z", "forward=-x": "-x -y z", "back=y": "-y x z", "left=x": "-y x z",
    "right=x": "y -x z", "forward=z,up=-y": "z -x -y", "forward=z, down=y": "z -x -y", "forward=x,left=-y": "x -y z",
    "FORWARD=+Y,left=x": "y x z", "forward=x,right=y,up=-z": "x -y -z", "forward=x,left=z": "x z -y",
    "up=z,left=x": "-y x z", "forward=-z,right=x": "-z -x y",
}  # fmt: skip
"""What is given -> forward, left and up: nuScenes, cameras, NED and IMU frames, and frames of the other hand."""


@pytest.mark.parametrize("text", KNOWN)
def test_axes_are_completed(text) -> None:
    assert parse_axes(text) == tuple(KNOWN[text].split())


WRONG = {
    "--axes y": "forward=y", "--axes forward=w": "forward=y", "--axes ahead=y": "forward=y",
    "--axes forward=": "forward=y",
    "--axes forward=x,back=y": "forward is given twice", "--axes forward=x,left=-x": "one axis is given for two",
    "--axes forward=z": "z does not point up", "--axes up=y": "which axis points forward", "--length_scale 0": "factor",
    "--axes forward=x,,left=y": "forward=y", "--length_scale=-1": "factor", "--length_scale nan": "factor",
    "--length_scale 1/0": "factor", "--length_scale 1/2/3": "factor", "--intensity_scale 1e400": "factor",
    "--sensor_height inf": "not a number", "--sensor_height x": "not a number", "--center 1,2": "--center auto",
    "--center scan.bin": "--center auto", "--center 1,2,x": "x,y,z", "--fit yes": "warn", "--center 1,,2": "x,y,z",
}  # fmt: skip


@pytest.mark.parametrize("text", WRONG)
def test_a_wrong_flag_is_one_line(text, capsys) -> None:
    with pytest.raises(SystemExit) as end:
        parsed(text)
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "error: " in line]
    assert end.value.code == 2 and WRONG[text] in line and text.split()[0].partition("=")[0] in line


RIGHT = {
    "": Alignment(),
    "--center": Alignment(center="auto"),
    "--center auto": Alignment(center="auto"),
    "--center -3,4.5,-1e2": Alignment(center=(-3.0, 4.5, -100.0)),
    "--sensor_height -1e-1 --length_scale 1/1000": Alignment(sensor_height=-0.1, length_scale=0.001),
    "--intensity_scale 1/255 --sensor_height 0": Alignment(sensor_height=0.0, intensity_scale=1 / 255),
}


@pytest.mark.parametrize("text", RIGHT)
def test_flags_are_read(text) -> None:
    assert alignment_of(parsed(text)) == RIGHT[text] and parsed(text).fit == "warn"


@pytest.mark.parametrize(
    "alignment, text",
    [
        (Alignment(), ""),
        (Alignment(("y", "-x", "z"), sensor_height=0.0), "--axes forward=y --sensor_height 0"),
        (Alignment(("z", "-x", "-y"), 0.001), "--axes forward=z,up=-y --length_scale 0.001"),
        (Alignment(("y", "x", "z"), center="auto"), "--axes forward=y,left=x --center auto"),
        (Alignment(center=(-3, 4.5, 0), intensity_scale=1 / 255), "--center=-3,4.5,0 --intensity_scale 1/255"),
        (Alignment(sensor_height=-113.3, length_scale=1 / 65535), "--length_scale 1/65535 --sensor_height=-113.3"),
    ],
)
def test_flags_are_written_as_one_would_type_them(alignment, text) -> None:
    assert alignment.flags() == text


def random_alignment(rng: np.random.Generator) -> Alignment:
    def factor() -> float:
        return float(rng.choice([1, 1 / 255, 1 / 3, 0.3048, 0.1, 1e-9, 12345.678, np.exp(rng.normal(0, 5))]))

    center = rng.choice([1, 1e-6, 1e7]) * rng.normal(size=3)
    return Alignment(
        axes=None if rng.random() < 0.2 else ALL_AXES[rng.integers(48)],
        length_scale=factor(),
        center=[None, "auto", tuple(map(float, center))][rng.integers(3)],
        sensor_height=[None, 0.0, float(rng.normal()), float(rng.normal() * 1e-7)][rng.integers(4)],
        intensity_scale=factor(),
    )


def test_flags_parsed_again_are_the_same_alignment() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        alignment = random_alignment(rng)
        assert alignment_of(parsed(alignment.flags())) == alignment, alignment.flags()


def test_it_undoes_what_was_done_to_the_points() -> None:
    rng = np.random.default_rng(1)
    for _ in range(100):
        alignment, sensor = random_alignment(rng), (SEMANTICKITTI, NUSCENES)[rng.integers(2)]
        if alignment.center == "auto":
            continue
        xyz, axes = points(50), alignment.axes or (("x", "y", "z") if sensor.forward == "x" else ("y", "-x", "z"))
        lowered = xyz.astype(np.float64)
        if alignment.sensor_height is not None:  # what lies at the ground of the training is `sensor_height` below 0
            lowered = lowered - [0, 0, sensor.ground_height + alignment.sensor_height]
        there = in_frame(lowered, axes, sensor.forward) / alignment.length_scale + (alignment.center or (0, 0, 0))
        intensity = rng.random(50).astype(np.float32)
        cloud = PointCloud("x", there, (intensity / alignment.intensity_scale).astype(np.float32))
        found = alignment.apply(cloud, sensor, None)
        rounding = 1e-15 * np.abs(there).max() * alignment.length_scale
        assert found.xyz == pytest.approx(xyz, rel=1e-6, abs=1e-6 + 10 * rounding), alignment.flags()
        assert found.intensity == pytest.approx(intensity, rel=1e-5) and found.name == "x"


def test_rows_that_are_no_returns_stay_as_they_are() -> None:
    """The rows of an organised cloud; as points they would lie at the new origin, among the others."""
    nan, inf = np.nan, np.inf
    lost = np.array([[nan, nan, nan], [0, 0, 0], [1, nan, 2], [inf, 1, -inf]])
    xyz = np.concatenate([lost, np.float64(1000) + in_frame(points(), ("z", "-x", "-y"))])
    alignment = Alignment(("z", "-x", "-y"), 0.5, (1000.0, 1000.0, 1000.0), 0.0, 2.0)
    intensity = np.arange(len(xyz), dtype=np.float32)
    found = alignment.apply(PointCloud("x", xyz, intensity), SEMANTICKITTI, None)
    assert np.array_equal(found.xyz[:4], lost, equal_nan=True)
    assert np.array_equal(found.measured, [False] * 4 + [True] * 300)
    assert found.intensity is not None and np.array_equal(found.intensity, 2 * intensity)
    assert np.array_equal(found.xyz[4:], np.float32(points() * 0.5 - [0, 0, 1.73]))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kind", [np.float32, np.float64, np.int32])
def test_numbers_of_all_kinds_and_sizes(kind: Any) -> None:
    rows = [[1, 2, 3], [-4, 5, -6], *([[1e39, 0, 0], [1e300, -1e300, 1e30]] if kind == np.float64 else [])]
    xyz = cast(Any, np.array(rows, kind))
    found = Alignment(length_scale=1000.0, center="auto").apply(PointCloud("x", xyz), SEMANTICKITTI, None)
    assert found.xyz.dtype == np.float32 and len(found) == len(xyz)
    assert len(Alignment(center="auto").apply(PointCloud("x", xyz[:0]), SEMANTICKITTI, None)) == 0
    found = Alignment(center=(1, 2, 3)).apply(PointCloud("x", xyz), SEMANTICKITTI, None)
    assert found.xyz[:2].tolist() == [[0, 0, 0], [-5, 3, -9]]
    assert np.isfinite(found.xyz).all(axis=1).sum() == 2 + (kind == np.float64) * 0
