"""What does not fit is found by name, the advice brings the points back, and a scan that fits is left alone."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from tests.support.demo import kitti_points, nuscenes_points
from utils.command.alignment_flags import add_alignment_flags, alignment_of, parse_alignment
from utils.command.flags import Parser
from utils.scan.alignment import Alignment
from utils.scan.center import Rings, find_sensor
from utils.scan.fitting import diagnose
from utils.scan.point_cloud import PointCloud
from utils.scan.records import Frame, Scan, no_pixels
from utils.scan.sensor import NUSCENES, SEMANTICKITTI, Sensor
from utils.scan.statistics import Statistics, measure


@dataclass(frozen=True)
class Data:
    """The sensor and the statistics of a training, and (N, 4) scans of other seeds."""

    sensor: Sensor
    statistics: Statistics
    scans: list[np.ndarray]


def statistics_of(scans: list[np.ndarray], sensor: Sensor) -> Statistics:
    def record(points: np.ndarray) -> Scan:
        count = len(points)
        labels, instances = np.zeros(count, np.uint8), np.zeros(count, np.int32)
        frame = Frame("00", "000000", "x.bin")
        return Scan(frame, points[:, :3], points[:, 3], labels, instances, np.arange(count), no_pixels(count))

    return measure(map(record, scans), len(scans), 2, sensor)


@pytest.fixture(scope="module")
def kitti() -> Data:
    trained = statistics_of([kitti_points(0, frame) for frame in range(0, 40, 8)], SEMANTICKITTI)
    return Data(SEMANTICKITTI, trained, [kitti_points(seed, 4 * seed) for seed in range(1, 9)])


@pytest.fixture(scope="module")
def nuscenes() -> Data:
    trained = statistics_of([nuscenes_points(0, drive) for drive in range(3)], NUSCENES)
    return Data(NUSCENES, trained, [nuscenes_points(seed, seed) for seed in range(1, 5)])


def cloud_of(points: np.ndarray) -> PointCloud:
    return PointCloud("x.bin", points[:, :3], points[:, 3].astype(np.float32))


Change = Callable[[np.ndarray], np.ndarray]


def columns(*axes: str) -> Change:
    """Writes axes, such as "-y", as x, y and z."""

    def change(points: np.ndarray) -> np.ndarray:
        chosen = [points[:, "xyz".index(axis[-1])] * (-1 if axis[0] == "-" else 1) for axis in axes]
        return np.column_stack([*chosen, points[:, 3:]])

    return change


def scaled(factor: float) -> Change:
    return lambda points: points * np.array([factor, factor, factor, 1])


def moved(x: float, y: float, z: float) -> Change:
    return lambda points: points + np.array([x, y, z, 0])


def brighter(factor: float) -> Change:
    return lambda points: points * np.array([1, 1, 1, factor])


UTM = moved(455123.25, 5427890.5, 115.75)
EXACT, CURB = 1e-6, 0.12  # metres; a single-precision number of 40 m has a rounding error of 2e-6
GROUND, CENTER = CURB, CURB  # road and walk are one layer of ground; which has most points is a matter of the place

CASES: dict[str, tuple[list[Change], set[str], float]] = {
    "intensity 0..255": ([brighter(255)], {"intensity"}, EXACT),
    "intensity 0..65535": ([brighter(65535)], {"intensity"}, EXACT),
    "intensity 0..100": ([brighter(100)], {"intensity"}, EXACT),
    "ground at 0": ([moved(0, 0, 1.73)], {"height"}, GROUND),
    "raised": ([moved(0, 0, -0.5)], {"height"}, GROUND),
    "lowered": ([moved(0, 0, 0.5)], {"height"}, GROUND),
    "height above the sea": ([moved(0, 0, 115)], {"height"}, GROUND),
    "x right, y forward": ([columns("-y", "x", "z")], {"axes"}, EXACT),
    "x left, y back": ([columns("y", "-x", "z")], {"axes"}, EXACT),
    "x back": ([columns("-x", "-y", "z")], {"axes"}, EXACT),
    "x and y exchanged": ([columns("y", "x", "z")], {"axes"}, EXACT),
    "mirrored": ([columns("x", "-y", "z")], {"axes"}, EXACT),
    "a camera's frame": ([columns("-y", "-z", "x")], {"axes"}, EXACT),
    "z back, y up": ([columns("-y", "z", "-x")], {"axes"}, EXACT),
    "z down": ([columns("x", "-y", "-z")], {"axes"}, EXACT),
    "UTM": ([UTM], {"origin"}, CENTER),
    "5 m beside": ([moved(5, 3, 0)], {"origin"}, CENTER),
    "40 m away": ([moved(40, -25, 3)], {"origin"}, CENTER),
    "millimetres": ([scaled(1000)], {"unit"}, EXACT),
    "centimetres": ([scaled(100)], {"unit"}, EXACT),
    "feet": ([scaled(1 / 0.3048)], {"unit"}, EXACT),
    "inches": ([scaled(1 / 0.0254)], {"unit"}, EXACT),
    "kilometres": ([scaled(0.001)], {"unit"}, EXACT),
    "UTM, 0..255, turned": ([columns("-y", "x", "z"), UTM, brighter(255)], {"origin", "intensity", "axes"}, CENTER),
    "UTM, millimetres": ([UTM, scaled(1000)], {"origin", "unit"}, CENTER),
    "a camera's frame, millimetres": ([columns("-y", "-z", "x"), scaled(1000)], {"axes", "unit"}, EXACT),
    "a camera on the ground": ([moved(0, 0, 1.73), columns("-y", "-z", "x")], {"axes", "height"}, GROUND),
    "UTM, exchanged": ([columns("y", "x", "z"), UTM], {"origin", "axes"}, CENTER),
}
"""What is done to the points -> what is found, and how near they come back, metres."""

UNITS = {"intensity 0..255": 1 / 255, "intensity 0..65535": 1 / 65535, "intensity 0..100": 0.01}


def changed(points: np.ndarray, changes: list[Change]) -> np.ndarray:
    points = points.astype(np.float64)
    for change in changes:
        points = change(points)
    return points


def parsed(flags: str) -> Alignment:
    parser = Parser()
    add_alignment_flags(parser)
    return alignment_of(parser.parse_args(shlex.split(flags)))


def assert_found(data: Data, points: np.ndarray, name: str, more: float = 0.0) -> None:
    changes, kinds, tolerance = CASES[name]
    cloud = cloud_of(changed(points, changes))
    misfits, alignment = diagnose([cloud], data.sensor, data.statistics, Alignment())
    assert {misfit.kind for misfit in misfits} == kinds, misfits
    assert parsed(" ".join(misfit.remedy for misfit in misfits)) == alignment, "the flags do what --fit auto does"
    back = alignment.apply(cloud, data.sensor, data.statistics)
    assert back.xyz == pytest.approx(points[:, :3], abs=tolerance + more * (tolerance > EXACT))
    if data.sensor.intensity_max == 1:
        assert back.intensity == pytest.approx(points[:, 3], rel=1e-6)
        assert alignment.intensity_scale == UNITS.get(name, alignment.intensity_scale)
    again, _ = diagnose([cloud], data.sensor, data.statistics, alignment)
    assert not again, "what the advice puts right is right"


@pytest.mark.parametrize("name", CASES)
def test_it_is_found_by_name_and_put_right(kitti, name) -> None:
    assert_found(kitti, kitti.scans[list(CASES).index(name) % len(kitti.scans)], name)


@pytest.mark.parametrize(
    "name", ["ground at 0", "x right, y forward", "x back", "x and y exchanged", "z down", "UTM", "millimetres"]
)
def test_a_training_with_y_forward(nuscenes, name) -> None:
    assert_found(nuscenes, nuscenes.scans[0], name)


def test_its_intensities_too(nuscenes) -> None:
    cloud = cloud_of(changed(nuscenes.scans[0], [brighter(1 / 255)]))
    (misfit,), alignment = diagnose([cloud], NUSCENES, nuscenes.statistics, Alignment())
    assert (misfit.kind, misfit.remedy, alignment.intensity_scale) == ("intensity", "--intensity_scale 255", 255)


def test_any_other_factor_is_told(kitti) -> None:
    cloud = cloud_of(changed(kitti.scans[0], [brighter(7.3)]))
    (misfit,), alignment = diagnose([cloud], SEMANTICKITTI, kitti.statistics, Alignment())
    assert misfit.kind == "intensity" and 7.3 * alignment.intensity_scale == pytest.approx(1, rel=0.3)


def test_scans_that_fit_are_left_alone(kitti, nuscenes) -> None:
    for data in (kitti, nuscenes):
        for points in data.scans:
            assert diagnose([cloud_of(points)], data.sensor, data.statistics, Alignment()) == ((), Alignment())


def test_a_training_of_one_scan_gives_no_false_alarm_and_finds_what_is_wrong(kitti) -> None:
    one = replace(kitti, statistics=statistics_of(kitti.scans[:1], SEMANTICKITTI))
    for points in kitti.scans:
        assert not diagnose([cloud_of(points)], one.sensor, one.statistics, Alignment())[0]
    for name in ("UTM, 0..255, turned", "a camera on the ground", "mirrored"):
        assert_found(one, kitti.scans[1], name)


def test_an_earlier_checkpoint_knows_less_but_says_nothing_wrong(kitti) -> None:
    earlier = replace(kitti, statistics=replace(kitti.statistics, traits={}))
    for points in kitti.scans:
        assert not diagnose([cloud_of(points)], earlier.sensor, earlier.statistics, Alignment())[0]
    for name in ("intensity 0..255", "ground at 0", "UTM", "millimetres", "a camera's frame", "feet"):
        assert_found(earlier, kitti.scans[0], name)
    turned = cloud_of(changed(kitti.scans[0], [columns("-y", "x", "z")]))
    assert not diagnose([turned], earlier.sensor, earlier.statistics, Alignment())[0]


def spoiled(points: np.ndarray) -> np.ndarray:
    """As drivers write it, with rows of beams without a return, and as a broken disk does."""
    rng = np.random.default_rng(0)
    rows = np.sort(rng.integers(len(points), size=3000))
    lost = np.array([[np.nan] * 3 + [0], [0, 0, 0, 0], [np.inf, 1, 2, 0], [1e30, -1e30, 1e30, 0], [1e300, 0, 0, 0]])
    return np.insert(points.astype(np.float64), rows, lost[np.arange(3000) % 5], axis=0)


@pytest.mark.filterwarnings("error")
def test_rows_without_a_return_and_damaged_ones_change_nothing(kitti) -> None:
    for name, (changes, kinds, _) in [("as it is", ([], set(), 0)), *list(CASES.items())[::4]]:
        cloud = cloud_of(spoiled(changed(kitti.scans[0], changes)))
        misfits, alignment = diagnose([cloud], kitti.sensor, kitti.statistics, Alignment())
        assert {misfit.kind for misfit in misfits} == kinds, name
        assert len(alignment.apply(cloud, kitti.sensor, kitti.statistics)) == len(cloud)


def test_fewer_points_and_beams_are_said_without_advice(kitti) -> None:
    scan = kitti.scans[0]
    sixteen = kitti_points(1, 4, beams=16)
    (misfit,), alignment = diagnose([cloud_of(sixteen)], kitti.sensor, kitti.statistics, Alignment())
    assert (misfit.kind, misfit.remedy, alignment) == ("density", "", Alignment())
    assert "about 16 beams, in the training about 32" in misfit.text
    for points in (changed(scan[:499], [brighter(255), UTM]), scan[:0], np.full((900, 4), np.nan)):
        (misfit,), alignment = diagnose([cloud_of(points)], kitti.sensor, kitti.statistics, Alignment())
        assert (misfit.kind, misfit.remedy, alignment) == ("density", "", Alignment())
    assert diagnose([], kitti.sensor, kitti.statistics, Alignment()) == ((), Alignment())


def test_scans_with_little_ground_say_nothing_of_its_height(kitti) -> None:
    for points in kitti.scans:
        cloud = cloud_of(points[points[:, 2] > -1.3])
        misfits, alignment = diagnose([cloud], kitti.sensor, kitti.statistics, Alignment())
        assert {misfit.kind for misfit in misfits} <= {"density", "range"} and alignment == Alignment()


@pytest.mark.parametrize("degrees", [45, 90])
def test_what_a_camera_sees_of_a_scan_says_nothing_of_its_frame(kitti, degrees) -> None:
    for points in kitti.scans:
        ahead = points[np.abs(np.degrees(np.arctan2(points[:, 1], points[:, 0]))) < degrees]
        (misfit,), _ = diagnose([cloud_of(ahead)], kitti.sensor, kitti.statistics, Alignment())
        assert misfit.kind == "density"


def test_a_narrow_place_is_said_without_advice(kitti) -> None:
    room = kitti.scans[0] * np.array([0.1, 0.1, 1, 1])
    misfits, alignment = diagnose([cloud_of(room)], kitti.sensor, kitti.statistics, Alignment())
    assert ("range", "") in {(misfit.kind, misfit.remedy) for misfit in misfits} and alignment.length_scale == 1


@pytest.mark.parametrize("value", [None, 0.0, 0.3])
def test_scans_without_intensities_are_said_and_useless_ones_left_out(kitti, value) -> None:
    points = kitti.scans[0]
    intensity = None if value is None else np.full(len(points), value, np.float32)
    cloud = PointCloud("x", points[:, :3], intensity)
    (misfit,), alignment = diagnose([cloud], kitti.sensor, kitti.statistics, Alignment())
    if value is None:
        assert (misfit.kind, misfit.remedy, alignment) == ("intensity", "", Alignment())
        return
    assert (misfit.kind, misfit.remedy) == ("intensity", "--intensity_scale 0")
    assert parse_alignment(misfit.remedy) == alignment
    assert alignment.apply(cloud, kitti.sensor, kitti.statistics).intensity is None
    assert not diagnose([cloud], kitti.sensor, kitti.statistics, alignment)[0]
    none = statistics_of([points * np.array([1, 1, 1, 0])], SEMANTICKITTI)
    assert not diagnose([cloud], kitti.sensor, none, Alignment())[0], "the training had none either"


def test_several_scans_are_judged_together(kitti) -> None:
    right, wrong = ([cloud_of(changed(scan, how)) for scan in kitti.scans[:3]]
                    for how in ([], [columns("y", "x", "z"), moved(0, 0, 2), brighter(255)]))  # fmt: skip
    exchanged = cloud_of(changed(kitti.scans[0], [columns("y", "x", "z")]))
    fits = diagnose([exchanged, *right[1:]], kitti.sensor, kitti.statistics, Alignment())
    assert fits == ((), Alignment())
    misfits, _ = diagnose([*wrong[:2], right[2]], kitti.sensor, kitti.statistics, Alignment())
    assert {misfit.kind for misfit in misfits} == {"axes", "height", "intensity"}
    drive = [cloud_of(changed(scan, [moved(90 * n, 5 * n, n)])) for n, scan in enumerate(kitti.scans[:3], start=3)]
    (misfit,), alignment = diagnose(drive, kitti.sensor, kitti.statistics, Alignment())
    assert misfit.kind == "origin" and alignment.center == "auto"
    for cloud, points in zip(drive, kitti.scans[:3], strict=True):  # each has a center of its own
        assert alignment.apply(cloud, kitti.sensor, None).xyz == pytest.approx(points[:, :3], abs=CENTER)


def test_what_the_user_has_given_counts_and_is_corrected_where_it_is_wrong(kitti) -> None:
    points = changed(kitti.scans[0], [columns("-y", "x", "z"), scaled(1000), moved(0, 0, 1730)])
    cloud = cloud_of(points)
    right = Alignment(("y", "-x", "z"), length_scale=0.001, sensor_height=0.0)
    assert diagnose([cloud], kitti.sensor, kitti.statistics, right) == ((), right)
    given = Alignment(("y", "x", "z"), length_scale=1.0, sensor_height=2.0, intensity_scale=255.0)
    misfits, alignment = diagnose([cloud], kitti.sensor, kitti.statistics, given)
    assert [misfit.kind for misfit in misfits] == ["unit", "axes", "height", "intensity"]
    assert alignment.axes == right.axes and alignment.length_scale == pytest.approx(0.001)
    assert alignment.sensor_height == pytest.approx(0, abs=GROUND) and alignment.intensity_scale == 1


def test_the_sensor_is_found_to_centimetres(kitti, nuscenes) -> None:
    errors = []
    for points in (*kitti.scans, *nuscenes.scans):
        middle = np.median(points[:, :3].astype(np.float64), axis=0)
        found = find_sensor(points[:, :3] - middle)
        assert found is not None
        errors.append(np.linalg.norm(found + middle[:2]))
    assert np.median(errors) < 0.01 and max(errors) < 0.04


def test_the_search_for_the_sensor_ends_where_it_is_ever_sharper_from_farther_away(kitti, monkeypatch) -> None:
    looks = iter(range(1000))

    def from_afar(points, width):
        assert next(looks, None) is not None, "an endless walk"
        return np.linalg.norm(points.mean(axis=0))

    monkeypatch.setattr("utils.scan.center.sharpness", from_afar)
    points = kitti.scans[0][:, :3].astype(np.float64)
    points -= np.median(points, axis=0)
    rings = Rings.of(points)
    assert rings is not None
    rough, found = rings.center(), find_sensor(points)
    assert rough is not None and found is not None and np.array_equal(found, rough)


def test_no_sensor_is_seen_where_there_are_no_rings() -> None:
    rng = np.random.default_rng(0)
    flat = np.column_stack([rng.uniform(-30, 30, (20_000, 2)), rng.normal(0, 0.02, 20_000)])
    furrows = flat * [1, 0, 1] + [0, 1, 0] * np.round(flat * 2)
    assert find_sensor(flat) is None and find_sensor(furrows) is None and find_sensor(flat[:100]) is None


@pytest.mark.skipif("TWODPASS_REAL_DATA" not in os.environ, reason="set TWODPASS_REAL_DATA to a sequences folder")
@pytest.mark.parametrize("trained, tried", [(0, 1), (1, 0)])
def test_real_scans(trained, tried) -> None:
    """They are corrected for the motion of the car: the rings go around a place 0.4 m beside the sensor."""
    folder = Path(os.environ["TWODPASS_REAL_DATA"], "00", "velodyne")
    scans = [np.fromfile(folder / f"{n:06d}.bin", np.float32).reshape(-1, 4) for n in (trained, tried)]
    data = Data(SEMANTICKITTI, statistics_of(scans[:1], SEMANTICKITTI), [])
    assert not diagnose([cloud_of(scans[1])], data.sensor, data.statistics, Alignment())[0]
    for name in list(CASES)[tried::2]:
        assert_found(data, scans[1], name, more=0.6)


def test_intensities_in_decibels_are_left_out(kitti: Data) -> None:
    points = kitti.scans[0]
    decibels = np.column_stack([points[:, :3], 10 * np.log10(np.maximum(points[:, 3], 1e-3))])
    (misfit,), fitted = diagnose([cloud_of(decibels)], kitti.sensor, kitti.statistics, Alignment())
    assert misfit.kind == "intensity" and "-30" in misfit.text and fitted.intensity_scale == 0
