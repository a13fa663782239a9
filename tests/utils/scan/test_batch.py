from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from dataloader.dataset import SegmentationDataset
from dataloader.datasets.semantickitti.source import SemanticKITTI
from utils.scan.batch import collate
from utils.scan.records import Sample


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


def test_images_must_be_there_and_of_one_size(make_scan):
    with pytest.raises(ValueError, match="without one"):
        collate([Sample(replace(make_scan(), image=None))], with_images=True)
    with pytest.raises(ValueError, match="differ in size"):
        collate([Sample(make_scan()), Sample(make_scan(width=41))], with_images=True)


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

    batch = collate([Sample(make_scan()), Sample(make_scan())], with_images)
    monkeypatch.setattr(torch.Tensor, "pin_memory", pin)
    pinned = batch.pin_memory()
    assert torch.equal(pinned.pixels, batch.pixels) and torch.equal(pinned.points, batch.points)
