"""Gradients of weights and biases in C++, compared with fp64 products of gathered rows, for each level."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from network.native.gradients import weight_gradient
from network.native.library import library
from network.sparse.coordinates import pack
from network.sparse.native_backend import BACKEND, NativeMap
from tests.support.sparse import KINDS, make_map

LEVELS = () if (found := library()) is None else found.levels
pytestmark = pytest.mark.skipif(not LEVELS, reason="no native code on this machine")
TYPES = (torch.float32, torch.bfloat16)


@pytest.fixture(params=LEVELS)
def level(request: pytest.FixtureRequest) -> Iterator[str]:
    """Allows no instructions beyond a level."""
    native = library()
    assert native is not None
    before = native.level
    native.allow(request.param)
    yield request.param
    native.allow(before)


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def _keys(count: int) -> Tensor:
    cells = torch.randperm(24 * 24 * 6, generator=torch.Generator().manual_seed(count))[:count]
    return pack(torch.zeros_like(cells), cells % 6, cells // 6 % 24, cells // 144).sort().values


def _numbers(rows: int, columns: int, dtype: torch.dtype) -> Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(rows + columns)).to(dtype)


def _slow(features: Tensor, grad: Tensor, pairs: NativeMap) -> Tensor:
    """Computes the gradient offset by offset in fp64."""
    products = []
    for k, (begin, end) in enumerate(zip(pairs.ends[:-1].tolist(), pairs.ends[1:].tolist(), strict=True)):
        left, right = features.double(), grad.double()
        if k != pairs.identity:
            left, right = left[pairs.inputs[begin:end].long()], right[pairs.outputs[begin:end].long()]
        products.append(left.T @ right)
    return torch.stack(products)


def _assert_close(found: Tensor | None, wanted: Tensor) -> None:
    """Compares sums of fp32 products, of which bf16 numbers have exact ones."""
    assert found is not None and found.dtype == torch.float32 and found.shape == wanted.shape
    torch.testing.assert_close(
        found.double(), wanted, rtol=1e-5, atol=2e-6 * max(1.0, float(wanted.abs().max()) if wanted.numel() else 0.0)
    )


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("kind", KINDS)
def test_weight_of_a_convolution(level: str, kind: str, dtype: torch.dtype) -> None:
    for count in (0, 1, 2, 1500):  # more than two blocks of rows
        kernel_map, _, _ = make_map(BACKEND, kind, _keys(count))
        assert isinstance(kernel_map, NativeMap)
        for c_in, c_out in ((1, 1), (10, 20), (33, 17), (64, 50), (5, 130)):
            features = _numbers(kernel_map.num_inputs, c_in, dtype)
            grad = _numbers(kernel_map.num_outputs, c_out, dtype)
            weight, bias = weight_gradient(features, grad, kernel_map, with_bias=True)
            _assert_close(weight, _slow(features, grad, kernel_map))
            _assert_close(bias, grad.double().sum(0))


@pytest.mark.parametrize("dtype", TYPES)
def test_weight_of_a_linear_layer(level: str, dtype: torch.dtype) -> None:
    for rows, c_in, c_out in ((0, 3, 4), (1, 16, 16), (65, 64, 128), (1025, 31, 49)):
        features, grad = _numbers(rows, c_in, dtype), _numbers(rows, c_out, dtype)
        weight, bias = weight_gradient(features, grad, with_bias=True)
        _assert_close(weight[0], features.double().T @ grad.double())
        _assert_close(bias, grad.double().sum(0))
        assert weight_gradient(features, grad)[1] is None


@pytest.mark.parametrize("dtype", TYPES)
def test_rows_that_are_not_contiguous(level: str, dtype: torch.dtype) -> None:
    features, grad = _numbers(40, 100, dtype)[:, 3:37], _numbers(24, 100, dtype).T[:40]
    _assert_close(weight_gradient(features, grad)[0][0], features.double().T @ grad.double())
    features, grad = _numbers(1, 24, dtype).expand(50, 24), _numbers(50, 24, dtype)[:, ::2]
    _assert_close(weight_gradient(features, grad)[0][0], features.double().T @ grad.double())


@pytest.mark.parametrize("dtype", TYPES)
def test_the_same_result_every_time_for_a_number_of_threads(threads: None, dtype: torch.dtype) -> None:
    kernel_map = BACKEND.submanifold_map(_keys(2000), 3)
    assert isinstance(kernel_map, NativeMap)
    features, grad = _numbers(2000, 32, dtype), _numbers(2000, 48, dtype)
    wanted = _slow(features, grad, kernel_map)
    for count in (1, 2, 3, 7):
        torch.set_num_threads(count)
        first, bias = weight_gradient(features, grad, kernel_map, with_bias=True)
        _assert_close(first, wanted)
        _assert_close(bias, grad.double().sum(0))
        assert all(torch.equal(first, weight_gradient(features, grad, kernel_map)[0]) for _ in range(3))


@pytest.mark.parametrize("dtype", TYPES)
def test_infinite_numbers_stay_in_their_rows_and_columns(level: str, dtype: torch.dtype) -> None:
    features, grad = _numbers(33, 20, dtype), _numbers(33, 20, dtype)  # odd: the last row has no partner in bf16
    features[32, 3] = torch.inf
    weight, bias = weight_gradient(features, grad, with_bias=True)
    bad = ~torch.isfinite(weight[0])
    assert bad[3].all() and not bad[:3].any() and not bad[4:].any() and bias is not None and bias.isfinite().all()
