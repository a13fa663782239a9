"""The native trilinear interpolation is that of the plain way; of its entries, those without a weight are left out."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from network.native.interpolation import trilinear
from network.native.library import library, switched_off
from network.sparse import torch_backend
from network.voxels.voxel_pyramid import Pyramid, build_pyramid
from tests.support.networks import make_batch

pytestmark = pytest.mark.skipif(library() is None, reason="native code cannot be used here")

LEVELS = 5
BATCHES = {
    "two scans": make_batch((800, 500), 0, spread=0.3),
    "crowded": make_batch((1500,), 1, spread=0.05),
    "one point": make_batch((1,), 2),
}


def plain_pyramid(name: str) -> Pyramid:
    with switched_off():
        return build_pyramid(BATCHES[name], 0.05, LEVELS, torch_backend.BACKEND)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("level", range(LEVELS))
@pytest.mark.parametrize("name", BATCHES)
def test_entries_with_a_weight(name, level, threads) -> None:
    pyramid = plain_pyramid(name)
    finest, coarse = pyramid.levels[0], pyramid.levels[level]
    with switched_off():
        expected = pyramid.trilinear(level)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        found = trilinear(finest.keys, coarse.inverse, level, coarse.keys)
    finally:
        torch.set_num_threads(before)
    assert found is not None and expected.weight is not None
    used = expected.weight > 0
    assert torch.equal(found.source.long(), expected.source[used])
    torch.testing.assert_close(found.weight, expected.weight[used], rtol=3e-7, atol=0)
    assert torch.equal(found.ends.diff(), used.view(-1, 8).sum(1))
    assert pyramid.trilinear(level).source.dtype == torch.int32, "the pyramid uses it"


def tensors_of(pyramid: Pyramid) -> list[Tensor]:
    maps = [tensor for pairs in pyramid.down for tensor in (*pairs.inputs, *pairs.outputs)]  # type: ignore[attr-defined]
    levels = [tensor for level in pyramid.levels for tensor in (level.keys, level.inverse)]
    return [pyramid.features, pyramid.first, pyramid.inverse, *levels, *maps]


@pytest.mark.parametrize("name", BATCHES)
def test_the_pyramid_of_the_plain_way(name) -> None:
    found = build_pyramid(BATCHES[name], 0.05, LEVELS, torch_backend.BACKEND)
    for ours, plain in zip(tensors_of(found), tensors_of(plain_pyramid(name)), strict=True):
        assert ours.dtype == plain.dtype and torch.equal(ours, plain)
