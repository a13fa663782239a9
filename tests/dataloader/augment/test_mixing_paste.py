"""Pasted objects: where they come from, that they stand on the ground as they did, and that nothing overlaps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial import Delaunay

from dataloader.augment.mixing_paste import InstancePaste
from dataloader.object_base import ObjectBase
from dataloader.objects.cutting import Cut
from tests.support.scenes import CAR, LIFT, PERSON, ROAD, SIDEWALK, Street, ground_at, street_scan
from utils.scan.records import Scan

CUT = Cut((CAR, PERSON), (ROAD, SIDEWALK), 20)


@pytest.fixture(scope="module")
def paste(tmp_path_factory) -> InstancePaste:
    objects = ObjectBase(Path(tmp_path_factory.mktemp("base")), "made-up", CUT, 100).open(Street(), 4)
    return InstancePaste(objects, 6, (CAR, PERSON), (ROAD, SIDEWALK))


def no_partner() -> Scan:
    raise AssertionError("pasting needs no second scan")


def pasted_parts(scan: Scan) -> list[Scan]:
    """The pasted objects, one by one: the scan that a point comes from is in its intensity, its object in that scan."""
    added = scan.select(scan.index == -1)
    rows = np.round(added.intensity.astype(np.float64) * 1000)
    cuts = np.flatnonzero((np.diff(rows) != 1) | (np.diff(added.instances) != 0)) + 1
    return [added.select(rows) for rows in np.split(np.arange(len(added)), cuts) if len(rows)]


def hull_holds(corners: np.ndarray, xy: np.ndarray) -> np.ndarray:
    return Delaunay(corners.astype(np.float64)).find_simplex(xy.astype(np.float64)) >= 0


def mixed(paste: InstancePaste, number: int) -> tuple[Scan, Scan, list[Scan]]:
    scan = street_scan(90 + number)
    found = paste.mix(scan, no_partner, np.random.default_rng(number))
    own = found.select(np.arange(len(scan)))
    assert all(np.array_equal(getattr(own, name), getattr(scan, name)) for name in ("xyz", "labels", "index"))
    return scan, found, pasted_parts(found)


def test_objects_stand_as_they_did_and_overlap_nothing(paste) -> None:
    count = 0
    for number in range(25):
        scan, _, parts = mixed(paste, number)
        standing = scan.select(~np.isin(scan.labels, (ROAD, SIDEWALK)))
        assert len(parts) <= 6
        for part in parts:
            centre = (part.xyz[:, :2].min(axis=0) + part.xyz[:, :2].max(axis=0)) / 2
            (label,) = set(part.labels.tolist())
            height = part.xyz[:, 2].min() - ground_at(*centre)
            assert abs(height - LIFT[label]) < 0.06  # it neither floats nor sinks
            # Cars stand on the road, persons on the sidewalk; an object on the edge may stand on either.
            assert abs(centre[1]) < 7.3 if label == CAR else abs(centre[1]) > 6.7
            assert not hull_holds(part.xyz[:, :2], standing.xyz[:, :2]).any()
            for other in parts:
                assert other is part or not hull_holds(part.xyz[:, :2], other.xyz[:, :2]).any()
            count += 1
    assert count > 40


def test_objects_are_those_of_a_training_scan(paste) -> None:
    """Class, instance, intensity, distance from the sensor and shape are kept; pixel and row of the file are not."""
    origins = set()
    for number in range(15):
        for part in mixed(paste, number)[2]:
            origin = int(part.intensity[0] // 100)
            source = street_scan(origin)
            rows = np.round((part.intensity.astype(np.float64) - 100 * origin) * 1000).astype(int)
            assert 0 <= origin < 4 and len(rows) == 60
            whole = source.select(source.instances == part.instances[0])
            assert np.array_equal(whole.index, rows)
            assert all(
                np.array_equal(getattr(part, n), getattr(whole, n)) for n in ("labels", "instances", "intensity")
            )
            assert np.allclose(np.hypot(*part.xyz[:, :2].T), np.hypot(*whole.xyz[:, :2].T), atol=1e-4)
            turn = (part.xyz[:, 0] + 1j * part.xyz[:, 1]) / (whole.xyz[:, 0] + 1j * whole.xyz[:, 1])
            assert np.allclose(turn, turn[0], atol=1e-4)
            assert np.ptp(part.xyz[:, 2] - whole.xyz[:, 2]) < 1e-5
            assert np.isnan(part.pixels).all() and (part.ages == 0).all()
            origins.add((origin, int(part.instances[0])))
    assert len(origins) > 10 and len({origin for origin, _ in origins}) == 4


def test_rare_classes_are_drawn_by_the_inverse_of_their_points(paste) -> None:
    points = {label: sum((street_scan(n).labels == label).sum() for n in range(4)) for label in (CAR, PERSON)}
    assert {label: int(paste.objects.class_points[label]) for label in points} == points
    assert np.allclose(paste.weights(), [4 / 7, 3 / 7])  # three cars for four persons, with equally many points


def test_a_scan_without_room_stays_as_it_is(paste) -> None:
    scan = street_scan(90)
    full = replace(scan, labels=np.where(scan.labels == CAR, CAR, 13).astype(np.uint8))
    assert paste.mix(full, no_partner, np.random.default_rng(0)) is full


def test_past_points_stay_out_of_the_ground_and_in_the_way(paste) -> None:
    """The ground is that of the scan; past points of a class take room, and a pasted object is of the scan itself."""
    scan = street_scan(91)
    higher = replace(scan, xyz=scan.xyz + np.array([0, 0, 3], np.float32), age=np.ones(len(scan), np.float32))
    both = Scan.concatenate([scan, higher])
    walls = replace(higher, xyz=scan.xyz, labels=np.full(len(scan), 13, np.uint8))
    taken = Scan.concatenate([scan, walls])
    found = paste.mix(both, no_partner, np.random.default_rng(3))
    parts = pasted_parts(found.select(np.arange(len(both), len(found))))
    assert parts and all((part.ages == 0).all() for part in parts)
    for part in parts:
        centre = (part.xyz[:, :2].min(axis=0) + part.xyz[:, :2].max(axis=0)) / 2
        assert abs(part.xyz[:, 2].min() - ground_at(*centre) - LIFT[int(part.labels[0])]) < 0.06
    assert paste.mix(taken, no_partner, np.random.default_rng(3)) is taken
