from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from dataloader.dataset import SegmentationDataset
from dataloader.datasets.semantickitti.source import SemanticKITTI
from utils.scan.batch import collate, pack
from utils.scan.evaluation import evaluation_sample
from utils.scan.records import Sample, Scan
from utils.scan.views import random_views
from utils.scan.volume import in_volume


def test_training_batch(make_scan):
    scans = [make_scan(30, seed=1), make_scan(1, seed=2), make_scan(50, seed=3)]
    batch = collate([Sample(scan) for scan in scans], with_images=True)
    assert batch.lengths == (30, 1, 50) and batch.num_scans == 3
    assert batch.scan_ids.tolist() == [0] * 30 + [1] + [2] * 50
    assert batch.points.shape == (81, 4) and batch.labels.shape == (81,) and batch.pixels.shape == (81, 2)
    assert batch.images is not None and batch.images.shape == (3, 3, 24, 40)
    dtypes = (batch.points.dtype, batch.scan_ids.dtype, batch.labels.dtype, batch.pixels.dtype, batch.images.dtype)
    assert dtypes == (torch.float32, torch.int64, torch.int64, torch.int64, torch.uint8)
    assert batch.visible.dtype == torch.int64
    assert batch.visible.tolist() == [row for row, pixel in enumerate(batch.pixels.tolist()) if pixel != [-1, -1]]
    assert 0 < len(batch.visible) < 81
    assert batch.whole == () and batch.views is None
    for number, scan in enumerate(scans):
        assert np.array_equal(batch.images[number].permute(1, 2, 0).numpy(), scan.image)
        mine = batch.scan_ids == number
        assert np.array_equal(batch.points[mine, :3].numpy(), scan.xyz)
        assert np.array_equal(batch.points[mine, 3].numpy(), scan.intensity)
        assert np.array_equal(batch.labels[mine].numpy(), scan.labels)
        for pixel, measured in zip(batch.pixels[mine].tolist(), scan.pixels.tolist(), strict=True):
            assert pixel == ([-1, -1] if np.isnan(measured[0]) else [int(measured[0]), int(measured[1])])


def test_without_images_there_are_no_pixels(make_scan):
    batch = collate([Sample(make_scan())], with_images=False)
    assert batch.images is None and (batch.pixels == -1).all() and batch.pixels.dtype == torch.int64
    assert batch.visible.shape == (0,) and batch.visible.dtype == torch.int64


def test_images_must_be_there(make_scan):
    with pytest.raises(ValueError, match="without one"):
        collate([Sample(replace(make_scan(), image=None))], with_images=True)


def test_images_of_several_sizes_lie_in_the_upper_left_corner(make_scan):
    scans = [make_scan(), replace(make_scan(width=41), image=make_scan(width=41).image[:17])]
    batch = collate([Sample(scan) for scan in scans], with_images=True)
    assert batch.images is not None and batch.images.shape == (2, 3, 24, 41)
    assert batch.image_sizes == ((24, 40), (17, 41))
    for image, scan in zip(batch.images.permute(0, 2, 3, 1).numpy(), scans, strict=True):
        height, width, _ = scan.image.shape
        assert np.array_equal(image[:height, :width], scan.image)
        assert image.sum(dtype=np.int64) == scan.image.sum(dtype=np.int64)  # black around it


def test_evaluation_batch(golden_sequences, label_map):
    data = SegmentationDataset(
        SemanticKITTI(golden_sequences, "valid", label_map), (-50, -50, -4), (50, 50, 2), num_vote=3
    )
    samples = [data[0], data[1]]
    batch = collate(samples, with_images=False)
    assert batch.views is not None and batch.views.shape == (2, 3, 3, 4) and batch.views.dtype == torch.float32
    assert [scan.frame.name for scan in batch.whole] == ["000000", "000001"]
    assert [int(scan.inside.sum()) for scan in batch.whole] == list(batch.lengths)
    seen = batch.view(2).points
    views = samples[1].views
    assert views is not None
    wanted = samples[1].scan.xyz @ views[2, :, :3].T + views[2, :, 3]
    assert np.allclose(seen[batch.scan_ids == 1, :3].numpy(), wanted, atol=1e-4)
    assert torch.equal(seen[:, 3], batch.points[:, 3])


def test_every_tensor_of_a_batch_moves(make_scan):
    batch = collate([Sample(make_scan())], with_images=True).to("meta")
    tensors = [batch.points, batch.scan_ids, batch.labels, batch.pixels, batch.visible, batch.images]
    assert all(tensor is not None and tensor.is_meta for tensor in tensors)


@pytest.mark.parametrize("with_images", [True, False])
def test_every_batch_can_be_pinned(make_scan, monkeypatch, with_images) -> None:
    """A page-locked copy has the layout of the original, so no two numbers of that may share memory."""

    def pin(tensor: torch.Tensor) -> torch.Tensor:
        return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype).copy_(tensor)

    samples = [Sample(make_scan()), Sample(make_scan())]
    monkeypatch.setattr(torch.Tensor, "pin_memory", pin)
    for batch in (collate(samples, with_images), pack(samples, with_images)):
        pinned, batch = batch.pin_memory().to("cpu"), batch.to("cpu")
        assert torch.equal(pinned.pixels, batch.pixels) and torch.equal(pinned.points, batch.points)


class Evaluated(Dataset[Sample]):
    """Three scans for evaluation with views; the second has points outside, one of them NaN."""

    def __init__(self, make_scan: Callable[..., Scan]) -> None:
        self.scans = [make_scan(40, seed=1), make_scan(50, seed=2), make_scan(60, seed=3)]
        self.scans[1].xyz[5:9] = [[np.nan, 0, 0], [500, 0, 0], [0, -300, 0], [0, 0, np.inf]]

    def __len__(self) -> int:
        return len(self.scans)

    def __getitem__(self, index: int) -> Sample:
        scan = self.scans[index]
        inside = in_volume(scan.xyz, (-90, -90, -90), (90, 90, 90))
        return evaluation_sample(scan, inside, random_views(2, np.random.default_rng(index)))


@pytest.mark.parametrize("workers", [0, 2])
def test_what_a_loader_process_sends_is_what_was_packed(make_scan, workers) -> None:
    """One piece of memory, which is shared; whole scans come as they were measured, to the last bit."""
    data = Evaluated(make_scan)
    loader = DataLoader(data, 2, num_workers=workers, collate_fn=partial(pack, with_images=True))
    packed = list(loader)
    assert all(batch.memory.is_shared() == (workers > 0) for batch in packed)
    for batch, numbers in zip(packed, ([0, 1], [2]), strict=True):
        found, samples = batch.to("cpu"), [data[number] for number in numbers]
        expected = collate(samples, with_images=True)
        for name in ("points", "scan_ids", "labels", "pixels", "visible", "images", "views"):
            one, other = getattr(found, name), getattr(expected, name)
            assert one.dtype == other.dtype and torch.equal(one, other)
        assert found.points.data_ptr() == batch.memory.data_ptr()
        for whole, sample in zip(found.whole, samples, strict=True):
            measured = sample.whole
            assert measured is not None and whole.frame == measured.frame
            assert np.array_equal(whole.xyz.numpy(), measured.xyz.numpy(), equal_nan=True)
            for name in ("labels", "inside", "donor"):
                one, other = getattr(whole, name), getattr(measured, name)
                assert one.dtype == other.dtype and torch.equal(one, other)


def test_without_shared_memory_a_batch_is_packed_all_the_same(make_scan, monkeypatch) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("unable to allocate shared memory(shm): No space left on device (28)")

    monkeypatch.setattr("utils.scan.packing.get_worker_info", object)
    monkeypatch.setattr(torch.TypedStorage, "_new_shared", refuse)
    batch = pack([Sample(make_scan())], with_images=True)
    assert not batch.memory.is_shared() and batch.to("cpu").points.shape == (500, 4)


def test_without_room_a_batch_stays_where_it_is(make_scan, monkeypatch) -> None:
    def refuse(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("utils.scan.packing.get_worker_info", object)
    monkeypatch.setattr(os, "pwrite", refuse)
    assert not pack([Sample(make_scan())], with_images=True).memory.is_shared()


@pytest.mark.parametrize("strategy", ["file_descriptor", "file_system"])
def test_shared_memory_holds_what_was_packed(make_scan, monkeypatch, strategy) -> None:
    """A system may write few bytes at a time, and have another strategy."""
    plain, write = pack([Sample(make_scan())], with_images=True), os.pwrite
    monkeypatch.setattr("utils.scan.packing.get_worker_info", object)
    monkeypatch.setattr("utils.scan.packing.get_sharing_strategy", lambda: strategy)
    monkeypatch.setattr(os, "pwrite", lambda file, content, offset: write(file, content[:1000], offset))
    batch = pack([Sample(make_scan())], with_images=True)
    assert batch.memory.is_shared()
    for name in plain.places:
        assert torch.equal(batch.tensor(name), plain.tensor(name))


def test_a_batch_takes_few_bytes(make_scan) -> None:
    """A point takes its coordinates, intensity and label, and if it is seen, its row and pixel."""
    scans = [make_scan(1000, seed=number) for number in range(3)]
    training = pack([Sample(scan) for scan in scans], with_images=True)
    seen = int(training.to("cpu").visible.shape[0])
    images = sum(scan.image.nbytes for scan in scans)
    assert 0 <= len(training.memory) - (3000 * (16 + 1) + seen * (4 + 4) + images) < 64 * len(training.places)
    inside = np.arange(1000) != 7
    evaluated = pack([evaluation_sample(scan, inside, None) for scan in scans], with_images=False)
    own = 3 * 999 * (16 + 1) + 3 * 1000 * (1 + 1 + 4) + 3 * (4 + 12)
    assert 0 <= len(evaluated.memory) - own < 64 * len(evaluated.places)


def test_a_column_of_a_wide_image_keeps_its_number(make_scan) -> None:
    scan = make_scan()
    wide = replace(scan, image=np.zeros((1, 40000, 3), np.uint8), pixels=np.full_like(scan.pixels, 0.5))
    wide.pixels[:, 1] = 39999.5
    assert collate([Sample(wide)], True).pixels.unique(dim=0).tolist() == [[0, 39999]]
