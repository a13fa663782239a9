"""Voxels made jointly, with sizes that are read or fixed: the same as those of `voxelize`, to the last bit."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from network.ops.together import Filling, Layout, Reading
from network.sparse import torch_backend
from network.voxels.joint import Plan, fits, padding, voxelize_jointly
from network.voxels.voxelize import Voxels, voxelize
from tests.support.networks import VOLUME, make_batch
from utils.scan.records import Batch
from utils.scan.volume import Volume

LARGE = Volume((-50.0, -50.0, -4.0), (50.0, 50.0, 2.0), (1000, 1000, 60))
SCALE_LISTS = [(2, 4, 8, 16), (2, 4, 8, 16, 16, 16), (16, 16), (2, 2, 4), (1, 2)]
LENGTHS = [(1,), (5,), (300, 0, 200), (700,)]


def scans(lengths: tuple[int, ...], volume: Volume) -> Batch:
    """Makes scans of which some points lie outside of the volume, one of them in a cell at its edge."""
    batch = make_batch(lengths, seed=1, spread=1.0 if volume is VOLUME else 20.0)
    batch.points[0, :3] = torch.tensor(volume.low)
    return batch


def padded(batch: Batch, count: int, volume: Volume, plan: Plan) -> tuple[Tensor, Tensor]:
    points = padding(count, 4, volume, plan)
    assert points is not None
    points[: len(batch.points)] = batch.points
    scan_ids = torch.full((count,), batch.num_scans)
    scan_ids[: len(batch.points)] = batch.scan_ids
    return points, scan_ids


def assert_same(found: Voxels, expected: Voxels) -> None:
    """Compares the rows that both have: those of `found` may be followed by padding."""

    def same(some: Tensor, all_of_them: Tensor) -> None:
        assert torch.equal(some[: len(all_of_them)].to(all_of_them.dtype), all_of_them)

    def same_sums(one, other) -> None:
        rows = torch.rand(max(one.num_sources, other.num_sources), 3, generator=torch.Generator().manual_seed(0))
        same(one(rows[: one.num_sources]), other(rows[: other.num_sources]))

    same(found.features, expected.features)
    for one, other in zip((found.base, *found.scales), (expected.base, *expected.scales), strict=True):
        same(one.keys, other.keys)
        same(one.inverse, other.inverse)
        same(one.points.order, other.points.order)
        same(one.counts, other.counts)
        same_sums(one.mean_of_points, other.mean_of_points)
    for one, other in zip(found.means, expected.means, strict=True):
        same_sums(one, other)
    for one, other in zip(found.pools, expected.pools, strict=True):
        same_sums(one.mean, other.mean)
        same_sums(one.back, other.back)
    same(found.signature, expected.signature)
    same_sums(found.signature_of_point, expected.signature_of_point)


@pytest.mark.parametrize("volume", [VOLUME, LARGE], ids=["small", "semantickitti"])
@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
@pytest.mark.parametrize("scale_list", SCALE_LISTS, ids=str)
def test_the_same_voxels_with_sizes_that_are_read_or_fixed(scale_list, lengths, volume, monkeypatch) -> None:
    batch, plan, backend = scans(lengths, volume), Plan.of(scale_list), torch_backend.BACKEND
    assert plan is not None and fits(plan, batch.num_scans, len(batch.points))
    expected = voxelize(batch.points, batch.scan_ids, volume, scale_list, backend)
    assert_same(voxelize_jointly(batch.points, batch.scan_ids, batch.num_scans, volume, plan, backend), expected)

    points, scan_ids = padded(batch, len(batch.points) * 5 // 4 + 1, volume, plan)
    arguments = points, scan_ids, batch.num_scans + 1, volume, plan, backend
    reading, layouts = Reading(), {}
    voxelize_jointly(*arguments, reading)
    monkeypatch.setattr("network.ops.together.read", None)  # with fixed sizes nothing is read
    for sizes in (reading.sizes, [size * 4 // 3 + 70 for size in reading.sizes]):
        layouts.clear()
        for _ in range(2):  # with layouts that are made, and that are kept
            assert_same(voxelize_jointly(*arguments, Filling(sizes, layouts)), expected)


def test_tuples_that_do_not_fit_into_a_number_are_ranked_after_the_pairs(monkeypatch) -> None:
    batch, plan = scans((300, 200), VOLUME), Plan.of((2, 4, 8, 16))
    assert plan is not None
    expected = voxelize(batch.points, batch.scan_ids, VOLUME, (2, 4, 8, 16), torch_backend.BACKEND)
    monkeypatch.setattr("network.voxels.joint.math.prod", lambda sizes: 1 << 63)
    reading = Reading()
    arguments = batch.points, batch.scan_ids, 2, VOLUME, plan, torch_backend.BACKEND
    assert_same(voxelize_jointly(*arguments, reading), expected)
    assert len(reading.sizes) == 5 + 4 + 4 + 1


@pytest.mark.parametrize("number", range(14))
def test_too_little_space_is_seen_and_harmless(number) -> None:
    """On a CPU, every row that is read outside of a tensor raises an error."""
    batch, plan = scans((300,), VOLUME), Plan.of((2, 4, 8, 16))
    assert plan is not None
    arguments = *padded(batch, 400, VOLUME, plan), 2, VOLUME, plan, torch_backend.BACKEND
    reading, layouts = Reading(), {}
    voxelize_jointly(*arguments, reading)
    sizes = list(reading.sizes)
    sizes[number] = 1
    filling = Filling(sizes, layouts)
    voxels = voxelize_jointly(*arguments, filling)
    for sums in (voxels.signature_of_point, *voxels.means, *(pool.mean for pool in voxels.pools)):
        assert len(sums(torch.rand(sums.num_sources, 2))) == len(sums)
    counts = [torch.diff(until, prepend=until.new_zeros(1)) for until in filling.until]
    assert torch.cat(counts)[number] > 1


def test_a_layout_ends_every_list_with_a_slot() -> None:
    layout = Layout.of((2, 3), (10, 20), torch.device("cpu"))
    assert layout.slots == (0, 3, 7)
    assert layout.of_list.tolist() == [0, 0, 0, 1, 1, 1, 1]
    assert layout.row.tolist() == [-1, 0, 10, -1, 0, 1, 20]
    assert layout.last.tolist() == [9] * 3 + [29] * 4


def test_padding_is_spread_over_places_that_are_no_neighbours() -> None:
    plan = Plan.of((2, 4, 8, 16))
    assert plan is not None
    points = padding(1000, 4, LARGE, plan)
    assert points is not None
    voxels = voxelize(points, torch.zeros(1000, dtype=torch.int64), LARGE, (2, 4, 8, 16), torch_backend.BACKEND)
    for level in (voxels.base, *voxels.scales):
        assert level.counts.max() == 64 and len(level) == 16
        neighbours = torch_backend.submanifold_map(level.keys, 3).inputs
        assert all(len(rows) == 0 for rows in neighbours), "beside the voxel itself"


def test_scales_that_lead_back_have_no_plan() -> None:
    assert Plan.of((2, 4, 2)) is None
    assert Plan.of((2, 4, 4, 8)) == Plan((1, 2, 4, 8), (1, 2, 2, 3))
