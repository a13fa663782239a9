"""The check of a backend, on stand-ins that are wrong in one thing only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from network.sparse import torch_backend
from network.sparse.backend_check import first_wrong, made_up_surface
from network.sparse.layers import KernelMap, SparseBackend

LAYERS = [(27, 4, 32), (27, 64, 64), (8, 64, 32), (1, 64, 64)]
KEYS = made_up_surface(torch.device("cpu"), 9)
Spoil = Callable[[str, Tensor], Tensor]


class Gradient(torch.autograd.Function):
    """A function that returns its tensor and changes the gradient."""

    @staticmethod
    def forward(ctx, tensor: Tensor, name: str, spoil: Spoil) -> Tensor:
        ctx.spoil, ctx.name = spoil, name
        return tensor.clone()

    @staticmethod
    def backward(ctx, *grad_outputs: Tensor) -> tuple[Tensor, None, None]:
        return ctx.spoil(ctx.name, grad_outputs[0].clone()), None, None


@dataclass(frozen=True)
class Spoilt:
    """A map of the torch backend whose results and gradients are changed by a function (name, tensor) -> tensor."""

    right: KernelMap
    spoil: Spoil

    def convolve(self, features, weight, bias=None, residual=None, slope=1.0) -> Tensor:
        if torch.is_grad_enabled():
            features = Gradient.apply(features, "gradient of the features", self.spoil)
            weight = Gradient.apply(weight, "gradient of the weights", self.spoil)
        out = self.right.convolve(features, weight, bias, residual, slope)
        if torch.is_grad_enabled():
            return self.spoil("sums in training", out)
        more = " and ".join(name for name, t in (("bias", bias), ("residual", residual)) if t is not None)
        return self.spoil(f"sums with {more}" if more else "sums", out)

    def transposed(self) -> Spoilt:
        return Spoilt(self.right.transposed(), self.spoil)


def backend(spoil: Spoil) -> SparseBackend:
    return SparseBackend(
        "spoilt",
        lambda keys, size: Spoilt(torch_backend.submanifold_map(keys, size), spoil),
        lambda keys, parent, num: Spoilt(torch_backend.halving_map(keys, parent, num), spoil),
    )


def only(wanted: str, columns: int, change: Callable[[Tensor], Tensor]) -> Spoil:
    return lambda name, t: change(t) if (name, t.shape[-1]) == (wanted, columns) else t


def last_channel(tensor: Tensor) -> Tensor:
    """Adds a fiftieth of the largest number to one channel."""
    return tensor + 0.02 * tensor.abs().max() * (torch.arange(tensor.shape[-1]) == tensor.shape[-1] - 1)


def one_nan(tensor: Tensor) -> Tensor:
    return tensor.index_fill(0, torch.tensor([len(tensor) - 1]), float("nan"))


def in_bf16(tensor: Tensor) -> Tensor:
    return tensor.bfloat16().to(tensor.dtype)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_torch_backend_agrees_with_itself(dtype, training) -> None:
    assert first_wrong(torch_backend.BACKEND, KEYS, dtype, LAYERS, training) is None


@pytest.mark.parametrize(
    ("wanted", "columns", "change", "found"),
    [
        ("sums", 64, last_channel, "27 offsets, 64 -> 64 channels"),
        ("sums with bias", 64, last_channel, "27 offsets, 64 -> 64 channels"),
        ("sums with bias and residual", 64, one_nan, "27 offsets, 64 -> 64 channels"),
        ("sums in training", 64, last_channel, "27 offsets, 64 -> 64 channels"),
        ("gradient of the features", 4, last_channel, "27 offsets, 4 -> 32 channels"),
        ("gradient of the weights", 64, last_channel, "27 offsets, 64 -> 64 channels"),
        ("gradient of the weights", 32, one_nan, "27 offsets, 4 -> 32 channels"),
        ("sums", 16, last_channel, None),  # no layer is as wide
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_what_is_wrong_at_one_width_alone_is_found(dtype, wanted, columns, change, found) -> None:
    reason = first_wrong(backend(only(wanted, columns, change)), KEYS, dtype, LAYERS, True)
    name = str(dtype).removeprefix("torch.")
    assert reason == (None if found is None else f"wrong results: {wanted}, {found}, {name}")


def test_strided_layers_and_their_transposes() -> None:
    for number, layers in enumerate([[(8, 6, 5)], [(27, 6, 5)]]):
        wrong = backend(only("sums", 5, last_channel))
        assert f"{(8, 27)[number]} offsets, 6 -> 5" in str(first_wrong(wrong, KEYS, torch.float32, layers, False))
    coarse = len(torch_backend.strided_map(KEYS, 2, 2)[0])
    back = backend(lambda name, t: t * 2 if name == "sums" and len(t) != coarse else t)
    assert "8 offsets" in str(first_wrong(back, KEYS, torch.float32, [(8, 6, 5)], False))


def test_an_evaluation_looks_at_no_gradients() -> None:
    wrong = backend(only("gradient of the weights", 64, last_channel))
    assert first_wrong(wrong, KEYS, torch.float32, LAYERS, False) is None


def test_full_precision_means_full_precision() -> None:
    """Sums that are rounded to 8 bits are wrong in fp32, but right in bf16."""
    wrong = backend(lambda name, t: in_bf16(t))
    assert "wrong results: sums" in str(first_wrong(wrong, KEYS, torch.float32, LAYERS, False))
    assert first_wrong(wrong, KEYS, torch.bfloat16, LAYERS, False) is None
