"""Items of scans with their past, from a drive past points that stand still: all scans have the same, row by row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from dataloader.augment.mixing import INSTANCE_MIX
from dataloader.augment.options import AugmentOptions
from dataloader.augment.weather import CorruptionOptions, apply_corruption
from dataloader.datamodule import DataModule
from dataloader.dataset import SegmentationDataset
from dataloader.datasets.semantickitti.source import SemanticKITTI
from dataloader.sampler import EpochSampler
from tests.support.drives import MULTISCAN, lines_of, multiscan, place, write_drive, write_drives
from utils.config.loading import load_config
from utils.scan.batch import collate
from utils.scan.records import Sample, Scan
from utils.scan.sensor import SEMANTICKITTI

LOW, HIGH = (-16, -16, -4), (16, 16, 2)
CAMERA = AugmentOptions(bottom_crop=(48, 24), color_jitter=(0.4, 0.4, 0.4), flip2d=0.5)
TURNED = AugmentOptions(rotate=True, flip=True, scale=True, translate=True)
ALL = replace(CAMERA, rotate=True, flip=True, scale=True, translate=True, dropout=True, mixing=INSTANCE_MIX)
COLUMNS = ("xyz", "intensity", "labels", "instances", "index", "pixels", "ages")
CONFIGS = Path(__file__).parents[2] / "config"


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return write_drives(tmp_path_factory.mktemp("drives"))


def opened(root: Path, past_scans: int, images: bool = False) -> SemanticKITTI:
    return SemanticKITTI(root, "train", multiscan(), load_image=images, past_scans=past_scans)


def items(root: Path, augment: AugmentOptions | None, past_scans: int = 2, images: bool = False, **how):
    return SegmentationDataset(opened(root, past_scans, images), LOW, HIGH, augment, **how)


def of_age(scan: Scan, age: float) -> Scan:
    return scan.select(scan.ages == age)


def equal(one: Scan, other: Scan, columns: Sequence[str] = COLUMNS) -> bool:
    pairs = [(getattr(one, name), getattr(other, name)) for name in columns]
    same = all(a.dtype == b.dtype and np.array_equal(a, b, equal_nan=a.dtype.kind == "f") for a, b in pairs)
    return same and np.array_equal(np.asarray(one.image), np.asarray(other.image))


def in_three(scan: Scan) -> tuple[Scan, Scan, Scan]:
    """The points by age, which must come in this order and be the same points; cut at the faces of the volume."""
    now, last, before = (of_age(scan, age) for age in (0, 1, 2))
    assert (np.diff(scan.ages) >= 0).all() and len(now) + len(last) + len(before) == len(scan)
    assert len(now) == len(last) == len(before) > 100
    return now, last, before


def test_a_training_item_holds_the_past_scans_after_the_scan(root) -> None:
    scan = items(root, AugmentOptions())[3].scan
    now, *past = in_three(scan)
    alone = items(root, AugmentOptions(), past_scans=0)[3].scan
    assert equal(now, alone) and alone.age is None
    for old in past:
        assert np.allclose(old.xyz, now.xyz, rtol=0, atol=3e-5)
        assert equal(old, now, ("labels", "instances", "intensity"))
        assert (old.index == -1).all() and np.isnan(old.pixels).all()
    assert [len(set(items(root, AugmentOptions())[n].scan.ages)) for n in range(5)] == [1, 2, 3, 3, 3]


def test_all_points_are_augmented_by_the_same_transform(root) -> None:
    plain = items(root, AugmentOptions())[3].scan
    for epoch in range(4):
        scan = items(root, TURNED)[epoch, 3].scan
        now, *past = in_three(scan)
        assert np.abs(now.xyz - of_age(plain, 0).xyz).max() > 0.05
        assert all(np.allclose(old.xyz, now.xyz, rtol=0, atol=5e-5) for old in past)


def test_points_of_every_scan_are_dropped_by_draws_of_their_own(root) -> None:
    scan = items(root, AugmentOptions(dropout=True))[1, 3].scan
    plain = items(root, AugmentOptions())[3].scan
    kept = [set(of_age(scan, age).intensity.tolist()) for age in (0, 1, 2)]
    whole = set(of_age(plain, 0).intensity.tolist())
    assert all(0.75 * len(whole) < len(part) < len(whole) and part <= whole for part in kept)
    assert len({frozenset(part) for part in kept}) == 3
    assert equal(of_age(scan, 0), items(root, AugmentOptions(dropout=True), past_scans=0)[1, 3].scan)


def test_instances_are_mixed_in_with_their_own_past(root) -> None:
    options = AugmentOptions(mixing=INSTANCE_MIX)
    plain, ages = items(root, AugmentOptions()), set()
    for epoch in range(3):
        scan = items(root, options)[epoch, 4].scan
        own = len(plain[4].scan)
        assert equal(scan.select(np.arange(own)), plain[4].scan)
        pasted = scan.select(np.arange(own, len(scan)))
        assert (pasted.index == -1).all() and np.isnan(pasted.pixels).all() and (pasted.instances != 0).all()
        others = [plain[number].scan for number in range(5)]
        assert any(equal(pasted, other.select(other.instances != 0), ("xyz", "labels", "ages")) for other in others)
        ages.update(pasted.ages.tolist())
    assert ages == {0, 1, 2}


@pytest.mark.parametrize("mix", [False, True])
def test_labels_of_past_points_can_be_left_out_of_the_training(root, mix) -> None:
    """Without them, the instances to be mixed in are found all the same."""
    options = AugmentOptions(mixing=INSTANCE_MIX if mix else None, past_labels=False)
    scan, labelled = items(root, options)[2, 4].scan, items(root, replace(options, past_labels=True))[2, 4].scan
    assert equal(scan, labelled, ("xyz", "ages", "instances") if mix else ("xyz", "ages"))
    assert not scan.labels[scan.ages > 0].any() and labelled.labels[scan.ages > 0].all()
    assert np.array_equal(scan.labels[scan.ages == 0], labelled.labels[scan.ages == 0])
    batch = collate([Sample(scan)], with_images=False, input_dims=5)
    assert batch.counted is not None and np.array_equal(batch.counted.numpy(), scan.ages == 0)


def test_each_sweep_is_corrupted_by_draws_of_its_own_of_the_same_corruption(root, monkeypatch) -> None:
    drawn = []

    def spy(subset, scan, rng, sensor):
        drawn.append((subset.name, scan.frame.name, len(scan)))
        found = apply_corruption(subset, scan, rng, sensor)
        assert scan.age is None
        return found

    monkeypatch.setattr("dataloader.dataset.apply_corruption", spy)
    corruption = CorruptionOptions(1.0, ("motion_blur", "global_outliers"), SEMANTICKITTI)
    names = set()
    for epoch in range(6):
        drawn.clear()
        scan = items(root, AugmentOptions(corruption=corruption))[epoch, 3].scan
        assert [name for _, name, _ in drawn] == ["000003", "000002", "000001"]
        assert {count for _, _, count in drawn} == {300}  # whole sweeps, before the crop
        assert len({name for name, _, _ in drawn}) == 1
        assert set(scan.ages.tolist()) == {0, 1, 2}
        names.add(drawn[0][0])
        if drawn[0][0].startswith("motion_blur"):
            now, last = of_age(scan, 0), of_age(scan, 1)
            noise = {value: row for row, value in enumerate(now.intensity.tolist())}
            rows = [(noise[value], row) for row, value in enumerate(last.intensity.tolist()) if value in noise]
            apart = np.abs(now.xyz[[a for a, _ in rows]] - last.xyz[[b for _, b in rows]])
            assert len(rows) > 50 and np.median(apart) > 1e-3  # not the same noise
    assert len(names) > 1


def test_past_scans_stay_clean_where_the_corruption_left_nothing_of_the_scan(root, monkeypatch) -> None:
    monkeypatch.setattr("dataloader.dataset.apply_corruption", lambda subset, scan, *_: scan.select(np.arange(0)))
    corruption = CorruptionOptions(1.0, ("fog",), SEMANTICKITTI)
    assert equal(items(root, AugmentOptions(corruption=corruption))[3].scan, items(root, AugmentOptions())[3].scan)


def test_the_image_is_that_of_the_scan_and_past_points_have_no_pixel(root) -> None:
    with_past, alone = items(root, CAMERA, images=True)[2, 3].scan, items(root, CAMERA, 0, images=True)[2, 3].scan
    assert with_past.image is not None and equal(of_age(with_past, 0), alone)
    assert np.isfinite(with_past.pixels[with_past.ages == 0]).any()
    assert np.isnan(with_past.pixels[with_past.ages > 0]).all()
    batch = collate([Sample(with_past)], with_images=True, input_dims=5)
    assert (batch.points[batch.visible, 4] == 0).all() and len(batch.visible) > 5


def first_of(samples):
    return samples[0]


def test_an_item_is_a_function_of_seed_epoch_and_index(root) -> None:
    """Whatever was asked for before, and whichever loader process makes it."""
    corruption = CorruptionOptions(0.5, ("motion_blur", "crosstalk"), SEMANTICKITTI)
    data = items(root, replace(ALL, corruption=corruption), images=True, seed=7)
    again = items(root, replace(ALL, corruption=corruption), images=True, seed=7)
    assert data[1, 2] is not None
    assert equal(data[3, 4].scan, again[3, 4].scan) and not equal(data[3, 4].scan, data[2, 4].scan)
    sampler = EpochSampler(len(data), seed=1)
    sampler.set_epoch(2)
    alone, two = (
        [sample.scan for sample in DataLoader(data, sampler=sampler, num_workers=workers, collate_fn=first_of)]
        for workers in (0, 2)
    )
    assert len(alone) == 5 and all(equal(a, b) for a, b in zip(alone, two, strict=True))


def test_an_evaluation_item_scores_the_scan_alone(root) -> None:
    with_past, alone = items(root, None, num_vote=3)[3], items(root, None, 0, num_vote=3)[3]
    now, *past = in_three(with_past.scan)
    assert equal(now, alone.scan)
    assert all(np.allclose(old.xyz, now.xyz, rtol=0, atol=3e-5) and not old.labels.any() for old in past)
    assert with_past.whole is not None and alone.whole is not None
    for name in ("xyz", "labels", "inside", "donor"):
        assert torch.equal(getattr(with_past.whole, name), getattr(alone.whole, name))
    assert with_past.views is not None and np.array_equal(with_past.views, np.asarray(alone.views))


def test_views_of_a_vote_keep_the_age_and_move_all_points_alike(root) -> None:
    data = items(root, None, num_vote=3)
    batch = collate([data[2], data[3]], with_images=False, input_dims=5)
    four = collate([data[2], data[3]], with_images=False)
    assert batch.points.shape[1] == 5 and four.points.shape[1] == 4
    for number in range(3):
        seen = batch.view(number).points
        assert torch.equal(seen[:, 3:], batch.points[:, 3:])
        assert torch.allclose(seen[:, :4], four.view(number).points, rtol=0, atol=2e-6)
        three = seen[batch.scan_ids == 1]
        now, last, before = (three[three[:, 4] == age, :3] for age in (0, 1, 2))
        assert torch.allclose(last, now, rtol=0, atol=5e-5) and torch.allclose(before, now, rtol=0, atol=5e-5)


def test_a_batch_of_one_scan_each_has_ages_of_zero(golden_sequences, label_map) -> None:
    """`past_scans: 0` with five columns: the four others are what they are for a network of four."""
    data = SegmentationDataset(SemanticKITTI(golden_sequences, "valid", label_map), (-50, -50, -4), (50, 50, 2))
    assert data[0].scan.age is None
    five, four = (collate([data[0], data[1]], with_images=False, input_dims=columns) for columns in (5, 4))
    assert torch.equal(five.points[:, :4], four.points) and (five.points[:, 4] == 0).all()
    assert torch.equal(five.labels, four.labels) and torch.equal(five.scan_ids, four.scan_ids)


def test_the_debug_limit_is_of_scans_and_not_of_their_past(root) -> None:
    data = items(root, AugmentOptions(mixing=INSTANCE_MIX), limit=4)
    assert len(data) == 4 and set(data[3].scan.ages.tolist()) == {0, 1, 2}


@pytest.mark.parametrize("part", ["train", "trainval", "valid", "test"])
def test_the_config_opens_all_parts_with_past(root, part) -> None:
    """Loaders of the data module, for all four parts; evaluation batches carry five columns."""
    paths = [f"dataset_params.{loader}_data_loader.data_path={root}" for loader in ("train", "val")]
    small = ["dataset_params.bottom_crop=[48,32]", f"train_params.trainval={str(part == 'trainval').lower()}"]
    config = load_config(CONFIGS / "2DPASS-multiscan-demo.yaml", [*paths, *small])
    training = part in ("train", "trainval")
    data = DataModule(config, multiscan(), fit=training, submit=part == "test")
    loader = data.train_dataloader() if training else data.val_dataloader()
    batches = [batch.to("cpu") for batch in loader]
    assert len(batches) == {"train": 5, "trainval": 9, "valid": 4, "test": 3}[part]
    assert all(batch.points.shape[1] == 5 for batch in batches)
    assert max(float(batch.points[:, 4].max()) for batch in batches) == 2
    assert MULTISCAN.name in str(config.dataset_params.label_mapping)


@pytest.mark.parametrize("augment", [None, AugmentOptions()])
def test_past_scans_from_which_the_poses_jump_away_do_not_disturb_the_scan(tmp_path, augment) -> None:
    """Without a volume, as for the voxel models: the middle of all points would be far from the scan."""
    folder, unbounded = write_drive(tmp_path / "00", range(4)), ((-np.inf,) * 3, (np.inf,) * 3)
    source = SemanticKITTI(tmp_path, "train", multiscan(), past_scans=2)
    near = SegmentationDataset(source, *unbounded, augment)[3].scan
    poses = [place(number) for number in range(4)]
    for number in (1, 2):
        poses[number][0, 3] += 1e6
    (folder / "poses.txt").write_text(lines_of(poses))
    source = SemanticKITTI(tmp_path, "train", multiscan(), past_scans=2)
    scan = SegmentationDataset(source, *unbounded, augment)[3].scan
    assert set(near.ages) == {0, 1, 2} and set(scan.ages) == {0}
    assert equal(scan, of_age(near, 0))
