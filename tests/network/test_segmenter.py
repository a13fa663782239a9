"""Labels for arrays."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from network.assemble import load_for_test
from network.segmenter import Segmenter
from tests.support.checkpoints import DEMO, small_config, write_checkpoint
from tests.support.networks import refusal
from utils.paths import REPOSITORY
from utils.scan.batch import collate
from utils.scan.point_cloud import PointCloud
from utils.scan.records import Frame, Sample, Scan, no_pixels

VOXELS = [REPOSITORY / "config" / f"{name}-demo.yaml" for name in ("SPVCNN", "MinkowskiNet")]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("segmenter") / "best.ckpt", small_config())


@pytest.fixture(scope="module")
def segmenter(checkpoint) -> Segmenter:
    return Segmenter.load(checkpoint, device="cpu")


def make_points(count: int = 800, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    xyz = rng.normal(0, [12, 6, 0.6], (count, 3)) - [0, 0, 1]
    xyz[::40] *= 8  # beyond the volume
    return np.column_stack([xyz, rng.random(count)]).astype(np.float32)


def slow_labels(segmenter: Segmenter, checkpoint: Path, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Labels and confidences from the network itself, point by point, without the program's batches."""
    network, _ = load_for_test(small_config(), checkpoint)
    network.eval()
    inside = ((points[:, :3] > [-50, -50, -4]) & (points[:, :3] < [50, 50, 2])).all(axis=1)
    kept = points[inside]
    none = np.zeros(len(kept))
    scan = Scan(Frame("", "", ""), kept[:, :3].copy(), kept[:, 3].copy(), none.astype(np.uint8),
                none.astype(np.int32), none.astype(np.int64), no_pixels(len(kept)))  # fmt: skip
    with torch.no_grad():
        logits = network.predict(collate([Sample(scan)], False)).double().numpy()[:, 1:]
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    nearest = [np.argmin(((kept[:, :3].astype(float) - point) ** 2).sum(axis=1)) for point in points[:, :3]]
    return chances.argmax(axis=1)[nearest] + 1, np.where(inside, chances.max(axis=1)[nearest], 0)


def test_labels_and_confidences_are_those_of_the_network(segmenter, checkpoint):
    points = make_points()
    result = segmenter(points)
    labels, confidences = slow_labels(segmenter, checkpoint, points)
    assert np.array_equal(result.labels, labels) and np.allclose(result.confidence, confidences, atol=1e-5)
    assert result.labels.dtype == np.uint8 and result.confidence.dtype == np.float32
    assert result.names[9] == "road" and result.colors.shape == (20, 3) and len(set(labels.tolist())) > 1
    assert result.unseen == (confidences == 0).sum() > 0
    assert np.array_equal(result.raw_labels, segmenter.label_map.to_raw[labels])


@pytest.mark.parametrize("kind", ["torch", "float64", "half", "negative", "fortran", "cloud", "list"])
def test_points_may_come_in_any_form(segmenter, kind):
    points = make_points().astype(np.float16).astype(np.float32)
    expected = segmenter(points).labels
    forms = {
        "torch": torch.from_numpy(points),
        "float64": points.astype(np.float64),
        "half": torch.from_numpy(points).half(),
        "negative": torch._neg_view(-torch.from_numpy(points)),
        "fortran": np.asfortranarray(points),
        "cloud": PointCloud("x", points[:, :3], points[:, 3]),
        "list": [points[:100], points],
    }
    found = segmenter(forms[kind])
    found = found[1] if isinstance(found, list) else found
    assert np.array_equal(found.labels, expected)


def test_rows_without_a_return_keep_their_place(segmenter):
    points = make_points()
    there = np.ones(len(points), bool)
    there[[0, 5, 6, 700, 799]] = False
    damaged = points.copy()
    damaged[0] = np.nan
    damaged[5, 2] = np.nan
    damaged[6, :3] = 0
    damaged[700, 0] = np.inf
    damaged[799, :3] = 0
    result, expected = segmenter(damaged), segmenter(points[there])
    assert np.array_equal(result.labels[there], expected.labels)
    assert not result.labels[~there].any() and not result.confidence[~there].any()


def test_without_intensity_the_median_of_the_training_is_taken(segmenter):
    points = make_points()
    points[:, 3] = 0  # there are no statistics in this checkpoint
    assert np.array_equal(segmenter(points[:, :3]).labels, segmenter(points).labels)


@pytest.mark.parametrize(
    "points",
    [
        *(np.zeros((0, 4)), np.zeros(4), np.zeros((5, 2)), np.zeros((5, 5)), np.array([["a"] * 4])),
        *(np.zeros((2, 3), bool), torch.zeros(2, 4).to_sparse(), torch.zeros(2, 4, device="meta")),
    ],
)
def test_other_shapes_are_refused(segmenter, points):
    with pytest.raises(ValueError, match=r"the array: .*points must"):
        segmenter(points)
    with pytest.raises(ValueError, match=r"cloud 1: .*points must"):
        segmenter([make_points(50), points])


def test_points_that_cannot_be_labelled(segmenter):
    assert "no point lies inside" in refusal(segmenter, make_points() + np.float32(1000))
    assert "is a return" in refusal(segmenter, np.full((5, 4), np.nan))


def test_votes_are_the_same_for_every_call_and_order(checkpoint):
    voting = Segmenter.load(checkpoint, device="cpu", votes=3)
    one, two = make_points(seed=1), make_points(500, seed=2)
    first, second = voting([one, two])
    assert np.array_equal(voting(two).labels, second.labels) and np.array_equal(
        voting([two, one])[1].labels, first.labels
    )
    assert (first.labels != Segmenter.load(checkpoint, device="cpu")(one).labels).any()


def test_several_threads_may_call_it(segmenter):
    clouds = [make_points(300 + 20 * seed, seed) for seed in range(8)]
    expected = [result.labels for result in segmenter(clouds)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda cloud: segmenter(cloud).labels, clouds * 3))
    assert all(map(np.array_equal, found, expected * 3))


@pytest.mark.parametrize("config", VOXELS, ids=lambda path: path.stem)
def test_voxel_models_label_all_points(tmp_path, config):
    path = write_checkpoint(tmp_path / "x.ckpt", small_config(config=config))
    result = Segmenter.load(path, device="cpu")(make_points() + np.array([500, 0, 0, 0], np.float32))
    assert (result.labels > 0).all()


def test_older_checkpoints_want_a_config(tmp_path):
    path = write_checkpoint(tmp_path / "old.ckpt", small_config(), described=False)
    assert "--config" in refusal(Segmenter.load, path)
    settings = ["model_params.hiden_size=4"]
    assert (Segmenter.load(path, DEMO, settings, device="cpu")(make_points()).labels > 0).all()


@pytest.mark.parametrize(
    "setting",
    [
        {"precision": "64"},
        {"precision": "16"},
        {"fit": "sometimes"},
        {"votes": 0},
        {"votes": 1.5},
        {"nonsense": 1},
        *({"device": name} for name in ("gpu", "cuda:99", 1.5)),
    ],
)
def test_impossible_settings_are_refused(checkpoint, setting):
    with pytest.raises((ValueError, TypeError)):
        Segmenter.load(checkpoint, **{"device": "cpu", **setting})


def test_half_precision_labels_nearly_the_same(checkpoint, segmenter):
    points = make_points()
    half = Segmenter.load(checkpoint, device="cpu", precision="bf16")(points)
    assert (half.labels == segmenter(points).labels).mean() > 0.7
    assert not torch.is_autocast_enabled("cpu")


def test_results_are_saved_and_drawn(segmenter, tmp_path):
    result = segmenter(make_points())
    for suffix in ("label", "npy", "ply", "las", "PLY"):
        result.save(tmp_path / f"x.{suffix}")
    result.draw(tmp_path / "x.png")
    assert np.array_equal(np.fromfile(tmp_path / "x.label", "<u4"), result.raw_labels)
    assert (tmp_path / "x.png").stat().st_size > 5000
    assert ".label" in refusal(result.save, tmp_path / "x.xyz") and ".png" in refusal(result.draw, tmp_path / "x.jpg")
    assert repr(result).startswith("Result(the array: 800 points, ")
