"""The native backend computes sparse convolution on a CPU in C++ (`network/native`), without gathering and without
writing products: some hundred output rows at a time, whose sums stay in the cache.

What the C++ does not cover (fp64, fp16, a GPU) is computed by the torch backend on the same pairs.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from network.native.convolution import Addend, Epilogue, Pairs, Side, can_compute, convolve, cut
from network.native.gradients import weight_gradient
from network.native.neighbours import halving_pairs, neighbour_pairs
from network.ops.linear import linear, needs_gradient
from network.sparse import torch_backend
from network.sparse.layers import Layer, SparseBackend, compute_dtype, finish
from network.sparse.native_check import check_once
from network.sparse.torch_backend import PairMap
from utils.errors import UserError


@dataclass(frozen=True, eq=False)
class NativeMap:
    """A kernel map as pairs of rows in the order of the kernel offsets.

    Attributes:
        num_inputs, num_outputs: number of input and output rows.
        inputs, outputs: (M,) int32, the pairs of all offsets, offset after offset; in an offset both ascend.
        ends: (K + 1,) int64, on the CPU: offset k has the pairs ends[k] .. ends[k + 1] - 1.
        identity: the offset that maps every row to itself, or None; it has no pairs in the lists.
        mirrored: whether the pairs of offset k are those of the k-th offset from the end, with inputs and outputs
            exchanged.
        origin: for a transposed map, a reference to the map it was made from.
    """

    num_inputs: int
    num_outputs: int
    inputs: Tensor
    outputs: Tensor
    ends: Tensor
    identity: int | None = None
    mirrored: bool = False
    origin: weakref.ref[NativeMap] | None = None

    @cached_property
    def plain(self) -> PairMap:
        """The same map for the torch backend."""
        counts = self.ends.diff().tolist()
        inputs, outputs = (tuple(rows.long().split(counts)) for rows in (self.inputs, self.outputs))
        return PairMap(self.num_inputs, self.num_outputs, inputs, outputs, self.identity, self.mirrored)

    @cached_property
    def _reversed(self) -> NativeMap:
        lists = (self.outputs, self.inputs, self.ends)
        return NativeMap(self.num_outputs, self.num_inputs, *lists, self.identity, self.mirrored, weakref.ref(self))

    def transposed(self) -> NativeMap:
        """Returns the map of the transposed (inverse) convolution: the same pairs with inputs and outputs exchanged."""
        return (self.origin and self.origin()) or self._reversed

    def convolve(
        self,
        features: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        residual: Tensor | None = None,
        slope: float = 1.0,
    ) -> Tensor:
        """Computes LeakyReLU(convolution + bias + residual); see `torch_backend.PairMap.convolve`."""
        dtype = compute_dtype(features)
        if not self._can_compute(features, dtype):
            return self.plain.convolve(features, weight, bias, residual, slope)
        features = features.to(dtype)
        if needs_gradient(features, weight, bias, residual):
            result = _Convolution.apply(features, weight, bias, self)
            assert isinstance(result, Tensor)
            return finish(result, residual, slope)
        residuals = () if residual is None else (Addend(residual),)
        return convolve(features, weight, self.pairs, Epilogue(bias, residuals, slope))[0]

    def convolve_with_shortcut(
        self, features: Tensor, weight: Tensor, bias: Tensor, start: Tensor, matrix: Tensor, slope: float
    ) -> Tensor:
        """Computes LeakyReLU(convolution + bias + start @ matrix) without a gradient; see `layers.FusingMap`."""
        dtype = compute_dtype(features)
        if not self._can_compute(features, dtype):
            return self.plain.convolve(features, weight, bias, linear(start, matrix[0].T), slope)
        side = Side(start, matrix)
        return convolve(features.to(dtype), weight, self.pairs, Epilogue(bias, slope=slope), side)[0]

    def _can_compute(self, features: Tensor, dtype: torch.dtype) -> bool:
        return can_compute(features, dtype) and len(self.inputs) < 1 << 31  # the numbers of pairs are int32

    @cached_property
    def pairs(self) -> Pairs:
        """The map as the C++ takes it."""
        cuts = cut(self.outputs, self.ends, self.num_outputs)
        return Pairs(
            self.inputs.contiguous(), self.outputs.contiguous(), cuts, self.identity, self.num_inputs, self.num_outputs
        )


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, weight: Tensor, bias: Tensor | None, kernel_map: NativeMap) -> Tensor:
        ctx.save_for_backward(features, weight)
        ctx.kernel_map = kernel_map
        # Detached, the weight is packed at each step: a fused optimiser's step does not change the version of a weight.
        return convolve(features, weight.detach(), kernel_map.pairs, Epilogue(bias))[0]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        features, weight = ctx.saved_tensors
        kernel_map: NativeMap = ctx.kernel_map
        grad = grad_outputs[0].contiguous()
        grad_features = grad_weight = grad_bias = None
        if ctx.needs_input_grad[0]:
            # As in the torch backend: the transposed map with transposed weights, or the same map where it is its own
            # mirror image.
            transposed = weight.transpose(1, 2)
            if kernel_map.mirrored:
                grad_features, _ = convolve(grad, transposed.flip(0), kernel_map.pairs)
            else:
                grad_features, _ = convolve(grad, transposed, kernel_map.transposed().pairs)
        if ctx.needs_input_grad[1] or ctx.needs_input_grad[2]:
            grad_weight, grad_bias = weight_gradient(features, grad, kernel_map, ctx.needs_input_grad[2])
        return grad_features, grad_weight, grad_bias, None


def _native(pairs: PairMap) -> NativeMap:
    ends = torch.tensor([0, *(len(rows) for rows in pairs.inputs)]).cumsum(0)
    inputs, outputs = (torch.cat([*rows]).int() for rows in (pairs.inputs, pairs.outputs))
    return NativeMap(pairs.num_inputs, pairs.num_outputs, inputs, outputs, ends, pairs.identity, pairs.mirrored)


def submanifold_map(keys: Tensor, kernel_size: int) -> NativeMap:
    """Builds the map of a submanifold convolution; see `torch_backend.submanifold_map`.

    Raises:
        UserError: the keys are not on the CPU.
    """
    _check_device(keys.device)
    pairs = neighbour_pairs(keys, kernel_size) if kernel_size in (2, 3) else None
    if pairs is not None:
        centre = 13 if kernel_size == 3 else None
        lists = (pairs.inputs, pairs.outputs, pairs.ends)
        return NativeMap(len(keys), len(keys), *lists, centre, centre is not None)
    return _native(torch_backend.submanifold_map(keys, kernel_size))


def halving_map(keys: Tensor, parent: Tensor, num_coarse: int) -> NativeMap:
    """Builds the map of a convolution of size 2, stride 2, from known parents; see `torch_backend.halving_map`.

    Raises:
        UserError: the keys are not on the CPU.
    """
    _check_device(keys.device)
    pairs = halving_pairs(keys, parent)
    if pairs is not None:
        return NativeMap(len(keys), num_coarse, pairs.inputs, pairs.outputs, pairs.ends)
    return _native(torch_backend.halving_map(keys, parent, num_coarse))


def _check_device(device: torch.device) -> None:
    if device.type != "cpu":
        raise UserError("model_params.sparse_backend: native runs on a CPU only; set model_params.sparse_backend=auto")


def warm_up(device: torch.device, dtype: torch.dtype, layers: Iterable[Layer], training: bool) -> None:
    """Compiles and checks what the layers need; where it is wrong or cannot be compiled, plain PyTorch is used.

    Raises:
        UserError: the device is not the CPU.
    """
    _check_device(device)
    check_once(BACKEND, dtype, layers, training)


BACKEND = SparseBackend("native", submanifold_map, halving_map, warm_up)
