"""Augmentation by corruptions, from the key in the YAML to the training item."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from dataloader.augment import weather as augment
from dataloader.augment.mixing import INSTANCE_MIX
from dataloader.augment.options import AugmentOptions
from dataloader.augment.weather import CorruptionOptions, apply_corruption, draw_corruption, severities_of
from dataloader.corruptions.sweep import Sweep
from dataloader.datamodule import DataModule, _augmentation
from dataloader.dataset import SegmentationDataset
from dataloader.datasets.semantickitti.source import SemanticKITTI
from tests.support.configs import RAW_NUSCENES, set_key
from tests.support.weather import random_sweep
from utils.config.data import CORRUPTIONS
from utils.config.loading import load_config
from utils.config.schema import Config
from utils.corruptions import LOOK_AT_LABELS
from utils.scan.records import Scan
from utils.scan.sensor import NUSCENES, SEMANTICKITTI

LOW, HIGH = (-50, -50, -4), (50, 50, 2)
NAMES = ("xyz", "intensity", "labels", "instances", "index", "pixels")
SENSORS = pytest.mark.parametrize("sensor", [SEMANTICKITTI, NUSCENES], ids=lambda sensor: sensor.name)


def corrupt_scan(scan, names, rng, sensor):
    return apply_corruption(draw_corruption(names, rng, sensor), scan, rng, sensor)


def equal(one: Scan, other: Scan) -> bool:
    pairs = [(getattr(one, name), getattr(other, name)) for name in NAMES]
    return all(np.array_equal(a, b, equal_nan=a.dtype.kind == "f") for a, b in pairs)


@SENSORS
def test_the_names_are_those_the_config_knows(sensor):
    assert set(severities_of(sensor)) == set(CORRUPTIONS)
    assert all(len(severities) >= 3 for severities in severities_of(sensor).values())


@SENSORS
def test_every_sensor_with_fewer_beams_has_fewer_points(sensor):
    """nuScenes has 32 beams: keeping 32 with all their points changes nothing, keeping half of their points does."""
    ring = np.repeat(np.arange(sensor.beams, dtype=np.int32), 10)
    xyz = np.ones((len(ring), 3), np.float32)
    nothing = np.zeros(len(ring), np.uint8)
    sweep = Sweep(xyz, xyz[:, 0], nothing, ring, np.arange(len(ring)), nothing.astype(bool), sensor)
    left = {s.name: len(s.apply(sweep, np.random.default_rng(0))) for s in severities_of(sensor)["reduce_beams"]}
    expected = {"dense_32beam": 320, "sparse_32beam": 160, "dense_16beam": 160, "sparse_16beam": 80}
    assert left == {name: count for name, count in expected.items() if count < len(ring)}


@SENSORS
@pytest.mark.parametrize("name", CORRUPTIONS)
def test_columns_follow_their_points(make_scan, sensor, name):
    scan = make_scan(4000)
    scan = replace(scan, intensity=scan.intensity * sensor.intensity_max, index=scan.index + 7)
    before = {column: getattr(scan, column).copy() for column in NAMES}
    for seed in range(4):
        found = corrupt_scan(scan, [name], np.random.default_rng(seed), sensor)
        assert all(np.array_equal(before[column], getattr(scan, column), equal_nan=True) for column in before)
        assert all(getattr(found, column).dtype == getattr(scan, column).dtype for column in NAMES)
        assert len({len(getattr(found, column)) for column in NAMES}) == 1
        assert found.image is scan.image and found.frame is scan.frame
        own = found.index >= 0
        rows = found.index[own] - 7
        kept = Scan.select(found, own)
        same_label = kept.labels == scan.labels[rows]
        assert ((kept.labels == 0) | same_label).all()
        altered = ~same_label
        assert np.isnan(kept.pixels[altered]).all() and (kept.instances[altered] == 0).all()
        labelled = kept.labels > 0  # surely not altered
        assert np.array_equal(kept.instances[labelled], scan.instances[rows][labelled])
        assert np.array_equal(kept.pixels[labelled], scan.pixels[rows][labelled], equal_nan=True)
        added = Scan.select(found, ~own)
        assert (added.labels == 0).all() and np.isnan(added.pixels).all() and (added.instances == 0).all()
        assert (len(added) > 0) == (name == "global_outliers")


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_which_corruptions_look_at_labels(name):
    """The others do the same to a scan whose labels are not known: a pre-training without labels may use them."""
    sweep = random_sweep(4000)
    labels = np.where(sweep.xyz[:, 2] < -1.7, SEMANTICKITTI.ground[0], 1).astype(np.uint8)
    same = True
    for drawn in severities_of(SEMANTICKITTI)[name]:
        known, unknown = (
            drawn.apply(replace(sweep, labels=labels * factor), np.random.default_rng(4)) for factor in (1, 0)
        )
        same &= np.array_equal(known.xyz, unknown.xyz) and np.array_equal(known.intensity, unknown.intensity)
    assert same == (name not in LOOK_AT_LABELS)


def test_names_and_severities_are_drawn_evenly(make_scan, monkeypatch):
    calls = []
    original = augment.CorruptedSubset.apply
    monkeypatch.setattr(augment.CorruptedSubset, "apply", lambda s, *args: calls.append(s.name) or original(s, *args))
    scan = make_scan(20)
    for seed in range(600):
        corrupt_scan(scan, ["crosstalk", "motion_blur"], np.random.default_rng(seed), SEMANTICKITTI)
    counts = Counter(calls)
    assert len(counts) == 6 and min(counts.values()) > 60
    with pytest.raises(ValueError, match="hail is no corruption"):
        corrupt_scan(scan, ["hail"], np.random.default_rng(0), SEMANTICKITTI)


def test_points_without_a_place_are_left_out(make_scan):
    scan = make_scan(300)
    scan.xyz[5] = np.nan
    for name in CORRUPTIONS:
        found = corrupt_scan(scan, [name], np.random.default_rng(0), SEMANTICKITTI)
        assert np.isfinite(found.xyz).all() and 5 not in found.index


@pytest.fixture(scope="module")
def train(golden_sequences, label_map):
    return SemanticKITTI(golden_sequences, "train", label_map, load_image=True)


def dataset(train, chance, names=("crosstalk", "global_outliers"), seed=3, **options):
    corruption = CorruptionOptions(chance, names, SEMANTICKITTI)
    return SegmentationDataset(train, LOW, HIGH, AugmentOptions(corruption=corruption, **options), seed=seed)


def test_items_are_a_function_of_seed_epoch_and_index(train):
    data, again = (dataset(train, 1.0, dropout=True, mixing=INSTANCE_MIX) for _ in range(2))
    item = data[2, 1].scan
    assert data[1, 0] is not None  # what was asked for before does not matter
    assert equal(item, again[2, 1].scan)
    assert not equal(item, data[3, 1].scan)
    assert not equal(item, dataset(train, 1.0, seed=4, dropout=True, mixing=INSTANCE_MIX)[2, 1].scan)


def test_chance_and_the_plain_item(train):
    plain = SegmentationDataset(train, LOW, HIGH, AugmentOptions(), seed=3)
    never, always, sometimes = (dataset(train, chance) for chance in (0.0, 1.0, 0.4))
    corrupted = []
    for epoch in range(60):
        clean = plain[epoch, 0].scan
        assert equal(never[epoch, 0].scan, clean)
        assert not equal(always[epoch, 0].scan, clean)
        corrupted.append(not equal(sometimes[epoch, 0].scan, clean))
    assert 12 < sum(corrupted) < 36


def test_the_whole_sweep_is_corrupted_before_the_crop(train, monkeypatch):
    sizes = []

    def spy(drawn, scan, rng, sensor):
        sizes.append(len(scan))
        return apply_corruption(drawn, scan, rng, sensor)

    monkeypatch.setattr("dataloader.dataset.apply_corruption", spy)
    item = dataset(train, 1.0, ("motion_blur",))[0].scan
    assert sizes == [len(train.read(0, None))] and len(item) < sizes[0]


def test_a_scan_of_which_nothing_is_left_stays_clean(train, monkeypatch):
    monkeypatch.setattr(
        "dataloader.dataset.apply_corruption", lambda drawn, scan, *args: scan.select(np.zeros(len(scan), dtype=bool))
    )
    plain = SegmentationDataset(train, LOW, HIGH, AugmentOptions(), seed=3)
    assert equal(dataset(train, 1.0)[0].scan, plain[0].scan)


def options_of(config: Config, label_map) -> AugmentOptions:
    trained = DataModule(config, label_map, fit=True).training_set
    assert trained is not None and trained.augment is not None
    return trained.augment


def test_the_key_in_the_config(label_map, golden_sequences):
    path = "config/2DPASS-demo.yaml"
    data = [f"dataset_params.{part}_data_loader.data_path={golden_sequences}" for part in ("train", "val")]
    assert options_of(load_config(path, data), label_map).corruption is None
    asked = [*data, "dataset_params.corruption_aug={chance: 0.3, corruptions: [fog, cross_sensor]}"]
    corruption = options_of(load_config(path, asked), label_map).corruption
    assert corruption == CorruptionOptions(0.3, ("fog", "cross_sensor"), SEMANTICKITTI)


def test_nuscenes_has_its_own_sensor():
    raw = {**RAW_NUSCENES, "dataset_params": dict(RAW_NUSCENES["dataset_params"])}
    set_key(raw, "dataset_params.corruption_aug", {"corruptions": ["snow"]})
    options = _augmentation(Config.model_validate(raw), True, None)
    assert options.corruption == CorruptionOptions(0.5, ("snow",), NUSCENES)
    assert options.flip2d == 0.5  # beside what images need
