"""Linear layers in C++, and the layers of `network.ops` that use them, compared with PyTorch's in fp64."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from network.native import packing
from network.native.convolution import Addend, Epilogue
from network.native.library import library, switched_off
from network.native.linear import BLOCK_ROWS, linear
from network.ops import linear as layers
from network.ops.linear import ConcatLinear, Linear
from network.ops.mlp import MLP
from network.ops.sums import RowSum
from network.sparse import native_backend, torch_backend
from network.sparse.layers import BatchNorm, ResidualBlock
from tests.support.native import machine
from tests.support.networks import randomize_norms, relative_error

LEVELS = () if (found := library()) is None else found.levels
pytestmark = pytest.mark.skipif(not LEVELS, reason="no native code on this machine")
TOLERANCE = {torch.float32: 2e-6, torch.bfloat16: 4e-3}


@pytest.fixture(autouse=True)
def native_always(monkeypatch) -> None:
    """Small products are computed in C++, too."""
    monkeypatch.setattr(layers, "LEAST_WORK", 0)


def numbers(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape))).to(dtype)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("level", LEVELS)
def test_all_sizes(level, dtype) -> None:
    for count in (0, 1, 5, BLOCK_ROWS + 1, 200):
        for c_in, c_out in [(1, 1), (10, 64), (33, 20), (64, 128), (71, 200)]:
            x, w = numbers(count, c_in, dtype=dtype), numbers(c_out, c_in, dtype=dtype)
            with machine(level, threads=2):
                found, _ = linear(x, w, Epilogue(numbers(c_out), slope=0.1))
            assert found.dtype == dtype
            wanted = F.leaky_relu(F.linear(x.double(), w.double(), numbers(c_out).double()), 0.1)
            assert relative_error(found, wanted) < TOLERANCE[dtype]


def test_picked_rows_and_additions() -> None:
    x, w, some = numbers(30, 12), numbers(20, 12), numbers(7, 20)
    rows, picks = torch.arange(100) * 7 % 30, torch.arange(100) % 7
    epilogue = Epilogue(residuals=[Addend(some, picks)], slope=0.0, addend=Addend(some, picks))
    found, more = linear(x, w, epilogue, rows.int())
    wanted = F.relu(F.linear(x, w)[rows] + some[picks])
    assert more is not None
    assert relative_error(found, wanted) < 2e-6 and relative_error(more, wanted + some[picks]) < 2e-6


@pytest.mark.parametrize("autocast", [False, True])
def test_gradients_of_a_layer(autocast) -> None:
    """Those of PyTorch's layer in fp64, within the rounding of the type."""
    torch.manual_seed(0)
    slope = 1.0 if autocast else 0.1  # rounding changes the sign of numbers near 0
    layer, x = Linear(10, 20), numbers(130, 10).requires_grad_()
    twin, y = nn.Linear(10, 20).double(), x.detach().double().requires_grad_()
    twin.load_state_dict(layer.state_dict())
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        found = layer(x, slope)
    wanted = F.leaky_relu(twin(y), slope)
    upstream = numbers(130, 20)
    found.backward(upstream.to(found.dtype))
    wanted.backward(upstream.double())
    tolerance = 2e-2 if autocast else 5e-6
    pairs = [
        (found, wanted),
        (x.grad, y.grad),
        (layer.weight.grad, twin.weight.grad),
        (layer.bias.grad, twin.bias.grad),
    ]
    for ours, theirs in pairs:
        assert ours is not None and theirs is not None and relative_error(ours, theirs) < tolerance


def make_mlp() -> MLP:
    torch.manual_seed(0)
    mlp = MLP(Linear(9, 12), nn.LeakyReLU(0.1), BatchNorm(12), Linear(12, 20), BatchNorm(20), nn.ReLU(), Linear(20, 4))
    randomize_norms(mlp)
    return mlp.eval()


def test_mlp_folds_its_norms_and_follows_their_changes() -> None:
    mlp, x = make_mlp(), numbers(60, 9)
    variance = mlp.get_buffer("4.running_var")
    for change in (lambda: None, lambda: variance.mul_(2), lambda: next(mlp.parameters()).mul_(2)):
        with torch.no_grad():
            change()
            one_after_the_other = nn.Sequential(*mlp)(x)
            assert relative_error(mlp(x), one_after_the_other) < 1e-5
        with torch.inference_mode():
            assert relative_error(mlp(x), one_after_the_other) < 1e-5
    assert not copy.deepcopy(mlp)._folded and mlp._folded
    assert not mlp.train()._folded


def test_concat_linear_gathers_products() -> None:
    layer = ConcatLinear(5 + 6 + 7, 12)
    tensors = [numbers(20, 5), numbers(8, 6), numbers(50, 7)]
    rows = [torch.arange(50) * 3 % 20, torch.arange(50) % 8]
    picks = [RowSum.gathering(rows[0], 20), RowSum.gathering(rows[1], 8), None]
    joined = torch.cat([tensors[0][rows[0]], tensors[1][rows[1]], tensors[2]], dim=1)
    wanted = F.leaky_relu(F.linear(joined, layer.weight, layer.bias), 0.1)
    for order in ([0, 1, 2], [2, 0, 1]):
        weight = torch.cat([layer.weight.split([5, 6, 7], dim=1)[i] for i in order], dim=1)
        twin = ConcatLinear(18, 12)
        twin.load_state_dict({"weight": weight, "bias": layer.bias})
        parts = [(tensors[i], picks[i]) for i in order]
        assert relative_error(twin(*parts, slope=0.1), wanted) < 1e-5
        with torch.no_grad():
            assert relative_error(twin(*parts, slope=0.1), wanted) < 1e-5
            with switched_off():
                assert relative_error(twin(*parts, slope=0.1), wanted) < 1e-5


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_shortcut_inside_the_second_convolution(dtype) -> None:
    torch.manual_seed(0)
    block = ResidualBlock(6, 9).eval().to(dtype)
    randomize_norms(block)
    keys = torch.arange(0, 300, 2)
    x = numbers(len(keys), 6, dtype=dtype)
    with torch.no_grad():
        fused = block(x, native_backend.submanifold_map(keys, 3))
        assert relative_error(fused, block(x, torch_backend.submanifold_map(keys, 3))) < 1e-5


def test_packed_weights_are_kept_until_they_change() -> None:
    weight, x = numbers(20, 12), numbers(10, 12)
    with torch.no_grad():
        before = packing.packed(weight, torch.float32, transposed=True)
        assert packing.packed(weight, torch.float32, transposed=True) is before
        for change in (lambda: weight.mul_(3), lambda: packing.forget(weight)):
            change()
            assert packing.packed(weight, torch.float32, transposed=True) is not before
        assert relative_error(linear(x, weight)[0], F.linear(x, weight)) < 2e-6
        with machine("avx2"):  # its vectors are narrower
            assert relative_error(linear(x, weight)[0], F.linear(x, weight)) < 2e-6
    assert packing.packed(weight, torch.float32) is not packing.packed(weight, torch.float32), "not in training"
