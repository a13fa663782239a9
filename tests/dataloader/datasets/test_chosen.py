"""The choice of a part of the training scans, and that nothing of the labels of the others reaches a training item."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dataloader.augment.mixing import INSTANCE_MIX
from dataloader.augment.options import AugmentOptions
from dataloader.datamodule import DataModule
from dataloader.dataset import SegmentationDataset
from dataloader.datasets.chosen import choose, evenly_chosen
from dataloader.datasets.nuscenes.source import NuScenes
from dataloader.datasets.semantickitti.source import SemanticKITTI
from dataloader.datasets.source import Source
from tests.support.drives import multiscan, write_drive
from tests.support.nuscenes import write_tree
from utils.config.loading import load_config
from utils.labels import LabelMap
from utils.scan.records import Scan

ROOT = Path(__file__).parents[3]
BOX = (-100.0,) * 3, (100.0,) * 3
ALL = AugmentOptions(rotate=True, flip=True, scale=True, translate=True, dropout=True, mixing=INSTANCE_MIX)


@pytest.mark.parametrize("number", [1, 2, 3, 7, 100, 191, 4097, 19130])
def test_the_choice_is_even_and_a_smaller_one_is_part_of_a_larger(number: int) -> None:
    before: set[int] = set()
    for fraction in (1e-4, 0.001, 0.01, 0.1, 0.25, 0.6, 0.999, 1.0):
        chosen = evenly_chosen(number, fraction)
        assert len(chosen) == max(1, round(number * fraction)) and before <= set(chosen)
        assert chosen == sorted(set(chosen)) and set(chosen) <= set(range(number))
        # Every stretch of the list has its share of the choice, but for a few scans.
        for first, last in ((0, 0.07), (0.3, 0.55), (0.5, 1), (0.93, 1)):
            inside = sum(first * number <= index < last * number for index in chosen)
            assert abs(inside - (last - first) * len(chosen)) < 3.5
        gaps = np.diff(np.array([*chosen, chosen[0] + number]))  # from the last one on to the first
        assert gaps.max() <= 2 * number / len(chosen) + 1
        before = set(chosen)
    assert chosen == list(range(number))


def kitti(root: Path) -> Source:
    return SemanticKITTI(root, "train", multiscan(), past_scans=3)


def nus(root: Path) -> Source:
    label_map = LabelMap.load(ROOT / "config" / "label_mapping" / "nuscenes.yaml")
    return NuScenes(root, "v1.0-mini", "mini_train", label_map, past_sweeps=6)


def items(source: Source) -> list[Scan]:
    dataset = SegmentationDataset(source, *BOX, ALL, seed=3)
    return [dataset[epoch, index].scan for epoch in range(2) for index in range(len(dataset))]


def alike(one: Scan, other: Scan) -> bool:
    columns = ("xyz", "labels", "instances", "ages")
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in columns)


def all_alike(some: list[Scan], others: list[Scan]) -> bool:
    return len(some) == len(others) and all(map(alike, some, others))


@pytest.mark.parametrize("kind", ["SemanticKITTI", "nuScenes"])
def test_labels_of_the_other_scans_are_never_used(tmp_path: Path, kind: str) -> None:
    """Neither of scans that are mixed in, nor of past ones, whose points are there all the same."""
    if kind == "SemanticKITTI":
        root = write_drive(tmp_path / "data" / "00", range(7)).parent
        whole, files = kitti(root), {path.stem: path for path in root.glob("00/labels/*.label")}
    else:
        root = write_tree(tmp_path / "data", scenes={"scene-0061": 7}, sweeps=1)
        whole = nus(root)
        files = {path.name.removesuffix("_lidarseg.bin"): path for path in root.glob("lidarseg/*/*_lidarseg.bin")}
    chosen = choose(whole, 0.6)
    names = {chosen.frame(index).name for index in range(len(chosen))}
    assert len(names) == round(0.6 * len(whole)) and names < {whole.frame(index).name for index in range(len(whole))}
    before = items(chosen)
    assert any((scan.labels[scan.ages > 0] > 0).any() for scan in before)  # of past scans that are chosen
    for index in range(len(whole)):
        if (name := whole.frame(index).name) not in names:
            content = np.fromfile(files[name], np.uint8)
            np.zeros_like(content).tofile(files[name])
    assert all_alike(items(chosen), before)
    assert max(len(set(scan.ages.tolist())) for scan in before) > 2


def test_all_scans_are_the_items_of_a_training_without_the_key(tmp_path: Path) -> None:
    whole = kitti(write_drive(tmp_path / "data" / "00", range(4)).parent)
    assert all_alike(items(choose(whole, 1.0)), items(whole))


@pytest.mark.parametrize(("size", "steps"), [("null", 1), ("19132", 191), ("1", 1)])
def test_an_epoch_has_its_share_of_the_steps(golden_sequences, label_map, size: str, steps: int) -> None:
    loaders = [f"dataset_params.{part}_data_loader.data_path={golden_sequences}" for part in ("train", "val")]
    settings = [*loaders, "dataset_params.train_data_loader.batch_size=1", "dataset_params.label_fraction=0.01"]
    config = load_config(ROOT / "config" / "2DPASS-demo.yaml", [*settings, f"dataset_params.training_size={size}"])
    data = DataModule(config, label_map, fit=True, images=False)
    assert data.steps_per_epoch == steps and data.training_set is not None and len(data.training_set) == 1
    whole = load_config(ROOT / "config" / "2DPASS-demo.yaml", loaders)
    every = DataModule(whole, label_map, fit=True, images=False)
    assert data.statistics != every.statistics
    assert data.evaluation_set.fingerprint() == every.evaluation_set.fingerprint()
