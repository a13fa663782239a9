"""Voxel sets, the means between them and the tuples of voxels, compared with slow and obvious versions."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from network.ops.distinct import Ranking, collect
from network.sparse import torch_backend
from network.sparse.coordinates import unpack
from network.voxels.voxelize import Voxels, VoxelSet, voxelize
from tests.support.networks import CLASSES, VOLUME, make_batch, make_network_3d, relative_error, with_ages
from utils.scan.records import Batch
from utils.scan.volume import Volume

SEMKITTI = Volume((-50.0, -50.0, -4.0), (50.0, 50.0, 2.0), (1000, 1000, 60))
SCALE_LISTS = [(2, 4, 8, 16), (2, 4, 8, 16, 16, 16), (16,), (16, 16), (2, 2, 4)]


def voxels_of(batch: Batch, scale_list=(2, 4, 8, 16), volume: Volume = VOLUME) -> Voxels:
    return voxelize(batch.points, batch.scan_ids, volume, scale_list, torch_backend.BACKEND)


def scattered(seed: int = 0, lengths=(300, 0, 200)) -> Batch:
    """Draws points in the whole volume and around it; one scan is empty."""
    batch = make_batch(lengths, seed, spread=1.0)
    assert ((batch.points[:, :2].abs() > 2).any(1)).sum() > 10, "some points must lie outside"
    return batch


def slow_cells(batch: Batch, volume: Volume, scale: int) -> list[tuple[int, ...]]:
    """Lists (scan, x, y, z) of the voxel of every point, in float32 as published."""
    cells = []
    for scan, point in zip(batch.scan_ids.tolist(), batch.points.numpy(), strict=True):
        index = []
        for axis in range(3):
            n = np.float32(math.ceil(volume.grid[axis] / scale))
            low, high = np.float32(volume.low[axis]), np.float32(volume.high[axis])
            index.append(math.floor(n * (point[axis] - low) / (high - low)))
        cells.append((scan, *index))
    return cells


def members(inverse: Tensor) -> dict[int, list[int]]:
    """Collects the points of each voxel row."""
    result = defaultdict(list)
    for point, voxel in enumerate(inverse.tolist()):
        result[voxel].append(point)
    return result


@pytest.mark.parametrize("volume", [VOLUME, SEMKITTI], ids=["small", "semantickitti"])
@pytest.mark.parametrize("scale_list", SCALE_LISTS, ids=str)
def test_voxel_sets(scale_list, volume) -> None:
    batch = scattered()
    batch = replace(batch, points=batch.points * (20 if volume is SEMKITTI else 1))
    voxels = voxels_of(batch, scale_list, volume)
    for scale, found in zip((1, *scale_list), (voxels.base, *voxels.scales), strict=True):
        cells = slow_cells(batch, volume, scale)
        distinct = sorted(set(cells), key=lambda cell: (cell[0], cell[2], cell[1], cell[3]))  # scan, y, x, z
        scan, z, y, x = (axis.tolist() for axis in unpack(found.keys))
        assert list(zip(scan, x, y, z, strict=True)) == distinct
        assert [distinct[row] for row in found.inverse.tolist()] == cells
        assert found.counts.tolist() == [cells.count(cell) for cell in distinct]


def test_equal_scales_share_a_voxel_set() -> None:
    voxels = voxels_of(scattered(), (2, 4, 8, 16, 16, 16))
    assert voxels.scales[3] is voxels.scales[4] is voxels.scales[5]
    assert voxels.finer(0) is voxels.base
    assert voxels.finer(4) is voxels.scales[3]


def test_inside_the_volume_floor_is_the_published_truncation() -> None:
    batch = scattered()
    low, high = torch.tensor(VOLUME.low), torch.tensor(VOLUME.high)
    inside = ((batch.points[:, :3] >= low) & (batch.points[:, :3] < high)).all(1)
    batch = replace(batch, points=batch.points[inside], scan_ids=batch.scan_ids[inside])
    for scale, found in zip((1, 2, 4), (voxels_of(batch, (2, 4)).base, *voxels_of(batch, (2, 4)).scales), strict=True):
        size = torch.tensor([math.ceil(g / scale) for g in VOLUME.grid])
        truncated = torch.trunc(size * (batch.points[:, :3] - low) / (high - low)).long()
        _, z, y, x = unpack(found.keys[found.inverse])
        assert torch.equal(torch.stack([x, y, z], 1), truncated)
        assert (truncated >= 0).all() and (truncated < size).all()


def test_scales_do_not_nest() -> None:
    """60 cells in z make 8 cells of scale 8, not 7.5: the coarse index is not the fine index divided."""
    z = torch.linspace(-4, 2, 1001)[:-1]
    points = torch.stack([torch.zeros_like(z), torch.zeros_like(z), z, z], dim=1)
    batch = replace(scattered(), points=points, scan_ids=torch.zeros(1000, dtype=torch.int64))
    voxels = voxels_of(batch, (8,), SEMKITTI)
    fine, coarse = (unpack(v.keys)[1][v.inverse] for v in (voxels.base, voxels.scales[0]))
    assert coarse.max() == 7
    assert not torch.equal(coarse, fine // 8)
    assert len(voxels.means[0].source) > len(voxels.base), "some fine voxel must belong to two coarse ones"


def test_points_outside_get_voxels_of_their_own() -> None:
    edge = torch.tensor([-2.0, -2.0, -1.0])
    xyz = torch.stack([edge + 0.01, edge - 0.01, edge + torch.tensor([0.01, 0.01, -0.01]), torch.tensor([2.01, 0, 0])])
    far = torch.tensor([[1e4, 0, 0], [-1e4, 0, 0], [1e9, -1e9, 1e9], [3e38, -3e38, 3e38], [0, 0, -1e4]])
    points = torch.cat([torch.cat([xyz, far]), torch.rand(9, 1)], dim=1)
    batch = replace(scattered(), points=points, scan_ids=torch.tensor([0, 0, 0, 0, 0, 0, 0, 1, 1]))
    voxels = voxels_of(batch, (2, 4, 8, 16))
    for voxel_set in (voxels.base, *voxels.scales):
        assert len(voxel_set) == 9, "no two of these points may share a voxel"
        features = torch.rand(9, 3)
        assert voxel_set.kernel_map.convolve(features, torch.rand(27, 3, 3)).isfinite().all()
    _, z, y, x = (axis[voxels.base.inverse].tolist() for axis in unpack(voxels.base.keys))
    assert min(z) == z[8] and min(y) == y[7] == y[6] and max(x) == x[7] == x[6], "each on its own side"
    assert all(len(pool.back) == 9 for pool in voxels.pools)
    with torch.no_grad():
        logits = make_network_3d((2, 4, 8, 16)).eval()(replace(voxels, features=voxels.features.clamp(-10, 10))).logits
    assert logits.shape == (9, CLASSES) and logits.isfinite().all()


def test_no_points_at_all() -> None:
    empty = replace(scattered(), points=torch.zeros(0, 4), scan_ids=torch.zeros(0, dtype=torch.int64))
    voxels = voxels_of(empty, (2, 4, 4))
    assert len(voxels.base) == len(voxels.scales[2]) == len(voxels.signature) == 0
    assert voxels.features.shape == (0, 10)
    assert voxels.means[1](torch.zeros(0, 3)).shape == (0, 3)
    assert voxels.base.majority_label(torch.zeros(0, dtype=torch.int64), CLASSES).shape == (0,)


@pytest.mark.parametrize("columns", [10, 11])
def test_input_features(columns) -> None:
    batch = scattered() if columns == 10 else with_ages(scattered())
    found = voxels_of(batch).features
    points = batch.points.double().numpy()
    cells = slow_cells(batch, VOLUME, 1)
    expected = np.empty((len(points), columns))
    for i, (point, cell) in enumerate(zip(points, cells, strict=True)):
        mean = np.mean([p[:3] for p, c in zip(points, cells, strict=True) if c == cell], axis=0)
        interval = (np.array(VOLUME.high) - VOLUME.low) / VOLUME.grid
        corner = np.array(cell[1:]) * interval + VOLUME.low
        expected[i] = [*point[:4], *(point[:3] - mean), *(point[:3] - corner), *point[4:]]
    assert found.dtype == torch.float32
    assert np.abs(found.numpy() - expected).max() < 2e-6


@pytest.mark.parametrize("scale_list", SCALE_LISTS, ids=str)
def test_means_between_scales_count_a_voxel_once_per_point(scale_list) -> None:
    voxels = voxels_of(scattered(), scale_list)
    for i, coarse in enumerate(voxels.scales):
        fine = voxels.finer(i)
        features = torch.randn(len(fine), 3, generator=torch.Generator().manual_seed(i)).requires_grad_()
        of_points = features[fine.inverse]
        expected = torch.stack([of_points[points].mean(0) for _, points in sorted(members(coarse.inverse).items())])
        found = voxels.means[i](features)
        assert relative_error(found, expected) < 1e-6
        upstream = torch.randn_like(found)
        (gradient,), (wanted,) = (torch.autograd.grad(t, features, upstream) for t in (found, expected))
        assert relative_error(gradient, wanted) < 1e-6


@pytest.mark.parametrize("seed", range(3))
def test_means_of_equal_rows_in_bf16_are_that_row(seed) -> None:
    """The weights are not rounded to bf16, or they would not add up to 1."""
    voxels = voxels_of(make_batch((600, 400), seed, spread=0.3))
    row = torch.randn(1, 64, generator=torch.Generator().manual_seed(seed)).bfloat16()
    for mean in (voxels.base.mean_of_points, *voxels.means, *(pool.mean for pool in voxels.pools)):
        assert torch.equal(mean(row.expand(mean.num_sources, -1)), row.expand(len(mean), -1))


def test_mean_of_points() -> None:
    voxels = voxels_of(scattered()).scales[1]
    values = torch.randn(len(voxels.inverse), 4)
    expected = torch.stack([values[points].mean(0) for _, points in sorted(members(voxels.inverse).items())])
    assert relative_error(voxels.mean_of_points(values), expected) < 1e-6


def test_means_of_bfloat16_are_summed_in_float32() -> None:
    """The sum of 4096 ones is 4096; a bfloat16 sum would stop at 256."""
    points = torch.zeros(4096, 4)
    batch = replace(scattered(), points=points, scan_ids=torch.zeros(4096, dtype=torch.int64))
    ones = torch.ones(4096, 1, dtype=torch.bfloat16)
    assert voxels_of(batch).base.mean_of_points(ones).tolist() == [[1.0]]


def test_pooling_counts_every_voxel_once() -> None:
    everything = voxels_of(scattered())
    voxels, pool = everything.base, everything.pools[0]
    features = torch.randn(len(voxels), 3)
    groups = defaultdict(list)
    for row, (scan, *zyx) in enumerate(zip(*(axis.tolist() for axis in unpack(voxels.keys)), strict=True)):
        groups[(scan, *(c // 2 for c in zyx))].append(row)
    pooled = pool.mean(features)
    assert len(pooled) == len(groups)
    assert any(len(rows) > 1 for rows in groups.values())
    for rows in groups.values():
        assert torch.allclose(pool.back(pooled)[rows], features[rows].mean(0).expand(len(rows), -1))


def test_majority_label() -> None:
    batch = scattered()
    voxels = voxels_of(batch).scales[1]
    found = voxels.majority_label(batch.labels, CLASSES)
    ties = 0
    for voxel, points in members(voxels.inverse).items():
        votes = np.bincount(batch.labels[points].numpy(), minlength=CLASSES)
        assert found[voxel] == votes.tolist().index(votes.max())
        ties += int((votes == votes.max()).sum() > 1)
    assert ties > 10
    assert (found == 0).any(), "the ignored label takes part in the vote"


def test_majority_label_of_those_that_count() -> None:
    """A past point without a label has no vote; a voxel of such points alone is ignored."""
    batch = with_ages(make_batch((600, 400), spread=0.3))
    counted = batch.counted
    assert counted is not None
    ages, labels = batch.points[:, 4].tolist(), batch.labels.tolist()
    assert counted.tolist() == [age == 0 or label > 0 for age, label in zip(ages, labels, strict=True)]
    voxels = voxels_of(batch).scales[0]
    found = voxels.majority_label(batch.labels, CLASSES, counted)
    none, own_without_label = 0, 0
    for voxel, points in members(voxels.inverse).items():
        votes = [labels[point] for point in points if ages[point] == 0 or labels[point] > 0]
        assert found[voxel] == min(set(votes), key=lambda label: (-votes.count(label), label), default=0)
        none += not votes
        own_without_label += found[voxel] == 0 and len(votes) > 0
    assert none > 5 and own_without_label > 5
    assert (found != voxels.majority_label(batch.labels, CLASSES)).sum() > 5
    assert make_batch().counted is None


@pytest.mark.parametrize(
    ("labels", "winner"),
    [([3, 1], 1), ([0, 4], 0), ([4, 4, 0], 4), ([2, 0, 2, 0, 1], 0), ([4], 4), ([3, 2, 3, 2, 4], 2)],
)
def test_majority_label_ties_go_to_the_lowest(labels, winner) -> None:
    inverse = torch.zeros(len(labels), dtype=torch.int64)
    voxels = VoxelSet(collect([Ranking(inverse)])[0], torch_backend.BACKEND)
    assert voxels.majority_label(torch.tensor(labels), CLASSES).tolist() == [winner]


@pytest.mark.parametrize("scale_list", SCALE_LISTS, ids=str)
def test_signatures_tell_every_points_voxels(scale_list) -> None:
    batch = make_batch((300, 200), spread=0.2)  # crowded: points that share a voxel at one scale and not at the next
    voxels = voxels_of(batch, scale_list)
    expected = torch.stack([voxel_set.inverse for voxel_set in voxels.scales], dim=1)
    assert torch.equal(voxels.signature_of_point(voxels.signature), expected)
    tuples = set(map(tuple, expected.tolist()))
    assert len(voxels.signature) == len(tuples), "every tuple is there once"
    if len(set(scale_list)) > 1:
        assert len(tuples) > len(voxels.scales[0]), "scales that nest would be an easier task"
    for rows, at, inverse in zip(voxels.signature_rows, voxels.scales, expected.T, strict=True):
        features = torch.randn(len(at), 3, dtype=torch.float64, requires_grad=True)
        found, wanted = voxels.signature_of_point(rows(features)), features[inverse]
        assert torch.equal(found, wanted)
        upstream = torch.randn_like(wanted)
        gradients = [torch.autograd.grad(out, features, upstream)[0] for out in (found, wanted)]
        assert relative_error(*gradients) < 1e-12


@pytest.mark.parametrize("scale_list", SCALE_LISTS, ids=str)
def test_kernel_maps_are_made_once_per_voxel_set(scale_list) -> None:
    made = []

    def submanifold_map(keys, kernel_size):
        made.append(keys)
        return torch_backend.submanifold_map(keys, kernel_size)

    batch = make_batch()
    network = make_network_3d(scale_list)
    network.backend = replace(torch_backend.BACKEND, submanifold_map=submanifold_map)
    voxels = network.voxelize(batch)
    for _ in range(2):
        network(voxels)
    assert len(made) == len({1, *scale_list[:-1]}), "one for each set that blocks work on, for all its layers"
    assert len({keys.data_ptr() for keys in made}) == len(made)
