"""Voxels of a fixed size, coarser levels and the maps between them and points, compared with slow, obvious code."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch

from network.sparse import torch_backend
from network.sparse.coordinates import unpack
from network.voxels.voxel_pyramid import Pyramid, build_pyramid
from tests.support.networks import make_batch, relative_error
from utils.scan.records import Batch

SIZE = 0.05
LEVELS = 5


def pyramid_of(batch: Batch) -> Pyramid:
    return build_pyramid(batch, SIZE, LEVELS, torch_backend.BACKEND)


def coordinates(keys: torch.Tensor) -> list[tuple[int, ...]]:
    """Lists (batch, x, y, z) of every voxel."""
    b, z, y, x = unpack(keys)
    return [tuple(row) for row in torch.stack([b, x, y, z], dim=1).tolist()]


def slow_cells(batch: Batch) -> list[tuple[int, ...]]:
    """Lists (scan, x, y, z) of every point: rounded in float32, minus the lowest of the scan."""
    cells = [(int(row), np.round(point[:3].numpy() / np.float32(SIZE)).astype(int))
             for row, point in zip(batch.scan_ids, batch.points, strict=True)]  # fmt: skip
    lowest = {row: np.min([cell for scan, cell in cells if scan == row], axis=0) for row in {row for row, _ in cells}}
    return [(row, *map(int, cell - lowest[row])) for row, cell in cells]


@pytest.fixture(scope="module")
def batch() -> Batch:
    return make_batch((300, 200), seed=3, spread=0.3)


def test_finest_voxels_and_the_point_that_stands_for_each(batch) -> None:
    voxels = pyramid_of(batch)
    cells = slow_cells(batch)
    first: dict[tuple[int, ...], int] = {}
    for number, cell in enumerate(cells):
        first.setdefault(cell, number)
    assert len(first) < len(cells), "some voxel should hold several points"
    found = coordinates(voxels.levels[0].keys)
    assert set(found) == set(first) and len(found) == len(first)
    assert [first[cell] for cell in found] == voxels.first.tolist()
    assert [found[voxel] for voxel in voxels.inverse.tolist()] == cells
    assert torch.equal(voxels.features, batch.points[voxels.first])


def test_each_level_is_the_one_before_halved(batch) -> None:
    voxels = pyramid_of(batch)
    finest = coordinates(voxels.levels[0].keys)
    for level, at_level in enumerate(voxels.levels):
        stride = 2**level
        expected: list[tuple[int, ...]] = [(b, *(c // stride for c in xyz)) for b, *xyz in finest]
        found = coordinates(at_level.keys)
        assert sorted(set(expected)) == sorted(found)
        assert [found[row] for row in at_level.inverse.tolist()] == expected
        counts = torch.bincount(at_level.inverse).tolist()
        assert counts == [expected.count(voxel) for voxel in found]


def test_strided_convolution_and_its_way_back(batch) -> None:
    voxels = pyramid_of(batch)
    generator = torch.Generator().manual_seed(0)
    fine, coarse = (coordinates(level.keys) for level in voxels.levels[1:3])
    pairs = voxels.down[1]
    features = torch.randn(len(fine), 3, generator=generator, dtype=torch.float64)
    weight = torch.randn(8, 3, 4, generator=generator, dtype=torch.float64)
    expected = torch.zeros(len(coarse), 4, dtype=torch.float64)
    back = torch.zeros(len(fine), 3, dtype=torch.float64)
    for row, (b, x, y, z) in enumerate(fine):
        parent = coarse.index((b, x // 2, y // 2, z // 2))
        offset = 4 * (z % 2) + 2 * (y % 2) + x % 2
        expected[parent] += features[row] @ weight[offset]
        back[row] += expected.new_tensor([1.0, 2.0, 3.0, parent]) @ weight[offset].T
    assert relative_error(pairs.convolve(features, weight), expected) < 1e-12
    given = torch.tensor([[1.0, 2.0, 3.0, row] for row in range(len(coarse))], dtype=torch.float64)
    assert relative_error(voxels.up[1].convolve(given, weight.transpose(1, 2)), back) < 1e-12


def slow_trilinear(features: torch.Tensor, fine: list, coarse: list, stride: int) -> torch.Tensor:
    rows = {voxel: number for number, voxel in enumerate(coarse)}
    out = []
    for b, *xyz in fine:
        low = [math.floor(c / stride) for c in xyz]
        share = [c / stride - corner for c, corner in zip(xyz, low, strict=True)]
        total, mass = torch.zeros(features.shape[1], dtype=features.dtype), 0.0
        for corner in product((0, 1), repeat=3):
            voxel = (b, *(c + d for c, d in zip(low, corner, strict=True)))
            if voxel in rows:
                w = math.prod(s if d else 1 - s for s, d in zip(share, corner, strict=True))
                total, mass = total + w * features[rows[voxel]], mass + w
        out.append(total / (mass + 1e-8))
    return torch.stack(out)


@pytest.mark.parametrize("level", [0, 1, 2, 4])
def test_trilinear_interpolation_with_its_gradient(batch, level) -> None:
    voxels = pyramid_of(batch)
    fine, coarse = coordinates(voxels.levels[0].keys), coordinates(voxels.levels[level].keys)
    generator = torch.Generator().manual_seed(level)
    features = torch.randn(len(coarse), 4, generator=generator, requires_grad=True)
    upstream = torch.randn(len(fine), 4, generator=generator)
    results = []
    for out in (voxels.trilinear(level)(features), slow_trilinear(features, fine, coarse, 2**level)):
        (gradient,) = torch.autograd.grad(out, features, upstream)
        results.append((out, gradient))
    (out, gradient), (slow_out, slow_gradient) = results
    assert relative_error(out, slow_out) < 1e-5
    assert relative_error(gradient, slow_gradient) < 1e-5


@pytest.mark.parametrize("level", [0, 2, 4])
def test_mean_of_the_points_of_each_voxel_with_its_gradient(batch, level) -> None:
    at_level = pyramid_of(batch).levels[level]
    generator = torch.Generator().manual_seed(level)
    values = torch.randn(len(at_level.inverse), 3, generator=generator, requires_grad=True)
    upstream = torch.randn(len(at_level), 3, generator=generator)
    members = defaultdict(list)
    for point, voxel in enumerate(at_level.inverse.tolist()):
        members[voxel].append(point)
    slow = torch.stack([values[members[voxel]].mean(0) for voxel in range(len(at_level))])
    fast = at_level.mean_of_points(values)
    assert relative_error(fast, slow) < 1e-6
    gradients = [torch.autograd.grad(out, values, upstream)[0] for out in (fast, slow)]
    assert relative_error(*gradients) < 1e-6


def test_interpolation_keeps_a_constant(batch) -> None:
    """The weights of the voxels that exist add up to 1, however many are missing."""
    voxels = pyramid_of(batch)
    for level in range(LEVELS):
        out = voxels.trilinear(level)(torch.full((len(voxels.levels[level]), 2), 5.0))
        assert torch.allclose(out, torch.tensor(5.0), atol=1e-5)
        row = torch.randn(1, 40).bfloat16()
        features = row.expand(len(voxels.levels[level]), -1)
        assert torch.equal(voxels.trilinear(level)(features), row.expand(len(out), -1)), "nor do they in bf16"


def test_a_stray_point_far_away_leaves_the_others_apart(batch) -> None:
    near = pyramid_of(batch)
    points = torch.cat([batch.points, torch.tensor([[-1e7, 1e7, 3e6, 0.5]])])
    rows = torch.cat([batch.scan_ids, torch.tensor([1])])
    labels, pixels, none = torch.zeros(len(rows)).long(), torch.full((len(rows), 2), -1), torch.zeros(0).long()
    far = pyramid_of(Batch(points, rows, labels, pixels, none, None, (300, 201)))
    assert len(far.levels[0]) == len(near.levels[0]) + 1


@pytest.mark.parametrize("move", [(900.0, 0.0, 0.0), (-3000.0, 5000.0, -40.0), (455_000.0, 2_423_000.0, 110.0)])
def test_a_cloud_far_from_the_origin_has_the_voxels_of_its_coordinates(batch, move) -> None:
    """A scan in map coordinates is in one batch with a scan around its sensor; neither is clamped."""
    points = batch.points.clone()
    points[batch.scan_ids == 0, :3] *= 50  # so wide that float32 has it in many cells even there
    points[batch.scan_ids == 0, :3] += torch.tensor(move)
    moved = replace(batch, points=points)
    cells = slow_cells(moved)
    found = coordinates(pyramid_of(moved).levels[0].keys)
    assert set(found) == set(cells)
    assert len({cell for cell in found if cell[0] == 0}) > 100


def test_points_that_no_number_of_cells_reaches_stay_on_their_side(batch) -> None:
    far = torch.tensor([[3e38, 0.0, 0.0, 0.5], [-3e38, 0.0, 0.0, 0.5], [1e-42, -1e-42, 0.0, 0.5]])
    points, rows = torch.cat([batch.points[batch.scan_ids == 0], far]), torch.zeros(303, dtype=torch.int64)
    labels, pixels, none = rows, torch.full((303, 2), -1), torch.zeros(0, dtype=torch.int64)
    voxels = pyramid_of(Batch(points, rows, labels, pixels, none, None, (303,)))
    x = [coordinates(voxels.levels[0].keys)[voxel][1] for voxel in voxels.inverse.tolist()]
    assert min(x) == x[301] < min(x[:300]) and max(x) == x[300] > max(x[:300])
    assert min(x[:300]) <= x[302] <= max(x[:300])


def test_one_point() -> None:
    zero, none, pixels = torch.zeros(1).long(), torch.zeros(0).long(), torch.full((1, 2), -1)
    one = Batch(torch.zeros(1, 4), zero, zero, pixels, none, None, (1,))
    voxels = pyramid_of(one)
    assert [len(level) for level in voxels.levels] == [1] * LEVELS
    assert torch.equal(voxels.trilinear(4)(torch.ones(1, 2)), torch.ones(1, 2))
