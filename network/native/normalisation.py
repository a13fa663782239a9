"""BatchNorm over rows in training, on a CPU, with the addition and the activation that follow, and its gradients."""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.modules.batchnorm import _BatchNorm

from network.native.library import library, pointer

TYPES = (torch.float32, torch.bfloat16)
_P, _I, _F = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float
_FORWARD = (_P, _P, _P, _P, _I, _I, _I, _F, _F, _P, _P, _P, _I)
_BACKWARD = (_P, _P, _P, _P, _P, _I, _I, _I, _F, _F, _P, _P, _P, _P, _I)


def train_norm(norm: _BatchNorm, input: Tensor, residual: Tensor | None, slope: float) -> Tensor:
    """Computes LeakyReLU(BN(input) + residual) in training, with gradients, and updates the running statistics.

    It is to be called only where `library()` is not None. Sums are fp32 and fp64, whatever the type of the input; for a
    number of threads the result is always the same.

    Args:
        norm: the norm, with weight, bias, running statistics and a momentum.
        input: (R, C) or (B, C, h, w), fastest in channels_last; fp32 or bf16, on the CPU, two rows or more.
        residual: what is added, in the shape of the input, or None.
        slope: slope of the LeakyReLU; 1 for no activation, 0 for a ReLU.

    Returns:
        The shape and the type of the input.
    """
    assert norm.momentum is not None and norm.running_mean is not None and norm.running_var is not None
    assert norm.num_batches_tracked is not None
    rows, added = _rows(input), None if residual is None else _rows(residual.to(input.dtype))
    result = _Norm.apply(rows, added, norm.weight, norm.bias, norm.eps, slope)
    assert isinstance(result, tuple)
    out, mean, variance = result
    with torch.no_grad():
        norm.num_batches_tracked.add_(1)
        norm.running_mean.lerp_(mean, norm.momentum)
        norm.running_var.lerp_(variance * (len(rows) / (len(rows) - 1)), norm.momentum)
    return out if input.dim() == 2 else out.view(len(input), *input.shape[2:], -1).permute(0, 3, 1, 2)


def _rows(tensor: Tensor) -> Tensor:
    """Returns a feature map as rows of channels, without copying it if it is in channels_last."""
    return tensor if tensor.dim() == 2 else tensor.permute(0, 2, 3, 1).reshape(-1, tensor.shape[1])


class _Norm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, features: Tensor, residual: Tensor | None, weight: Tensor, bias: Tensor, eps: float, slope: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        native = library()
        assert native is not None and features.dtype in TYPES
        features, (rows, columns), threads = features.contiguous(), features.shape, torch.get_num_threads()
        added = None if residual is None else residual.contiguous()
        out, about = torch.empty_like(features), torch.empty(4, columns)
        work = torch.empty(threads, 2, columns, dtype=torch.float64)
        native.function("native_norm_forward", *_FORWARD)(
            pointer(features), pointer(added), pointer(weight), pointer(bias), features.dtype == torch.bfloat16,
            rows, columns, eps, slope, pointer(out), pointer(about), pointer(work), threads,
        )  # fmt: skip
        ctx.save_for_backward(features, weight, about, None if slope == 1.0 else out)
        ctx.eps, ctx.slope = eps, slope
        mean, variance = about[0].clone(), about[1].clone()
        ctx.mark_non_differentiable(mean, variance)
        ctx.set_materialize_grads(False)
        return out, mean, variance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        grad = grad_outputs[0]
        if grad is None:
            return (None,) * 6
        native = library()
        assert native is not None
        features, weight, about, out = ctx.saved_tensors
        grad, (rows, columns), threads = grad.contiguous(), features.shape, torch.get_num_threads()
        grad_features = torch.empty_like(features)
        # Without an activation the gradient of what is added is that of the result.
        grad_added = torch.empty_like(features) if ctx.needs_input_grad[1] and out is not None else None
        gradients, work = torch.empty(5, columns), torch.empty(threads, 2, columns, dtype=torch.float64)
        native.function("native_norm_backward", *_BACKWARD)(
            pointer(grad), pointer(out), pointer(features), pointer(weight), pointer(about),
            features.dtype == torch.bfloat16, rows, columns, ctx.eps, ctx.slope, pointer(grad_features),
            pointer(grad_added), pointer(gradients), pointer(work), threads,
        )  # fmt: skip
        if ctx.needs_input_grad[1] and grad_added is None:
            grad_added = grad
        return grad_features, grad_added, gradients[0], gradients[1], None, None
