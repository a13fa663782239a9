"""BatchNorm in C++, with addition and activation, compared with PyTorch's in fp64: results, gradients, statistics."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from network.native.library import library, switched_off
from network.sparse.layers import BatchNorm
from network.teachers.resnet34 import ImageNorm

pytestmark = pytest.mark.skipif(library() is None, reason="no native code on this machine")
TOLERANCE = {torch.float32: 2e-6, torch.bfloat16: 6e-3}  # of the largest number; bf16 results are rounded to 8 bits


def _numbers(*shape: int, offset: float = 0.0, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    return (torch.randn(*shape, generator=generator) + offset).to(dtype).requires_grad_()


def _trained(norm: nn.Module, input: Tensor, residual: Tensor | None, slope: float, grad: Tensor) -> list[Tensor]:
    """Returns the result, all gradients, and the running statistics."""
    inputs = [tensor for tensor in (input, residual) if tensor is not None]
    result = norm(input, residual, slope)
    gradients = torch.autograd.grad(result, [*inputs, *norm.parameters()], grad)
    return [result.detach(), *gradients, *(buffer.double() for buffer in norm.buffers())]


def _compare(norm: nn.Module, input: Tensor, residual: Tensor | None, slope: float) -> None:
    for parameter in norm.parameters():
        nn.init.normal_(parameter)
    grad = torch.randn(input.shape, generator=torch.Generator().manual_seed(9)).to(input.dtype)
    found = _trained(copy.deepcopy(norm), input, residual, slope, grad)
    assert found[0].dtype == input.dtype and found[0].shape == input.shape
    with switched_off():
        wide = [None if t is None else t.detach().double().requires_grad_() for t in (input, residual)]
        assert wide[0] is not None
        wanted = _trained(norm.double(), wide[0], wide[1], slope, grad.double())
    for ours, exact in zip(found, wanted, strict=True):
        tolerance = TOLERANCE[input.dtype] * max(1.0, float(exact.abs().max()))
        torch.testing.assert_close(ours.double(), exact, rtol=0, atol=tolerance)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(("slope", "adds"), [(1.0, False), (0.1, False), (0.0, True), (1.0, True)])
def test_rows(dtype: torch.dtype, slope: float, adds: bool) -> None:
    for rows, columns in ((2, 1), (33, 7), (31, 64), (700, 100)):  # the last one is computed by all threads
        residual = _numbers(rows, columns, offset=0.3, dtype=dtype) if adds else None
        _compare(BatchNorm(columns), _numbers(rows, columns, offset=1.0, dtype=dtype), residual, slope)


@pytest.mark.parametrize("memory_format", [torch.channels_last, torch.contiguous_format])
def test_feature_maps(memory_format: torch.memory_format) -> None:
    input = _numbers(2, 24, 5, 7).detach().contiguous(memory_format=memory_format).requires_grad_()
    _compare(ImageNorm(24), input, _numbers(2, 24, 5, 7, offset=0.5), 0.0)


def test_rows_far_from_zero() -> None:
    """A sum of squares would lose the variance of these in fp32."""
    input = (_numbers(3000, 8).detach() * 0.01 + 100).requires_grad_()
    norm = BatchNorm(8)
    found = norm(input)
    exact = torch.nn.functional.batch_norm(input.double(), None, None, training=True, eps=norm.eps)
    torch.testing.assert_close(found.double(), exact, rtol=0, atol=2e-3)
    torch.testing.assert_close(norm.running_var, 0.9 + 0.1 * input.double().var(0).float(), rtol=1e-6, atol=0)


def test_the_same_numbers_every_time_for_a_number_of_threads() -> None:
    input, before = _numbers(3001, 32), torch.get_num_threads()
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            first = BatchNorm(32)(input, None, 0.1)
            assert all(torch.equal(first, BatchNorm(32)(input, None, 0.1)) for _ in range(3))
    finally:
        torch.set_num_threads(before)


def test_a_norm_without_a_gradient_computes_and_keeps_statistics() -> None:
    norm, input = BatchNorm(5), _numbers(40, 5).detach()
    with torch.no_grad():
        result = norm(input, None, 0.0)
    assert (result >= 0).all() and not result.requires_grad and int(norm.num_batches_tracked or 0) == 1


def test_infinite_and_missing_numbers_are_passed_on() -> None:
    input = _numbers(40, 3).detach()
    input[3, 1] = torch.nan
    residual = torch.zeros(40, 3)
    residual[5, 0] = -torch.inf
    result = BatchNorm(3)(input, residual, 0.0)
    assert result[:, 1].isnan().all() and result[5, 0] == 0 and result[:, 2].isfinite().all()
