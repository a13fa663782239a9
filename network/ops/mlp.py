"""Chains of linear layers, activations and norms."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from network.ops.kept import Kept
from network.ops.linear import compute_dtype, linear


class MLP(nn.Sequential):
    """A chain of linear layers, each followed by an activation and a BatchNorm in any order, or by none.

    In evaluation the norms are folded into the linear layers beside them, and the activations are computed with them.
    """

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__(*layers)
        self._folded = Kept()
        self._slopes = [slope for *_, slope in _steps(layers)]

    def forward(self, input: Tensor) -> Tensor:
        """Computes (R, C_out) features from (R, C_in)."""
        if self.training or torch.is_grad_enabled():
            return super().forward(input)
        tensors = [*self.parameters(), *(buffer for buffer in self.buffers() if buffer.is_floating_point())]
        folded = self._folded.get_or_make(tensors, compute_dtype(input), lambda: _fold(list(self)))
        for weight, bias, slope in zip(folded[::2], folded[1::2], self._slopes, strict=True):
            input = linear(input, weight, bias, slope)
        return input

    def folded(self) -> list[tuple[Tensor, Tensor, float]]:
        """Computes weight (C_out, C_in), bias and slope of each linear layer, with the norms beside it folded in."""
        tensors = _fold(list(self))
        return list(zip(tensors[::2], tensors[1::2], self._slopes, strict=True))

    def train(self, mode: bool = True) -> MLP:
        """Sets training or evaluation mode, as for any module, and drops the folded weights."""
        self._folded.clear()
        return super().train(mode)


def _steps(layers: Sequence[nn.Module]) -> Iterator[tuple[nn.Linear, _BatchNorm | None, _BatchNorm | None, float]]:
    """Yields each linear layer, the norms before and after its activation, and the slope of this; 1 without one."""
    starts = [i for i, layer in enumerate(layers) if isinstance(layer, nn.Linear)]
    assert starts and starts[0] == 0
    for begin, end in zip(starts, [*starts[1:], len(layers)], strict=True):
        layer, before, after, slope = layers[begin], None, None, None
        assert isinstance(layer, nn.Linear)
        for follower in layers[begin + 1 : end]:
            if isinstance(follower, _BatchNorm):
                before, after = (follower, after) if slope is None else (before, follower)
            else:
                assert isinstance(follower, (nn.LeakyReLU, nn.ReLU)) and slope is None
                slope = 0.0 if isinstance(follower, nn.ReLU) else follower.negative_slope
        yield layer, before, after, 1.0 if slope is None else slope


def _fold(layers: Sequence[nn.Module]) -> list[Tensor]:
    """Returns weight and bias of each linear layer, with the norms beside it folded in."""
    result: list[Tensor] = []
    earlier: _BatchNorm | None = None
    for layer, before, after, _ in _steps(layers):
        weight, bias = layer.weight, layer.bias
        if earlier is not None:  # W (s x + t) + b
            scale, shift = _affine(earlier)
            weight, bias = weight * scale, bias + weight @ shift
        if before is not None:
            scale, shift = _affine(before)
            weight, bias = weight * scale[:, None], bias * scale + shift
        result += [weight, bias]
        earlier = after
    assert earlier is None, "a norm at the end follows no linear layer into which it could be folded"
    return result


def _affine(norm: _BatchNorm) -> tuple[Tensor, Tensor]:
    """Returns scale and shift of a norm in evaluation."""
    assert norm.running_mean is not None and norm.running_var is not None
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    return scale, norm.bias - norm.running_mean * scale
