"""What the viewer is shown of labelled scans."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from network.labelling.fits import Fits
from network.labelling.viewed import PREDICTION, ViewedResults
from network.segmenter import Segmenter
from tests.support.checkpoints import small_config, write_checkpoint
from utils.paths import REPOSITORY
from utils.scan.alignment import Alignment
from utils.scan.point_cloud import PointCloud


@dataclass(frozen=True)
class Listed:
    name: str
    group: str = "drive"
    index: int = 0

    @property
    def target(self) -> str:
        return self.name

    location = source = target


@dataclass(frozen=True)
class Past:
    scan: Listed
    motion: np.ndarray
    age: float


def test_scans_are_shown_as_they_are_labelled(tmp_path):
    rng = np.random.default_rng(0)
    clouds = {
        name: PointCloud(name, rng.normal(0, [9, 5, 0.5], (200, 3)), rng.random(200).astype(np.float32))
        for name in "ab"
    }
    clouds["a"].xyz[3] = np.nan
    asked: list[str] = []

    def read(scan):
        asked.append(scan.name)
        return clouds[scan.name]

    path = write_checkpoint(tmp_path / "x.ckpt", small_config())
    segmenter = Segmenter.load(path, device="cpu", alignment=Alignment(axes=("y", "-x", "z")))
    scans = [Listed("a"), Listed("b")]
    shown = ViewedResults(segmenter, Fits(segmenter, scans, read, "off", lambda line, number: None), scans, read)
    assert len(shown) == 2 and shown.title(1) == "b" and shown.num_classes == len(shown.names) == 20
    for number, name in enumerate("ab"):
        expected = segmenter(clouds[name])
        scan = shown.read(number)
        assert np.array_equal(scan.predictions[PREDICTION], expected.labels)
        assert np.allclose(scan.confidences[PREDICTION], expected.confidence, atol=1e-3)
        forward, left = clouds[name].xyz[:, 1], -clouds[name].xyz[:, 0]
        assert np.allclose(scan.xyz[:, 0], forward, equal_nan=True, atol=1e-5)
        assert np.allclose(scan.xyz[:, 1], left, equal_nan=True, atol=1e-5)
    # Labels that are known are not computed again, nor is the past read for them.
    fixed = segmenter(clouds["b"])
    object.__setattr__(fixed, "labels", np.full(200, 7, np.uint8))
    shown.keep(scans[1], fixed)
    assert (shown.read(1).predictions[PREDICTION] == 7).all()


def test_scans_are_shown_with_the_labels_that_their_past_gives(tmp_path):
    rng = np.random.default_rng(0)
    clouds = {
        name: PointCloud(name, rng.normal(0, [9, 5, 0.5], (400, 3)), rng.random(400).astype(np.float32))
        for name in "ab"
    }
    motion = np.column_stack([np.eye(3), [-1.5, 0, 0]])
    past = {"a": [], "b": [Past(Listed("a"), motion, 1.0)]}
    asked: list[str] = []

    def read(scan):
        asked.append(scan.name)
        return clouds[scan.name]

    config = small_config(config=REPOSITORY / "config" / "SPVCNN-multiscan-demo.yaml")
    segmenter = Segmenter.load(write_checkpoint(tmp_path / "x.ckpt", config), device="cpu")
    scans = [Listed("a"), Listed("b")]
    fits = Fits(segmenter, scans, read, "off", lambda line, number: None)
    shown = ViewedResults(segmenter, fits, scans, read, lambda scan: past[scan.name])
    expected = segmenter(clouds["b"], past=[(clouds["a"], motion, 1)])
    for times in (["a", "b"], ["b"]):  # the second time its labels are known
        asked.clear()
        scan = shown.read(1)
        assert asked == times and len(scan.xyz) == 400
        assert np.array_equal(scan.predictions[PREDICTION], expected.labels)
    assert (expected.labels != segmenter(clouds["b"], past=()).labels).any()
