from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from dataloader.augment.mixing import INSTANCE_MIX
from dataloader.augment.options import AugmentOptions
from dataloader.dataset import SegmentationDataset
from dataloader.datasets.semantickitti.source import SemanticKITTI
from dataloader.sampler import EpochSampler
from utils.scan.records import Sample

LOW, HIGH = (-50, -50, -4), (50, 50, 2)
ALL = AugmentOptions(True, True, True, True, True, INSTANCE_MIX, (200, 80), (0.4, 0.4, 0.4), 0.5)


@pytest.fixture(scope="module")
def train(golden_sequences, label_map):
    return SemanticKITTI(golden_sequences, "train", label_map, load_image=True)


@pytest.fixture(scope="module")
def valid(golden_sequences, label_map):
    return SemanticKITTI(golden_sequences, "valid", label_map)


def equal(one: Sample, other: Sample) -> bool:
    names = ("xyz", "intensity", "labels", "instances", "index", "pixels", "image")
    pairs = [(getattr(one.scan, name), getattr(other.scan, name)) for name in names]
    return all(a.shape == b.shape and np.array_equal(a, b, equal_nan=a.dtype.kind == "f") for a, b in pairs)


def test_a_training_item_is_a_function_of_seed_epoch_and_index(train):
    data, again = (SegmentationDataset(train, LOW, HIGH, ALL, seed=5) for _ in range(2))
    item = data[3, 1]
    assert data[2, 0] is not None  # what was asked for before does not matter
    assert equal(item, again[3, 1])
    assert equal(data[1], data[0, 1])
    assert not equal(item, data[4, 1])
    assert not equal(item, SegmentationDataset(train, LOW, HIGH, ALL, seed=6)[3, 1])


def collate_first(samples):
    return samples[0]


def test_workers_give_the_same_items(train):
    data = SegmentationDataset(train, LOW, HIGH, ALL)
    sampler = EpochSampler(len(data), seed=1)
    sampler.set_epoch(2)
    items = {
        workers: list(DataLoader(data, sampler=sampler, num_workers=workers, collate_fn=collate_first))
        for workers in (0, 2)
    }
    assert len(items[0]) == 2
    assert all(equal(a, b) for a, b in zip(items[0], items[2], strict=True))


def test_a_training_item_in_full(train, golden_sequences):
    data = SegmentationDataset(train, LOW, HIGH, ALL, seed=1)
    dropped = set()
    for epoch in range(6):
        scan = data[epoch, 0].scan
        own, mixed = scan.select(scan.index >= 0), scan.select(scan.index < 0)
        source = train.read(0, None)
        assert np.array_equal(own.labels, source.labels[own.index])
        assert (np.diff(own.index) > 0).all()
        assert (mixed.instances > 0).all() and np.isnan(mixed.pixels).all()
        dropped.add(len(own))
        assert scan.image is not None and scan.image.shape == (80, 200, 3)
        seen = scan.pixels[~np.isnan(scan.pixels[:, 0])]
        assert (seen >= 0).all() and (seen < [80, 200]).all()
    assert len(dropped) > 1


def test_image_and_pixels_stay_together_through_a_whole_item(train, monkeypatch):
    """Every pixel is painted with its own row and column; what a point sees must be its own pixel in the end."""
    painted = np.zeros((96, 320, 3), np.uint8)
    painted[..., 0] = np.arange(96)[:, None]
    painted[..., 1], painted[..., 2] = np.arange(320) // 256, np.arange(320) % 256
    monkeypatch.setattr("dataloader.datasets.semantickitti.source.read_image", lambda path: painted)
    options = AugmentOptions(True, True, True, True, True, bottom_crop=(200, 80), flip2d=0.5)
    measured = train.read(1).pixels
    for epoch in range(8):
        scan = SegmentationDataset(train, LOW, HIGH, options)[epoch, 1].scan
        seen = ~np.isnan(scan.pixels[:, 0])
        assert seen.sum() > 100 and scan.image is not None
        colour = scan.image[tuple(scan.pixels[seen].astype(int).T)].astype(int)
        row, col = np.floor(measured[scan.index[seen]]).T
        assert np.array_equal(colour[:, 0], row)
        assert np.array_equal(colour[:, 1] * 256 + colour[:, 2], col)


def test_mixing_reads_the_second_scan_without_its_image(train, monkeypatch):
    read = []
    original = SemanticKITTI.read

    def spy(self, index, camera=0):
        read.append(camera)
        return original(self, index, camera)

    monkeypatch.setattr(SemanticKITTI, "read", spy)
    scan = SegmentationDataset(train, LOW, HIGH, ALL)[0].scan
    assert read == [0, None]
    assert (scan.index == -1).any()


def test_a_source_without_images_trains_without(golden_sequences, label_map):
    source = SemanticKITTI(golden_sequences, "train", label_map)
    scan = SegmentationDataset(source, LOW, HIGH, ALL)[0].scan
    assert scan.image is None and np.isnan(scan.pixels).all()


def test_votes_read_the_scan_once(valid, monkeypatch):
    read = []
    original = SemanticKITTI.read
    monkeypatch.setattr(SemanticKITTI, "read", lambda self, i, camera=0: read.append(i) or original(self, i, camera))
    sample = SegmentationDataset(valid, LOW, HIGH, num_vote=12)[1]
    assert read == [1]
    assert sample.views is not None and sample.views.shape == (12, 3, 4)


def test_views_depend_on_seed_and_index_only(valid):
    data = SegmentationDataset(valid, LOW, HIGH, num_vote=4, seed=1)
    other = SegmentationDataset(valid, LOW, HIGH, num_vote=4, seed=2)
    one, same, next_item, other_seed = (item.views for item in (data[0], data[7, 0], data[1], other[0]))
    assert one is not None and same is not None and next_item is not None and other_seed is not None
    assert np.array_equal(one, same)
    assert not np.array_equal(one, next_item) and not np.array_equal(one, other_seed)
    assert SegmentationDataset(valid, LOW, HIGH)[0].views is None


def test_an_evaluation_item_is_the_scan_as_measured(valid):
    sample = SegmentationDataset(valid, LOW, HIGH)[0]
    measured = valid.read(0)
    assert sample.whole is not None
    assert np.array_equal(sample.whole.xyz.numpy(), measured.xyz)
    assert np.array_equal(sample.scan.xyz, measured.xyz[sample.whole.inside.numpy()])
    assert np.array_equal(sample.scan.index, np.flatnonzero(sample.whole.inside.numpy()))
    assert [t.dtype for t in (sample.whole.xyz, sample.whole.labels, sample.whole.inside, sample.whole.donor)] == [
        torch.float32, torch.uint8, torch.bool, torch.int64,
    ]  # fmt: skip


def test_limit_and_bounds(train):
    assert len(SegmentationDataset(train, LOW, HIGH, ALL)) == 2
    assert len(SegmentationDataset(train, LOW, HIGH, ALL, limit=100)) == 2
    first = SegmentationDataset(train, LOW, HIGH, ALL, limit=1)
    assert len(first) == 1
    for index in (1, -1):
        with pytest.raises(IndexError):
            first[index]


def test_it_can_be_sent_to_a_worker(valid):
    data = pickle.loads(pickle.dumps(SegmentationDataset(valid, LOW, HIGH)))
    assert len(data[1].scan) == len(SegmentationDataset(valid, LOW, HIGH)[1].scan)
