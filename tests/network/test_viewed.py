"""What the viewer is shown of labelled scans."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from network.labelling import Fits
from network.segmenter import Segmenter
from network.viewed import PREDICTION, ViewedResults
from tests.support.checkpoints import small_config, write_checkpoint
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
    # Labels that are known are not computed again.
    fixed = segmenter(clouds["b"])
    object.__setattr__(fixed, "labels", np.full(200, 7, np.uint8))
    shown.keep(scans[1], fixed)
    assert (shown.read(1).predictions[PREDICTION] == 7).all()
