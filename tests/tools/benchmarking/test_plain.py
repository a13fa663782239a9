"""The plain versions of the benchmark, compared with loops and dictionaries in plain Python."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict

import numpy as np
import pytest
import torch

from tests.support.networks import VOLUME, make_batch
from tools.benchmarking.plain.versions import Geometry, convolve, kernel_map, scatter_mean


@pytest.fixture(scope="module")
def batch():
    """Makes two scans: crowded voxels in the middle, isolated ones and points outside the volume around."""
    batch = make_batch((70, 50))
    batch.points[::2, :3] *= 0.07
    return batch


@pytest.fixture(scope="module")
def geometry(batch):
    return Geometry(batch.points, batch.scan_ids, VOLUME, (2, 4, 16))


def cells(batch, scale):
    """Computes the voxel (scan, z, y, x) of every point."""
    result = []
    for scan, point in zip(batch.scan_ids.tolist(), batch.points.numpy(), strict=True):
        x, y, z = (
            math.floor(np.float32(math.ceil(g / scale)) * (p - np.float32(lo)) / (np.float32(hi) - np.float32(lo)))
            for g, p, lo, hi in zip(VOLUME.grid, point[:3], VOLUME.low, VOLUME.high, strict=True)
        )
        result.append((scan, z, y, x))
    return result


@pytest.mark.parametrize("scale", [1, 2, 4, 16])
def test_voxels(batch, geometry, scale):
    grid, expected = geometry.grids[scale], cells(batch, scale)
    assert min(min(cell) for cell in expected) < 0
    assert [tuple(row) for row in grid.coordinates[grid.inverse].tolist()] == expected
    assert [tuple(row) for row in grid.coordinates.tolist()] == sorted(set(expected))


def test_means_and_groups(geometry):
    grid = geometry.grids[1]
    values = torch.randn(len(grid.inverse), 3, dtype=torch.float64)
    members = defaultdict(list)
    for value, voxel in zip(values, grid.inverse.tolist(), strict=True):
        members[voxel].append(value)
    assert max(map(len, members.values())) > 2
    expected = torch.stack([torch.stack(members[voxel]).mean(0) for voxel in range(len(grid.coordinates))])
    torch.testing.assert_close(scatter_mean(values, grid.inverse, len(grid.coordinates)), expected)
    count, group = grid.groups
    halved = [(b, z // 2, y // 2, x // 2) for b, z, y, x in grid.coordinates.tolist()]
    assert count == len(set(halved)) == len(set(zip(halved, group.tolist(), strict=True)))


def test_features(batch, geometry):
    """The columns are x, y, z, intensity; the offset from the mean of the voxel's points; the offset from its low
    corner."""
    points, voxels = batch.points.double(), cells(batch, 1)
    for row, (_, z, y, x) in enumerate(voxels):
        alike = [points[i, :3] for i, voxel in enumerate(voxels) if voxel == voxels[row]]
        edges = [(hi - lo) / g for g, lo, hi in zip(VOLUME.grid, VOLUME.low, VOLUME.high, strict=True)]
        corner = torch.tensor([lo + i * edge for lo, i, edge in zip(VOLUME.low, (x, y, z), edges, strict=True)])
        offsets = [points[row, :3] - torch.stack(alike).mean(0), points[row, :3] - corner.double()]
        expected = torch.cat([points[row], *offsets]).float()
        torch.testing.assert_close(geometry.features[row], expected, rtol=1e-4, atol=1e-5)


def test_convolution(geometry):
    """The definition: out[p] = sum over d of W[d] in[p + d]; W's first axis runs over d with z slowest and x
    fastest."""
    coordinates = geometry.grids[1].coordinates
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(len(coordinates), 2, generator=generator, dtype=torch.float64)
    weight = torch.randn(27, 2, 3, generator=generator, dtype=torch.float64)
    row_of = {tuple(voxel): row for row, voxel in enumerate(coordinates.tolist())}
    expected = torch.zeros(len(coordinates), 3, dtype=torch.float64)
    pairs = 0
    for (b, z, y, x), row in row_of.items():
        for d, (dz, dy, dx) in enumerate(itertools.product((-1, 0, 1), repeat=3)):
            neighbour = row_of.get((b, z + dz, y + dy, x + dx))
            if neighbour is not None:
                expected[row] += features[neighbour] @ weight[d]
                pairs += 1
    assert pairs > 2 * len(coordinates)
    torch.testing.assert_close(convolve(features, weight, kernel_map(coordinates)), expected)
