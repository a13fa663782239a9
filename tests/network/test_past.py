"""Labels for clouds with those before them."""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from network.assemble import load_for_test
from network.segmenter import NoPastWarning, Segmenter
from tests.support.checkpoints import small_config, write_checkpoint
from utils.config.schema import Config
from utils.errors import UserError
from utils.paths import REPOSITORY
from utils.scan.alignment import Alignment
from utils.scan.past_cloud import PastCloud
from utils.scan.point_cloud import PointCloud
from utils.scan.records import Batch, Scan

MULTISCAN = REPOSITORY / "config" / "SPVCNN-multiscan-demo.yaml"
NUSCENES = REPOSITORY / "config" / "SPVCNN-nuscenes.yaml"


@pytest.fixture(scope="module")
def config() -> Config:
    return small_config(config=MULTISCAN)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory, config) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("past") / "best.ckpt", config)


@pytest.fixture(scope="module")
def segmenter(checkpoint) -> Segmenter:
    return Segmenter.load(checkpoint, device="cpu")


@pytest.fixture(scope="module")
def nuscenes_config() -> Config:
    return small_config("model_params.input_dims=5", "dataset_params.past_sweeps=2", config=NUSCENES)


def drive(count: int = 5, points: int = 400) -> tuple[list[np.ndarray], np.ndarray]:
    """Makes clouds of a sensor that drives and turns far from the origin, and its poses (count, 4, 4)."""
    rng = np.random.default_rng(0)
    clouds = [
        np.column_stack([rng.normal(0, [9, 5, 0.6], (points, 3)), rng.random(points)]).astype(np.float32)
        for _ in range(count)
    ]
    poses = np.tile(np.eye(4), (count, 1, 1))
    for number, pose in enumerate(poses):
        c, s = np.cos(0.1 * number), np.sin(0.1 * number)
        pose[:2, :2] = [[c, -s], [s, c]]
        pose[:3, 3] = [4e5 + 1.5 * number, 5e6 + 0.2 * number, 100]
    return clouds, poses


def slow_labels(
    config: Config, checkpoint: Path, points: np.ndarray, past: list[tuple[np.ndarray, np.ndarray, float]]
) -> np.ndarray:
    """Labels of the network for points with past ones moved by (4, 4) motions, merged point by point."""
    network, _ = load_for_test(config, checkpoint)
    rows = [(*point, 0.0) for point in points.astype(float)]
    for earlier, motion, age in past:
        rows += [(*(motion @ [*point[:3], 1])[:3], point[3], age) for point in earlier.astype(float)]
    merged = torch.tensor(rows, dtype=torch.float64).float()
    count = len(merged)
    batch = Batch(
        points=merged, scan_ids=torch.zeros(count, dtype=torch.int64), labels=torch.zeros(count, dtype=torch.int64),
        pixels=torch.full((count, 2), -1), visible=torch.zeros(0, dtype=torch.int64), images=None, lengths=(count,),
    )  # fmt: skip
    with torch.no_grad():
        return network.eval().predict(batch)[: len(points), 1:].argmax(dim=1).numpy() + 1


@pytest.mark.parametrize("past_scans, numbers", [(None, None), (1, None), (4, None), (2, [0, 1, 3, 4, 9])])
def test_a_sequence_is_labelled_as_merged_by_hand(config, checkpoint, segmenter, past_scans, numbers):
    clouds, poses = drive()
    found = list(segmenter.sequence(iter(clouds), poses[:, :3], past_scans, numbers=numbers))
    places, differ = numbers or list(range(5)), 0
    alone = [segmenter(cloud, past=()) for cloud in clouds]
    for row, result in enumerate(found):
        earlier = [
            (clouds[past], np.linalg.inv(poses[row]) @ poses[past], float(places[row] - places[past]))
            for past in range(row - 1, -1, -1)
            if places[row] - places[past] <= (2 if past_scans is None else past_scans)
        ]
        expected = slow_labels(config, checkpoint, clouds[row], earlier)
        assert len(result) == len(clouds[row]) and np.array_equal(result.xyz, clouds[row][:, :3])
        # Poses 5000 km from the origin leave a nanometre of doubt, which may be on the edge of a voxel.
        assert (result.labels == expected).mean() > 0.995
        assert earlier or np.array_equal(result.labels, alone[row].labels)
        differ += (result.labels != alone[row].labels).sum()
    assert differ > 20


def test_a_call_with_past_clouds_is_that_of_a_sequence(segmenter):
    clouds, poses = drive(3)
    *_, expected = segmenter.sequence(clouds, torch.from_numpy(poses))
    motions = [np.linalg.inv(poses[2]) @ pose for pose in poses]
    past = [(torch.from_numpy(clouds[1]), torch.from_numpy(motions[1]), 1), [clouds[0], motions[0][:3], np.float32(2)]]
    assert (segmenter(clouds[2], past=past).labels == expected.labels).mean() > 0.995
    cloud = PointCloud("x", clouds[1][:, :3], clouds[1][:, 3])
    as_records = [PastCloud(cloud, motions[1][:3], 1.0), past[1]]
    assert np.array_equal(segmenter(clouds[2], past=as_records).labels, segmenter(clouds[2], past=past).labels)


def test_past_points_are_aligned_as_the_current_ones(checkpoint, segmenter):
    """In other axes, in millimetres, around another origin, with rows that are no returns."""
    clouds, poses = drive(4)
    expected = [result.labels for result in segmenter.sequence(clouds, poses)]
    turn = np.array([[0, -1, 0, 431_000_000.0], [1, 0, 0, -77_000.0], [0, 0, 1, 5_000.0], [0, 0, 0, 1]])
    turn[:3, :3] *= 1000
    others, rigid = [], turn.copy()
    rigid[:3, :3] /= 1000
    for cloud in clouds:
        xyz = np.column_stack([cloud[:, :3], np.ones(len(cloud))]) @ turn.T
        with_holes = np.column_stack([xyz[:, :3], 255.0 * cloud[:, 3]])
        others.append(np.vstack([with_holes, [[np.nan] * 4, [0, 0, 0, 9]]]))
    scaled = poses.copy()
    scaled[:, :3, 3] *= 1000
    moved = rigid @ scaled @ np.linalg.inv(rigid)
    alignment = Alignment(("y", "-x", "z"), 1 / 1000, (431_000_000.0, -77_000.0, 5_000.0), None, 1 / 255)
    other = Segmenter.load(checkpoint, device="cpu", alignment=alignment)
    results = other.sequence(others, np.linalg.inv(moved[0]) @ moved)  # the same motions, less than 1e9 from the origin
    for result, labels in zip(results, expected, strict=True):
        assert (result.labels[:-2] == labels).mean() > 0.99 and not result.labels[-2:].any()


def test_the_sensor_is_located_on_the_current_cloud(checkpoint):
    """Where a frame has its origin elsewhere, the past is moved in it before anything is located."""
    clouds, poses = drive(3, points=1500)
    poses = np.linalg.inv(poses[0]) @ poses
    locating = Segmenter.load(checkpoint, device="cpu", alignment=Alignment(center="auto"))
    place = np.eye(4)
    place[:3, 3] = [3000, -4000, 50]
    away = [cloud + np.array([3000, -4000, 50, 0]) for cloud in clouds]  # float64
    found = list(locating.sequence(away, place @ poses @ np.linalg.inv(place)))
    spots = [result.xyz[0] - result.aligned[0] for result in found]
    for row, result in enumerate(found):
        fixed = Segmenter.load(checkpoint, device="cpu", alignment=Alignment(center=tuple(spots[row].tolist())))
        past = [(away[i], place @ np.linalg.inv(poses[row]) @ poses[i] @ np.linalg.inv(place), row - i)
                for i in range(row - 1, -1, -1)]  # fmt: skip
        assert (fixed(away[row], past=past).labels == result.labels).mean() > 0.95
    assert not np.allclose(spots[0], spots[2], atol=1e-3)


def test_seconds_and_returns_of_the_own_car(nuscenes_config, tmp_path, monkeypatch):
    segmenter = Segmenter.load(write_checkpoint(tmp_path / "nuscenes.ckpt", nuscenes_config), device="cpu")
    clouds, poses = drive(3)
    roof = np.random.default_rng(1).uniform([-0.99, -0.99, -1, 0], [0.99, 0.99, 0, 1], (60, 4)).astype(np.float32)
    clouds = [np.vstack([cloud[~(np.abs(cloud[:, :2]) < 1).all(axis=1)], roof]) for cloud in clouds]
    times = [5.0, 5.05, 5.2]
    seen: list[Scan] = []
    with monkeypatch.context() as patch:
        patch.setattr(segmenter, "segment", lambda prepared: [seen.append(one.sample.scan) for one in prepared])
        list(segmenter.sequence(clouds, poses, times=times))
    merged, ages = [clouds[2][:, :3]], [0.0] * len(clouds[2])  # with the roof of the car itself, without that of before
    for row in (1, 0):
        motion = np.linalg.inv(poses[2]) @ poses[row]
        merged.append(clouds[row][:-60, :3].astype(float) @ motion[:3, :3].T + motion[:3, 3])
        ages += [times[2] - times[row]] * (len(clouds[row]) - 60)
    assert np.allclose(seen[2].xyz, np.vstack(merged), atol=1e-5) and np.allclose(seen[2].ages, ages)
    assert np.array_equal(seen[2].intensity[-5:], clouds[0][-65:-60, 3]) and len(seen[0]) == len(clouds[0])
    with pytest.raises(ValueError, match="times must say"):
        segmenter.sequence(clouds, poses)
    impossible: list[Any] = [[1, 2], [1, 1, 2], [1, 2, np.nan], "123"]
    for wrong in impossible:
        with pytest.raises(ValueError, match="times must"):
            segmenter.sequence(clouds, poses, times=wrong)


def test_a_past_cloud_from_which_the_poses_jump_away_changes_nothing(segmenter):
    """The voxels are counted from the middle of all points, which must not leave the cloud."""
    clouds, poses = drive(4)
    poses[3, :3, 3] += 1e5
    *_, last = segmenter.sequence(clouds, poses)
    alone = segmenter(clouds[3], past=[])
    assert np.array_equal(last.labels, alone.labels) and np.array_equal(last.confidence, alone.confidence)


def test_votes_move_all_points_alike(checkpoint, segmenter):
    """A scan and its past, turned together, are what the views of a vote see."""
    clouds, poses = drive(3)
    voting = Segmenter.load(checkpoint, device="cpu", votes=3)
    first, second = (list(voting.sequence(clouds, poses)) for _ in range(2))
    alone = [voting(cloud, past=()) for cloud in clouds]
    for a, b in zip(first, second, strict=True):
        assert np.array_equal(a.labels, b.labels)
    assert np.array_equal(first[0].labels, alone[0].labels) and (first[2].labels != alone[2].labels).any()


def test_clouds_are_taken_one_by_one_and_few_are_kept(segmenter):
    clouds, poses = drive(7, points=50)
    alive: list[weakref.ref[Any]] = []

    def source() -> Iterator[PointCloud]:
        for points in clouds:
            cloud = PointCloud("x", points[:, :3].copy(), points[:, 3].copy())
            alive.append(weakref.ref(cloud))
            yield cloud

    results = segmenter.sequence(source(), poses)
    assert not alive
    for number in range(7):
        next(results)
        assert len(alive) == number + 1
        assert sum(cloud() is not None for cloud in alive) <= 4  # the past two, the current one, and the next
    assert next(results, None) is None


def test_a_drive_goes_on_after_a_cloud_without_returns(segmenter):
    clouds, poses = drive(4)
    empty = [*clouds[:1], np.full((5, 4), np.nan, dtype=np.float32), *clouds[2:]]
    results = segmenter.sequence(empty, poses)
    next(results)
    with pytest.raises(UserError, match="cloud 1: none of its 5 points is a return"):
        next(results)
    without = segmenter.sequence([*clouds[:1], *clouds[2:]], poses[[0, 2, 3]], numbers=[0, 2, 3])
    next(without)
    for found, wanted in zip(results, without, strict=True):
        assert np.array_equal(found.labels, wanted.labels)


def test_a_lone_cloud_is_labelled_with_one_note(segmenter):
    clouds, poses = drive(2)
    with pytest.warns(NoPastWarning, match="trained with the 2 scans before each"):
        found = segmenter(clouds[0]).labels
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.array_equal(segmenter(clouds[0], past=[]).labels, found)
        assert np.array_equal(next(segmenter.sequence(clouds[:1], poses[:1])).labels, found)
        assert list(segmenter.sequence([], np.zeros((0, 4, 4)))) == []


@pytest.mark.parametrize(
    "change, said",
    [
        ({"poses": np.zeros((3, 5))}, r"poses must have the shape \(n, 4, 4\)"),
        ({"poses": "poses.txt"}, "poses must be real numbers"),
        ({"poses": np.full((3, 4, 4), np.nan)}, "pose 0 must hold finite numbers"),
        ({"poses": np.tile(np.diag([1.0, 1, -1, 1]), (3, 1, 1))}, "pose 0 holds no rotation: its determinant"),
        ({"poses": np.tile(np.diag([2.0, 1, 1, 1]), (3, 1, 1))}, "pose 0 holds no rotation: its axes"),
        ({"poses": np.tile(np.diag([1.0, 1, 1, 2]), (3, 1, 1))}, "must end with the row"),
        ({"past_scans": -1}, "past_scans must be"),
        ({"past_scans": 1.5}, "past_scans must be"),
        ({"past_scans": True}, "past_scans must be"),
        ({"times": [1, 2, 3]}, "leave out times"),
        ({"numbers": [0, 1]}, "numbers must be 3"),
        ({"numbers": [0, 2, 2]}, "numbers must increase"),
        ({"numbers": [0.0, 1.0, 2.0]}, "numbers must be 3 whole"),
    ],
)
def test_impossible_sequences_are_refused_at_once(segmenter, change, said):
    clouds, poses = drive(3)
    with pytest.raises(ValueError, match=said):
        segmenter.sequence(**{"clouds": clouds, "poses": poses, **change})


@pytest.mark.parametrize(
    "past, said",
    [
        ("past", "past must be a list"),
        (np.zeros((3, 4)), "past must be a list"),
        ([np.zeros((3, 4))], "past cloud 0 must be"),
        ([(np.zeros((2, 9)), np.eye(4), 1)], "past cloud 0: points must"),
        ([(np.ones((2, 4)), np.eye(3), 1)], "the motion of past cloud 0 must have the shape"),
        ([(np.ones((2, 4)), 2 * np.eye(4), 1)], "the motion of past cloud 0"),
        ([(np.ones((2, 4)), np.eye(4), 0)], "the age of past cloud 0"),
        ([(np.ones((2, 4)), np.eye(4), "x")], "the age of past cloud 0"),
    ],
)
def test_impossible_past_clouds_are_refused(segmenter, past, said):
    with pytest.raises(ValueError, match=said):
        segmenter(drive(1)[0][0], past=past)


def test_poses_and_clouds_must_be_as_many(segmenter):
    clouds, poses = drive(3)
    for few, many in ((clouds[:2], poses), (clouds, poses[:2])):
        results = segmenter.sequence(few, many)
        for _ in range(2):
            next(results)
        with pytest.raises(ValueError, match="give one pose for each"):
            next(results)


def test_networks_of_single_scans_take_no_past(tmp_path):
    single = Segmenter.load(write_checkpoint(tmp_path / "x.ckpt", small_config()), device="cpu")
    clouds, poses = drive(2)
    with pytest.raises(ValueError, match="trained on single scans"):
        single(clouds[0], past=[(clouds[1], np.eye(4), 1)])
    with pytest.raises(ValueError, match="trained on single scans"):
        single.sequence(clouds, poses, past_scans=1)
    with pytest.raises(ValueError, match="not with a list"):
        single(clouds, past=[])  # type: ignore[call-overload]  # pyright: ignore
    for result, expected in zip(single.sequence(clouds, poses), single(clouds), strict=True):
        assert np.array_equal(result.labels, expected.labels)
