from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from network.models.network_3d import ConcatLinear
from network.native.library import switched_off
from network.ops.sums import RowSum
from network.sparse.coordinates import unpack
from network.sparse.layers import SparseConv3d
from tests.support.networks import make_batch, make_network_3d
from tools.benchmarking import roofline
from tools.benchmarking.roofline import Rates, Work, copy_rate, count_pairs, matrix_rate, network_work, roofline_lines

CPU = torch.device("cpu")


@pytest.fixture(scope="module", params=[(2, 4, 8), (2, 2, 4)], ids=["2 4 8", "2 2 4"])
def scene(request):
    """Makes a tiny network in evaluation and the voxels of two scans, with and without a repeated scale."""
    network = make_network_3d(request.param).eval()
    return network, network.voxelize(make_batch((300, 200), spread=0.3))


def slow_pairs(keys):
    """Counts pairs with a dictionary of voxels that is asked for all 27 neighbours of each."""
    voxels = set(zip(*(column.tolist() for column in unpack(keys)), strict=True))
    reach = (-1, 0, 1)
    return sum(
        (batch, z + dz, y + dy, x + dx) in voxels
        for batch, z, y, x in voxels
        for dz in reach
        for dy in reach
        for dx in reach
    )


def test_pairs(scene):
    keys = scene[1].base.keys
    assert count_pairs(keys) == slow_pairs(keys) > 2 * len(keys)


def test_flops_are_those_of_the_products_that_are_made(scene):
    """Torch counts the matrix products as they happen; means are not among them."""
    network, voxels = scene
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(voxels)
    work = network_work(network, voxels, 4)
    assert work["3x3x3 convolutions"].flops + work["linear layers"].flops == counter.get_total_flops()


class SlowCount:
    """A sum of the bytes that go into and come out of every layer, counted as they pass."""

    def __init__(self, network, voxels, size):
        self.bytes = dict.fromkeys(("3x3x3 convolutions", "linear layers", "means and copies"), 0)
        self.mean_flops, self.size = 0, size
        self.input = network.embed_points
        # The weights are read as they are: every layer runs once, but for the block's own two convolutions.
        for module in network.modules():
            if isinstance(module, SparseConv3d | nn.Linear):
                module.register_forward_hook(self.layer, with_kwargs=True)

    def layer(self, module, inputs, options, output):
        if isinstance(module, ConcatLinear):
            for part, _ in inputs:  # each is multiplied where it lives
                rows, channels = part.shape
                self.bytes["linear layers"] += self.size * (
                    rows * channels + rows * module.out_features + channels * module.out_features
                )
            return
        read = inputs[0].numel() * (4 if module is self.input else self.size)
        numbers = module.weight.numel() + output.numel()
        kernel_map = inputs[1] if isinstance(module, SparseConv3d) else None
        if kernel_map is None:
            self.bytes["linear layers"] += read + self.size * numbers
            return
        if options.get("residual") is not None:
            numbers += output.numel()
        # The centre needs no list of neighbours.
        self.bytes["3x3x3 convolutions"] += read + self.size * numbers + 4 * sum(map(len, kernel_map.inputs))

    def average(self, average, features, result):
        channels = features.shape[1]
        rows = len(features) if average.ends is not None else min(len(result), len(features))
        self.bytes["means and copies"] += self.size * channels * (rows + len(result)) + 4 * len(average.source)
        self.mean_flops += 0 if average.ends is None else 2 * channels * len(average.source)


@pytest.mark.parametrize("size", [4, 2])
def test_bytes_and_means_as_they_happen(scene, size, monkeypatch):
    network, voxels = make_network_3d(scene[0].scale_list).eval(), scene[1]
    slow = SlowCount(network, voxels, size)

    def observed(average, features, call=RowSum.__call__):
        result = call(average, features)
        slow.average(average, features, result)
        return result

    # Of the points' own features the voxelisation takes means; they are not the network's.
    monkeypatch.setattr(RowSum, "__call__", observed)
    with switched_off():  # layer by layer: with gradients, an MLP runs each of its layers
        network(voxels)
    work = network_work(network, voxels, size)
    assert {kind: part.bytes for kind, part in work.items()} == slow.bytes
    assert work["means and copies"].flops == slow.mean_flops > 0


def test_whatever_the_backend(scene):
    """Work is counted from the voxels: a backend whose map has no list of pairs changes nothing."""
    network, voxels = scene
    expected = network_work(network, voxels, 4)
    for number in range(len(network.encoder)):
        vars(voxels.finer(number))["kernel_map"] = None
    assert network_work(network, voxels, 4) == expected


def test_bounds():
    rates = Rates(flops=2e9, bytes=1e9, matrix=(8, 4, 4))
    assert rates.bounds(Work(4_000_000_000, 500_000_000)) == (2.0, 0.5)
    parts = {"a": Work(3_000_000_000, 0), "b": Work(1_000_000_000, 500_000_000)}
    lines = " ".join(roofline_lines("3D network", parts, rates, [("ours", 8.0)]))
    assert "4 GFLOP (a 3, b 1) and at least 500 MB" in lines
    assert "Arithmetic bound: 2,000 ms at 2 GFLOP/s" in lines and "Memory bound: 500 ms at 1.0 GB/s" in lines
    assert "Achieved: 25 % of the greater bound (ours: 8,000 ms)" in lines


def test_rates_are_of_what_is_done(monkeypatch):
    calls = []
    monkeypatch.setattr(roofline, "_fastest", lambda call, device, repeat: calls.append(call()) or 0.5)
    assert matrix_rate(CPU, torch.float32, (10, 3, 2)) == 2 * 10 * 3 * 2 / 0.5
    assert copy_rate(CPU, 4000) == 2 * 4000 / 0.5
    assert [tuple(result.shape) for result in calls] == [(10, 2), (1000,)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rates_are_measured(dtype):
    assert matrix_rate(CPU, dtype, (64, 8, 8)) > 0
