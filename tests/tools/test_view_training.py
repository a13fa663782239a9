"""Training items in tools/view.py: what a network is trained on, and flags that do not go with it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dataloader.catalogue import load_label_map
from dataloader.datamodule import DataModule
from tests.conftest import ROOT, TREE
from tests.tools.test_view import has_color, read
from tools import view
from utils.config.loading import load_config
from utils.viewer.legend import ORIGINS, key
from utils.viewer.palette import DARK, origin_colors

CONFIG = str(ROOT / "config" / "2DPASS-demo.yaml")
VOXELS = str(ROOT / "config" / "MinkowskiNet-demo.yaml")
OF_TREE = f"dataset_params.train_data_loader.data_path={TREE}"
MIXED = "dataset_params.dataset_type=point_image_dataset_mix_semkitti"
CROP = "dataset_params.bottom_crop=[320,80]"


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[tuple]:
    """Takes what the viewer would show."""
    calls: list[tuple] = []
    monkeypatch.setattr(view, "view", lambda *arguments: calls.append(arguments))
    return calls


def test_items_are_those_of_the_training(shown) -> None:
    """With the same seed and epoch; the picture is the part that the item has."""
    settings = [OF_TREE, MIXED, CROP]
    assert view.main(["--config", CONFIG, "--set", *settings, "--seed", "5", "--epoch", "3", "--frame", "1"]) == 0
    frames, _, _, start = shown[0]
    config = load_config(CONFIG, [*settings, f"dataset_params.val_data_loader.data_path={TREE}"])
    items = DataModule(config, load_label_map(config), fit=True, seed=5).training_set
    assert items is not None and len(frames) == len(items) and start == 1
    for index in range(len(items)):
        scan, item = frames.read(index), items[3, index].scan
        assert item.image is not None and item.index.min() == -1
        for found, expected in (
            (scan.xyz, item.xyz),
            (scan.labels, item.labels),
            (scan.intensity, item.intensity),
            (scan.mixed, item.index < 0),
            (scan.cameras[0][0].picture.image, item.image),
            (scan.cameras[0][0].picture.pixels, item.pixels),
        ):
            np.testing.assert_array_equal(found, expected)
        frame = items.source.frame(index)
        assert frames.find(f"{frame.sequence}/{frame.name}") == frames.find(str(index)) == index
        assert scan.title == f"Training item {index} of {len(items)} (epoch 3, seed 5): {frame.sequence}, scan " + (
            frame.name
        )
    text, mixed = key(frames.read(0), None, "origin", DARK, 20), frames.read(0).mixed
    assert all(f"{name}: {(mixed == foreign).sum():,}" in text for foreign, name in enumerate(ORIGINS))


def test_items_without_another_scan_and_without_pictures(shown) -> None:
    assert view.main(["--config", VOXELS, "--set", OF_TREE]) == 0
    scan = shown[0][0].read(0)
    assert scan.mixed is None and not scan.cameras and len(scan.labels) == len(scan.xyz)


def test_a_picture_says_which_scan_a_point_is_from(tmp_path: Path) -> None:
    plain, mixed = tmp_path / "plain.png", tmp_path / "mixed.png"
    assert view.main(["--config", CONFIG, "--set", OF_TREE, CROP, "--output", str(plain)]) == 0
    assert view.main(["--config", CONFIG, "--set", OF_TREE, CROP, MIXED, "--output", str(mixed)]) == 0
    assert has_color(read(mixed), origin_colors(DARK)[1]) and not has_color(read(plain), origin_colors(DARK)[1])


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--config", VOXELS, "--data_path", "x"], "one of them"),
        (["--config", VOXELS, "--scans", "x"], "one of them"),
        (["--config", VOXELS, "--dataset", "semantickitti"], "--dataset has no effect beside --config"),
        (["--config", VOXELS, "--predictions", "x"], "--predictions has no effect beside --config"),
        (["--config", VOXELS, "--past_scans", "2"], "--past_scans has no effect beside --config"),
        (["--config", VOXELS, "--sequence", "08"], "--sequence has no effect beside --config"),
        (["--data_path", "x", "--seed", "0"], "--seed has no effect without --config"),
        (["--data_path", "x", "--epoch", "0"], "--epoch has no effect without --config"),
        (["--data_path", "x", "--set", "a=1"], "--set has no effect without --config"),
        (["--config", "nowhere.yaml"], "nowhere.yaml"),
        (["--config", VOXELS, "--set", "dataset_params.train_data_loader.data_path=nowhere"], "nowhere: no such"),
        (["--config", VOXELS, "--set", OF_TREE, "--frame", "99"], "--frame 99: no such training scan; give a number"),
    ],
)
def test_what_would_have_no_effect_or_is_missing_is_one_line(shown, capsys, flags: list[str], message: str) -> None:
    assert view.main(flags) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error and error.count("\n") == 1
    assert not shown
