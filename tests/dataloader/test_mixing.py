"""Mixed training items of every data set, with images, past scans and corruptions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from torch.utils.data import DataLoader

from dataloader.augment.mixing import INSTANCE_MIX, ChosenMixing, Mixing
from dataloader.augment.mixing_paste import InstancePaste
from dataloader.augment.options import AugmentOptions
from dataloader.catalogue import load_label_map
from dataloader.datamodule import DataModule
from dataloader.dataset import SegmentationDataset
from dataloader.mixing import mixing_of
from dataloader.objects.cutting import Cut
from tests.support.drives import write_drives
from tests.support.scenes import CAR, ROAD, SIDEWALK, street_scan, write_streets
from utils.config.data import MIX_SEMKITTI
from utils.config.loading import load_config
from utils.errors import UserError
from utils.scan.records import Scan

CONFIGS = Path(__file__).parents[2] / "config"
COLUMNS = ("xyz", "intensity", "labels", "instances", "index", "pixels", "ages")
PAIRS = "{choose: each, laser_mix: {chance: 1}, polar_mix: {chance: 1}}"
MINI = "dataset_params.version=v1.0-mini"
CORRUPTED = "dataset_params.corruption_aug={chance: 1, corruptions: [local_distortion, reduce_beams]}"
PAST = (
    "dataset_params.label_mapping=./config/label_mapping/semantic-kitti-multiscan.yaml",
    "dataset_params.past_scans=2",
    "model_params.input_dims=5",
    "model_params.num_classes=26",
)


@pytest.fixture(scope="module")
def roots(tmp_path_factory, golden_sequences, demo_trees) -> dict[str, Path]:
    drives = write_drives(tmp_path_factory.mktemp("drives"))
    return {"golden": golden_sequences, "drives": drives, "nuScenes": demo_trees["nuScenes"]}


def items(root: Path, name: str, *settings: str) -> SegmentationDataset:
    data = [f"dataset_params.{part}_data_loader.data_path={root}" for part in ("train", "val")]
    config = load_config(CONFIGS / f"{name}.yaml", [*data, *settings])
    trained = DataModule(config, load_label_map(config), fit=True, seed=3).training_set
    assert trained is not None
    return trained


def equal(one: Scan, other: Scan) -> bool:
    pairs = [(getattr(one, name), getattr(other, name)) for name in COLUMNS]
    same = all(np.array_equal(a, b, equal_nan=a.dtype.kind == "f") for a, b in pairs)
    return same and np.array_equal(np.asarray(one.image), np.asarray(other.image))


@cache
def objects():
    """Objects of a made-up street as those of any data set with the same labels."""
    return Cut((CAR,), (ROAD, SIDEWALK), 20).objects(street_scan(0), 0)


def with_paste(data: SegmentationDataset) -> SegmentationDataset:
    """Pastes objects, beside the kinds of the data set."""
    assert data.augment is not None
    kinds = () if data.augment.mixing is None else data.augment.mixing.kinds
    paste = ChosenMixing((InstancePaste(objects(), 5, (CAR,), (ROAD, SIDEWALK)),))
    data.augment = replace(data.augment, mixing=Mixing((*kinds, (paste, 1.0)), one_of=False))
    return data


CASES = {
    "2DPASS with images": ("golden", "2DPASS-demo", ()),
    "voxel model": ("golden", "MinkowskiNet-demo", ()),
    "past scans": ("drives", "2DPASS-demo", (*PAST, "dataset_params.bottom_crop=[48,16]")),
    "past scans without labels": ("drives", "MinkowskiNet-demo", (*PAST, "dataset_params.past_labels=false")),
    "corruptions": ("golden", "2DPASS-demo", (CORRUPTED,)),
    "nuScenes": ("nuScenes", "2DPASS-nuscenes-demo", ()),
    "nuScenes, corrupted": ("nuScenes", "MinkowskiNet-nuscenes", (MINI, CORRUPTED)),
}


@pytest.mark.parametrize("case", CASES)
def test_mixed_items(roots, case) -> None:
    tree, config, settings = CASES[case]
    data = with_paste(items(roots[tree], config, f"dataset_params.mixing={PAIRS}", *settings))
    plain = items(roots[tree], config, *settings)
    for number in range(len(data)):
        scan = data[2, number].scan
        assert equal(scan, data[2, number].scan) and not equal(scan, data[3, number].scan)
        added = scan.index == -1
        assert added.any() and np.isnan(scan.pixels[added]).all()
        assert np.isfinite(scan.xyz).all()
        if config.startswith("2DPASS"):
            assert scan.image is not None and scan.image.shape == plain[2, number].scan.image.shape  # type: ignore[union-attr]
            seen = scan.pixels[~np.isnan(scan.pixels[:, 0])]
            assert (seen >= 0).all() and (seen < scan.image.shape[:2]).all()
    if "past scans" in case:
        assert any(len(set(data[epoch, 0].scan.ages.tolist())) > 1 for epoch in range(8))
    if "without labels" in case:
        scans = [data[epoch, 4].scan for epoch in range(3)]
        assert not any(scan.labels[scan.ages > 0].any() for scan in scans) and any(scan.labels.any() for scan in scans)


def test_items_do_not_depend_on_loader_processes(roots) -> None:
    data = with_paste(items(roots["drives"], "2DPASS-demo", *CASES["past scans"][2], f"dataset_params.mixing={PAIRS}"))
    keys = [(epoch, index) for epoch in range(2) for index in range(5)]

    def read(workers: int) -> Iterator[Scan]:
        loader = DataLoader(data, batch_size=None, sampler=keys, num_workers=workers, collate_fn=lambda item: item.scan)  # type: ignore[arg-type]
        yield from loader

    assert all(equal(one, other) for one, other in zip(read(0), read(2), strict=True))


def points_of(scan: Scan) -> set[tuple]:
    return set(zip(map(tuple, scan.xyz.tolist()), scan.labels.tolist(), scan.ages.tolist(), strict=True))


def test_pairs_are_mixed_with_another_scan_and_its_past(roots) -> None:
    """In LaserMix without augmentation every point is one of either scan, past points with their ages."""
    plainly = [
        f"dataset_params.train_data_loader.{name}_aug=false" for name in ("rotate", "flip", "scale", "transform")
    ]
    plainly.append("dataset_params.train_data_loader.dropout_aug=false")
    settings = (*PAST, *plainly)
    plain = [item.scan for item in map(items(roots["drives"], "MinkowskiNet-demo", *settings).__getitem__, range(5))]
    mixed = items(roots["drives"], "MinkowskiNet-demo", "dataset_params.mixing={laser_mix: {chance: 1}}", *settings)
    rows = [
        set(zip(map(tuple, scan.xyz.tolist()), scan.labels.tolist(), scan.ages.tolist(), strict=True)) for scan in plain
    ]
    partners = set()
    for epoch in range(12):
        scan = mixed[epoch, 4].scan
        points = points_of(scan)
        rest = points - rows[4]
        (other,) = [number for number in range(4) if rest and rest <= rows[number]]
        assert points & rows[4] and len(points) == len(scan)
        partners.add(other)
    assert len(partners) > 2


def test_which_kinds_an_item_gets() -> None:
    first, second = (ChosenMixing((InstancePaste(objects(), most, (CAR,), (ROAD,)),)) for most in (1, 2))

    def shares(one: float, two: float, one_of: bool) -> list[float]:
        """The shares of items with none, with the first kind, with the second, and with both in this order."""
        mixing, rng = Mixing(((first, one), (second, two)), one_of), np.random.default_rng(0)
        found = [tuple(pair.most for pair in mixing.choose(rng).pairs) for _ in range(2000)]  # type: ignore[attr-defined]
        return [found.count(kinds) / 2000 for kinds in ((), (1,), (2,), (1, 2))]

    assert np.allclose(shares(0.5, 0.3, one_of=True), [0.2, 0.5, 0.3, 0], atol=0.04)
    assert np.allclose(shares(0.5, 0.3, one_of=False), [0.35, 0.35, 0.15, 0.15], atol=0.04)
    assert shares(0.5, 0.5, one_of=True)[0] == 0  # as mmdetection3d has it: always one


def test_the_published_mixing_is_the_kind_with_chance_one(roots) -> None:
    published = items(roots["golden"], "2DPASS-demo", "dataset_params.dataset_type=point_image_dataset_mix_semkitti")
    kind = items(roots["golden"], "2DPASS-demo", "dataset_params.mixing={instance_mix: {chance: 1}}")
    direct = SegmentationDataset(published.source, published.low, published.high, published.augment, seed=3)
    assert direct.augment is not None and direct.augment.mixing == INSTANCE_MIX
    for key in ((0, 0), (0, 1), (4, 1)):
        assert equal(published[key].scan, kind[key].scan) and (published[key].scan.index == -1).any()


def test_things_and_bands_are_those_of_the_data_set(roots) -> None:
    cases = (
        ("golden", "MinkowskiNet-demo", (), (-25, 3), set(range(1, 9))),
        ("drives", "MinkowskiNet-demo", PAST, (-25, 3), {*range(1, 9), *range(20, 26)}),
        ("nuScenes", "MinkowskiNet-nuscenes", (MINI,), (-30, 10), set(range(1, 11))),
    )
    for tree, config, settings, degrees, things in cases:
        data = items(roots[tree], config, f"dataset_params.mixing={PAIRS}", *settings)
        assert data.augment is not None and data.augment.mixing is not None
        ((laser,), (polar,)) = (kind.pairs for kind, _ in data.augment.mixing.kinds)
        assert np.allclose(np.degrees(laser.pitch), degrees)  # type: ignore[attr-defined]
        assert set(polar.things) == things  # type: ignore[attr-defined]
    with pytest.raises(UserError, match=r"mixing\.instance_mix: the scans of nuScenes have no instance ids"):
        items(roots["nuScenes"], "MinkowskiNet-nuscenes", MINI, "dataset_params.mixing={instance_mix: {chance: 1}}")


def test_scans_without_instance_ids(tmp_path) -> None:
    """A data set in SemanticKITTI's layout need not have any: no instance would ever be mixed in, objects still are."""
    root = write_streets(tmp_path / "sequences")
    for path in root.rglob("*.label"):
        (np.fromfile(path, "<u4") & 0xFFFF).astype("<u4").tofile(path)
    source = items(root, "MinkowskiNet-demo").source
    for key, value in (("mixing", "{instance_mix: {chance: 0.5}}"), ("dataset_type", MIX_SEMKITTI)):
        config = load_config(CONFIGS / "2DPASS-demo.yaml", [f"dataset_params.{key}={value}"])
        with pytest.raises(UserError, match=f"{key}.*none of the 4 training scans has an instance id"):
            mixing_of(config, load_label_map(config), source, 4)
    paste = f"dataset_params.mixing={{instance_paste: {{chance: 1, database: {tmp_path / 'base'}}}}}"
    assert (items(root, "MinkowskiNet-demo", paste)[0].scan.index == -1).any()


def test_an_item_stays_inside_the_volume(tmp_path) -> None:
    """Turned and pasted things may come to lie beyond a corner of it."""
    streets = write_streets(tmp_path / "sequences")
    data = items(streets, "MinkowskiNet-demo", "dataset_params.mixing={polar_mix: {chance: 1}}")
    low, high = (-30, -4, -4), (30, 14, 2)
    kept = SegmentationDataset(data.source, low, high, AugmentOptions(mixing=data.augment.mixing), seed=1)  # type: ignore[union-attr]
    for epoch in range(4):
        scan = with_paste(kept)[epoch, 0].scan
        assert ((scan.xyz > low) & (scan.xyz < high)).all()
