"""Linear layers that are computed in C++ on a CPU, with the activation and additions that follow fused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from network.native import linear as native
from network.native.convolution import Addend, Epilogue, can_compute
from network.native.gradients import weight_gradient
from network.native.packing import forget
from network.ops.kept import Kept
from network.ops.sums import RowSum

LEAST_WORK = 1 << 20
"""Multiplications in fp32 below which PyTorch's product is used. In bf16 it prepares itself for every new number of
rows, which takes longer than a small product."""


def compute_dtype(features: Tensor) -> torch.dtype:
    """Returns the type in which a matrix product with these features is computed: that of autocast, or their own."""
    device = features.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else features.dtype


def finish(result: Tensor, residual: Tensor | None, slope: float) -> Tensor:
    """Computes LeakyReLU(result + residual) in place: `result` must not be needed elsewhere."""
    if residual is not None:
        result = result.add_(residual)
    if slope == 0.0:
        return F.relu(result, inplace=True)
    return result if slope == 1.0 else F.leaky_relu(result, slope, inplace=True)


def needs_gradient(*tensors: Tensor | None) -> bool:
    """Returns whether autograd must follow what is computed from these tensors."""
    return torch.is_grad_enabled() and any(tensor is not None and tensor.requires_grad for tensor in tensors)


def is_native(features: Tensor, weight: Tensor) -> bool:
    """Returns whether a product of features (R, C_in) with a weight (C_out, C_in) is computed in C++."""
    dtype = compute_dtype(features)
    if features.dim() != 2 or not can_compute(features, dtype):
        return False
    return dtype == torch.bfloat16 or features.numel() * len(weight) >= LEAST_WORK


def linear(features: Tensor, weight: Tensor, bias: Tensor | None = None, slope: float = 1.0) -> Tensor:
    """Computes LeakyReLU(x W^T + b), as `torch.nn.functional.linear`; autocast applies.

    Args:
        features: (..., C_in) features x.
        weight: (C_out, C_in) matrix W.
        bias: (C_out,) b, or None.
        slope: slope of the LeakyReLU; 1 for no activation, 0 for a ReLU.
    """
    if not is_native(features, weight):
        return finish(F.linear(features, weight, bias), None, slope)
    features = features.to(compute_dtype(features))
    if needs_gradient(features, weight, bias):
        result = _Linear.apply(features, weight, bias)
        assert isinstance(result, Tensor)
        return finish(result, None, slope)
    return native.linear(features, weight, Epilogue(bias, slope=slope))[0]


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(features, weight)
        # Detached, the weight is packed at each step: a fused optimiser's step does not change the version of a weight.
        return native.linear(features, weight.detach(), Epilogue(bias))[0]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        features, weight = ctx.saved_tensors
        grad = grad_outputs[0]
        grad_features = grad_weight = grad_bias = None
        if ctx.needs_input_grad[0]:
            grad_features, _ = native.linear(grad, weight.T)
        if ctx.needs_input_grad[1] or ctx.needs_input_grad[2]:
            grad_weight, grad_bias = weight_gradient(features, grad, with_bias=ctx.needs_input_grad[2])
            grad_weight = grad_weight[0].T
        return grad_features, grad_weight, grad_bias


class Linear(nn.Linear):
    """A linear layer, with the activation that follows."""

    def forward(self, input: Tensor, slope: float = 1.0) -> Tensor:
        """Computes LeakyReLU(Linear(input)), (..., C_out); a slope of 1 means no activation, 0 a ReLU."""
        return linear(input, self.weight, self.bias, slope)

    def with_sum(self, input: Tensor, addend: Tensor) -> tuple[Tensor, Tensor]:
        """Computes Linear(input) and Linear(input) + addend, both (R, C_out)."""
        if not is_native(input, self.weight) or needs_gradient(input, self.weight, addend):
            result = self(input)
            return result, result + addend
        epilogue = Epilogue(self.bias, addend=Addend(addend))
        result, total = native.linear(input.to(compute_dtype(input)), self.weight, epilogue)
        assert total is not None
        return result, total

    def train(self, mode: bool = True) -> Linear:
        """Sets training or evaluation mode, as for any module, and drops what is kept of the weight."""
        forget(self.weight)
        return super().train(mode)


class ConcatLinear(nn.Linear):
    """A linear layer on concatenated parts that multiplies each part on its own rows before it gathers common rows.

    The result is that of Linear(concat(parts)), with fewer rows to multiply.
    """

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__(c_in, c_out)
        self._matrices = Kept()

    def forward(self, *parts: tuple[Tensor, RowSum | None], slope: float = 1.0) -> Tensor:  # type: ignore[override]
        """Computes LeakyReLU(Linear(concat(parts))), (R, C_out).

        Args:
            parts: for each part its (R_i, C_i) features, and the `RowSum` that gathers R of those rows; None if the
                features have the R rows already.
            slope: slope of the LeakyReLU; 1 for no activation, 0 for a ReLU.
        """
        tensors, picks = zip(*parts, strict=True)
        widths = [features.shape[1] for features in tensors]
        matrices = self._matrices.get_or_make(
            (self.weight,), compute_dtype(tensors[0]), lambda: _copies(self.weight.split(widths, dim=1))
        )
        if is_native(tensors[0], self.weight) and not needs_gradient(*tensors, self.weight):
            return self._fused(tensors, picks, matrices, slope)
        out: Tensor | None = None
        # Those that need no pick come last: their products are added where they are computed.
        for features, pick, matrix in sorted(
            zip(tensors, picks, matrices, strict=True), key=lambda part: part[1] is None
        ):
            if out is not None and pick is None:
                out = torch.addmm(out, features, matrix.T)
                continue
            product = linear(features, matrix, self.bias if out is None else None)
            product = product if pick is None else pick(product)
            out = product if out is None else out.add_(product)
        assert out is not None
        return finish(out, None, slope)

    def _fused(
        self,
        tensors: Sequence[Tensor],
        picks: Sequence[RowSum | None],
        matrices: Sequence[Tensor],
        slope: float,
    ) -> Tensor:
        """Multiplies the first part on the rows of the result, and adds rows of the products of the others there."""
        dtype = compute_dtype(tensors[0])
        first, *others = [features.to(dtype) for features in tensors]
        residuals = [
            Addend(native.linear(features, matrix)[0], None if pick is None else pick.source)
            for features, matrix, pick in zip(others, matrices[1:], picks[1:], strict=True)
        ]
        rows = None if picks[0] is None else picks[0].source.int()
        return native.linear(first, matrices[0], Epilogue(self.bias, residuals, slope), rows)[0]

    def train(self, mode: bool = True) -> ConcatLinear:
        """Sets training or evaluation mode, as for any module, and drops what is kept of the weight."""
        self._matrices.clear()
        return super().train(mode)


def _copies(matrices: Sequence[Tensor]) -> Sequence[Tensor]:
    return matrices if torch.is_grad_enabled() else [matrix.contiguous() for matrix in matrices]
