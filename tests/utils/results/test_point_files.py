"""Files of labelled points, read by other programs' libraries."""

from __future__ import annotations

import io
from dataclasses import replace

import laspy
import numpy as np
import plyfile
import pytest

from tests.support.networks import refusal
from utils.results import point_files
from utils.results.point_files import FORMATS, LabelledPoints


@pytest.fixture
def points() -> LabelledPoints:
    rng = np.random.default_rng(0)
    xyz = rng.uniform(-50, 50, (300, 3)).astype(np.float32)
    xyz[7] = np.nan
    labels = rng.integers(1, 4, 300).astype(np.uint8)
    labels[7] = 0
    return LabelledPoints(
        xyz,
        rng.random(300).astype(np.float32),
        labels,
        rng.random(300).astype(np.float32),
        ("unlabeled", "car", "other-vehicle\n", "traffic-sign-with-a-long-name"),
        np.array([[0, 0, 0], [1, 2, 3], [200, 100, 0], [75, 0, 75]], dtype=np.uint8),
        np.array([0, 10, 20, 259], dtype=np.uint32),
    )


def test_labels_are_raw_ids_in_the_order_of_the_points(points):
    expected = np.array([points.raw_ids[label] for label in points.labels.tolist()])
    assert np.array_equal(np.frombuffer(FORMATS["label"](points, True), "<u4"), expected)
    array = np.load(io.BytesIO(FORMATS["npy"](points, True)))
    assert array.dtype == np.uint32 and np.array_equal(array, expected)
    assert np.array_equal(np.load(io.BytesIO(point_files.confidence_file(points))), points.confidence)


@pytest.mark.parametrize("confidence", [True, False])
@pytest.mark.parametrize("utm", [True, False])
def test_a_ply_holds_points_colours_and_labels(points, confidence, utm):
    if utm:
        points = replace(points, xyz=points.xyz + np.array([431234.123, 5432100.456, 0]), intensity=None)
    ply = plyfile.PlyData.read(io.BytesIO(FORMATS["ply"](points, confidence)))
    vertex = ply["vertex"]
    found = np.stack([vertex[axis] for axis in "xyz"], axis=1)
    assert found.dtype == points.xyz.dtype and np.array_equal(found, points.xyz, equal_nan=True)
    rgb = np.stack([vertex[channel] for channel in ("red", "green", "blue")], axis=1)
    assert np.array_equal(rgb, points.colors[points.labels]) and np.array_equal(vertex["label"], points.raw_labels)
    names = [one.name for one in vertex.properties]
    assert ("confidence" in names) is confidence and ("intensity" in names) is not utm
    assert "label 20 other-vehicle\\n" in ply.comments


@pytest.mark.parametrize("origin", [(0, 0, 0), (431234.123, 5432100.456, 80)])
def test_a_las_holds_points_classes_and_confidence(points, origin):
    points = replace(points, xyz=points.xyz + np.array(origin, dtype=np.float64))
    las = laspy.read(io.BytesIO(FORMATS["las"](points, False)))
    there = np.isfinite(points.xyz).all(axis=1)
    assert np.abs(las.xyz[there] - points.xyz[there]).max() <= 0.5e-4 + 1e-9
    assert np.array_equal(np.asarray(las.classification), points.labels)
    assert np.array_equal(las["label"], points.raw_labels)
    assert np.array_equal(las["confidence"], points.confidence)
    assert np.array_equal(np.asarray(las.withheld, dtype=bool), ~there)
    assert np.abs(np.asarray(las.intensity) / 65535 - points.intensity).max() < 1e-5
    lookup = next(vlr for vlr in las.header.vlrs if vlr.record_id == 0)
    assert lookup[1] == "car" and len(lookup[3]) <= 15


def test_no_return_at_zero_costs_map_coordinates_nothing(points):
    xyz = points.xyz + np.array((431234.123, 5432100.456, 80.0))
    xyz[2] = 0
    las = laspy.read(io.BytesIO(FORMATS["las"](replace(points, xyz=xyz), False)))
    there = np.isfinite(xyz).all(axis=1) & (np.arange(len(xyz)) != 2)
    assert np.abs(las.xyz[there] - xyz[there]).max() <= 0.5e-4 + 1e-9
    assert np.array_equal(np.asarray(las.withheld, dtype=bool), ~there)


def test_wide_coordinates_get_longer_steps(points):
    xyz = points.xyz.astype(np.float64)
    xyz[0] = 9e7
    las = laspy.read(io.BytesIO(FORMATS["las"](replace(points, xyz=xyz), False)))
    assert np.abs(las.xyz[0] - xyz[0]).max() <= las.header.scales[0]


def test_without_laspy_one_line_says_what_to_install(points, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "laspy", None)
    assert "pip install 'laspy[lazrs]'" in refusal(FORMATS["las"], points, False)


def test_counts_name_the_classes_that_occur(points):
    counts = points.counts()
    assert list(counts.values()) == sorted(counts.values(), reverse=True) and sum(counts.values()) == 300
    assert counts["car"] == (points.labels == 1).sum() and counts["unlabeled"] == 1
