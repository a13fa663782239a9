"""Gradients of the weights and biases of convolutions and linear layers, on a CPU: sums of outer products of rows."""

from __future__ import annotations

import ctypes
from typing import Protocol

import torch
from torch import Tensor

from network.native.library import library, pointer

TYPES = (torch.float32, torch.bfloat16)


class Pairs(Protocol):
    """The pairs of rows of a kernel map; see `network.sparse.native_backend.NativeMap`."""

    @property
    def num_outputs(self) -> int:
        """The number of output rows."""
        ...

    @property
    def inputs(self) -> Tensor:
        """The input row of each pair, (M,) int32."""
        ...

    @property
    def outputs(self) -> Tensor:
        """The output row of each pair, (M,) int32."""
        ...

    @property
    def ends(self) -> Tensor:
        """The place where the pairs of each offset end, (K + 1,) int64."""
        ...

    @property
    def identity(self) -> int | None:
        """The offset that maps every row to itself, or None."""
        ...


def weight_gradient(
    features: Tensor, grad: Tensor, pairs: Pairs | None = None, with_bias: bool = False
) -> tuple[Tensor, Tensor | None]:
    """Computes dW[k] = sum over the pairs (i, o) of offset k: features[i]^T grad[o], and db = sum over o: grad[o].

    It is to be called only where `library()` is not None. For a number of threads the result is always the same.

    Args:
        features: (num_inputs, C_in) fp32 or bf16, on the CPU.
        grad: (num_outputs, C_out) in the same type, gradient of the result.
        pairs: the kernel map; None for a linear layer, where the rows of both belong together.
        with_bias: whether to compute db.

    Returns:
        (K, C_in, C_out) and (C_out,), both fp32 (K = 1 without pairs); None instead of db if it is not wanted.
    """
    native = library()
    assert native is not None and features.dtype == grad.dtype and features.dtype in TYPES
    features, grad = _rows(features), _rows(grad)
    c_in, c_out = features.shape[1], grad.shape[1]
    if pairs is None:
        inputs = outputs = torch.empty(0, dtype=torch.int32)
        ends, identity, rows = torch.zeros(2, dtype=torch.int64), 0, len(grad)
    else:
        inputs, outputs, ends = pairs.inputs.contiguous(), pairs.outputs.contiguous(), pairs.ends.contiguous()
        identity, rows = pairs.identity, pairs.num_outputs
    offsets, bf16, threads = len(ends) - 1, features.dtype == torch.bfloat16, torch.get_num_threads()
    shape = (c_in, c_out, features.stride(0), grad.stride(0), offsets, -1 if identity is None else identity, rows)
    room = native.function("native_weight_gradient_room", *[ctypes.c_int64] * 4, returns=ctypes.c_int64)
    words = torch.empty(threads * room(bf16, c_in, c_out, offsets), dtype=torch.int32)
    sums = torch.empty(offsets * c_in * c_out + c_out)
    native.function("native_weight_gradient", *_ARGUMENTS)(
        pointer(features), pointer(grad), bf16, pointer(inputs), pointer(outputs), pointer(ends),
        (ctypes.c_int64 * len(shape))(*shape), with_bias, pointer(sums), pointer(words), threads,
    )  # fmt: skip
    weight, bias = sums.split([offsets * c_in * c_out, c_out])
    return weight.view(offsets, c_in, c_out), bias if with_bias else None


_P, _I = ctypes.c_void_p, ctypes.c_int64
_ARGUMENTS = (_P, _P, _I, _P, _P, _P, ctypes.POINTER(_I), _I, _P, _P, _I)


def _rows(tensor: Tensor) -> Tensor:
    """Returns the rows such that the numbers of each stand together; the rows themselves may be apart."""
    return tensor if tensor.stride(1) == 1 and tensor.stride(0) >= tensor.shape[1] else tensor.contiguous()
