"""The native step from points to voxels gives the numbers of the plain one, to the last bit."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from network.native import grouping, voxels
from network.native.library import library, switched_off
from network.ops.sums import RowSum
from network.sparse import torch_backend
from network.sparse.coordinates import halve, pack
from network.voxels.voxelize import Voxels, voxelize
from tests.support.networks import VOLUME, make_batch, with_ages
from utils.scan.records import Batch
from utils.scan.volume import Volume

pytestmark = pytest.mark.skipif(library() is None, reason="native code cannot be used here")

SEMKITTI = Volume((-50.0, -50.0, -4.0), (50.0, 50.0, 2.0), (1000, 1000, 60))
FAR = torch.tensor([[1e4, 0, 0, 1], [-1e4, 1e9, 0, 1], [1e9, -1e9, 1e9, 1], [3e38, -3e38, 3e38, 1], [-2, -2, -1, 1]])
SCALE_LISTS = [(2, 4, 8, 16), (2, 4, 8, 16, 16, 16), (16,), (16, 16), (2, 2, 4), (4, 2), (1, 3)]


@pytest.fixture(params=[1, 2, 5])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


def with_points(batch: Batch, points: Tensor) -> Batch:
    """Returns the batch with these points at its end, in its last scan."""
    scans = torch.cat([batch.scan_ids, batch.scan_ids.new_full((len(points),), len(batch.lengths) - 1)])
    return replace(batch, points=torch.cat([batch.points, points]), scan_ids=scans)


BATCHES = {
    "three scans": make_batch((900, 0, 700), 0, spread=1.0),
    "ages": with_ages(make_batch((600, 500), 1, spread=0.4)),
    "crowded": make_batch((3000,), 2, spread=0.02),
    "one point": make_batch((1,), 3),
    "no point": make_batch((0,), 4),
    "far points": with_points(make_batch((200,), 5), FAR.repeat(40, 1)),
}


def tensors_of(found: Voxels) -> dict[str, Tensor]:
    """Collects all tensors of the voxels by name."""
    tensors = {"features": found.features, "signature": found.signature}
    for number, at in enumerate((found.base, *found.scales)):
        distinct = at.points
        tensors |= {
            f"voxels {number} {name}": getattr(distinct, name) for name in ("values", "inverse", "order", "ends")
        }
    sums: dict[str, RowSum] = {"points": found.signature_of_point, "back": found.signature_of_point.transposed}
    for name in ("means", "signature_rows"):
        sums |= {f"{name} {number}": one for number, one in enumerate(getattr(found, name))}
    for number, pool in enumerate(found.pools):
        sums |= {f"pool {number}": pool.mean, f"pool {number} back": pool.back}
    for name, one in sums.items():
        for part in ("source", "ends", "weight", "shares"):
            if (tensor := getattr(one, part)) is not None:
                tensors[f"{name} {part}"] = tensor
    return tensors


@pytest.mark.parametrize("volume", [VOLUME, SEMKITTI], ids=["small", "semantickitti"])
@pytest.mark.parametrize("scale_list", SCALE_LISTS, ids=str)
@pytest.mark.parametrize("name", BATCHES)
def test_voxels_of_the_plain_way(name, scale_list, volume) -> None:
    batch = BATCHES[name]

    def tensors() -> dict[str, Tensor]:
        return tensors_of(voxelize(batch.points, batch.scan_ids, volume, scale_list, torch_backend.BACKEND))

    found = tensors()
    with switched_off():
        expected = tensors()
    assert found.keys() == expected.keys()
    for part, tensor in found.items():
        assert tensor.dtype == expected[part].dtype and torch.equal(tensor, expected[part]), part


def test_threads_change_nothing(threads) -> None:
    batch = BATCHES["three scans"]
    found = tensors_of(voxelize(batch.points, batch.scan_ids, VOLUME, (2, 4, 8), torch_backend.BACKEND))
    with switched_off():
        expected = tensors_of(voxelize(batch.points, batch.scan_ids, VOLUME, (2, 4, 8), torch_backend.BACKEND))
    assert all(torch.equal(tensor, expected[part]) for part, tensor in found.items())


def test_points_may_be_strided() -> None:
    batch = BATCHES["three scans"]
    wide = torch.cat([batch.points, batch.points], dim=1)[:, :4]
    ids = batch.scan_ids.repeat_interleave(2)[::2]
    found = tensors_of(voxelize(wide, ids, VOLUME, (2, 4), torch_backend.BACKEND))
    expected = tensors_of(voxelize(batch.points, batch.scan_ids, VOLUME, (2, 4), torch_backend.BACKEND))
    assert all(torch.equal(tensor, expected[part]) for part, tensor in found.items())


def test_what_is_no_number_lies_where_pytorch_puts_it() -> None:
    points = torch.tensor([[float("nan"), 0.0, 0.0, 0.0], [float("inf"), -float("inf"), 1.0, 0.0]])
    args = (points, torch.zeros(2, dtype=torch.int64), torch.zeros(3), torch.ones(3), [torch.ones(3)])
    found = voxels.voxel_keys(*args)
    assert found is not None
    cell = torch.floor(points[:, :3]).clamp(-32764, 32764).nan_to_num(nan=-32764).long()
    assert torch.equal(found[0], pack(args[1], cell[:, 2], cell[:, 1], cell[:, 0]))


def test_halved_keys() -> None:
    keys = pack(*torch.randint(-32764, 32765, (4, 500)).index_fill_(0, torch.tensor([0]), 3))
    found = voxels.halved_keys(keys)
    with switched_off():
        assert found is not None and torch.equal(found, halve(keys))


def test_other_places_are_for_pytorch() -> None:
    points = torch.zeros(3, 4, dtype=torch.float64)
    numbers = torch.zeros(3)
    assert voxels.voxel_keys(points, numbers.long(), numbers, numbers, [numbers]) is None
    assert voxels.halved_keys(numbers.to("meta")) is None
    with switched_off():
        assert voxels.halved_keys(numbers.long()) is None
        assert grouping.shared_means([]) is None
