"""Sparse convolution in C++: products of pairs of rows, with everything that follows fused."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor, nn

from network.native.library import Library, library, pointer
from network.native.packing import TYPES, packed

WIDTH = 16
"""A multiple of the columns of a vector of any instruction set."""
BLOCK_ROWS = 512
"""Output rows that are computed at a time: their sums stay in a core's cache."""


_NUMBER, _ADDRESS = ctypes.c_int64, ctypes.c_void_p


class _Addend(ctypes.Structure):
    """The record `Addend` of source/convolution.h."""

    _fields_ = (("rows", _ADDRESS), ("picks", _ADDRESS))


class Call(ctypes.Structure):
    """The record `Convolution` of source/convolution.h."""

    _fields_ = (
        *[(name, _ADDRESS) for name in ("features", "weights", "inputs", "outputs", "cuts", "side", "side_weights")],
        ("bias", _ADDRESS),
        ("residuals", ctypes.POINTER(_Addend)),
        ("out", _ADDRESS),
        ("addend", _Addend),
        ("out_plus", _ADDRESS),
        *[(name, _NUMBER) for name in ("num_residuals", "type", "rows", "c_in", "c_out", "side_depth", "offsets")],
        *[(name, _NUMBER) for name in ("identity", "block_rows", "threads")],
        ("slope", ctypes.c_float),
    )


class Pairs(NamedTuple):
    """The pairs of a kernel map.

    Attributes:
        inputs, outputs: (M,) int32, offset after offset; in an offset the outputs ascend.
        cuts: (blocks + 1, K) int32, see `cut`.
        identity: the offset that maps every row to itself and has no pairs in the lists, or None.
        num_inputs, num_outputs: number of input and output rows.
    """

    inputs: Tensor
    outputs: Tensor
    cuts: Tensor
    identity: int | None
    num_inputs: int
    num_outputs: int


class Addend(NamedTuple):
    """Rows that are added to the results.

    Attributes:
        rows: (R, C_out).
        picks: (num_outputs,) int64, the row for each output row; None: the same row.
    """

    rows: Tensor
    picks: Tensor | None = None


class Epilogue(NamedTuple):
    """The steps after the sums: out = LeakyReLU(sum + bias + residuals), and out + addend as a second result.

    Attributes:
        bias: (C_out,) or None.
        residuals: any number of them.
        slope: slope of the LeakyReLU; 1 for none, 0 for a ReLU.
        addend: what the second result adds, or None if there is none.
    """

    bias: Tensor | None = None
    residuals: Sequence[Addend] = ()
    slope: float = 1.0
    addend: Addend | None = None


class Side(NamedTuple):
    """A further product that is added to the sums: features (num_outputs, C) times a matrix (1, C, C_out)."""

    features: Tensor
    matrix: Tensor


NOTHING = Epilogue()


def can_compute(features: Tensor, dtype: torch.dtype) -> bool:
    """Returns whether the C++ can compute with these features in that type."""
    return dtype in TYPES and features.device.type == "cpu" and library() is not None


def cut(outputs: Tensor, ends: Tensor, num_outputs: int) -> Tensor:
    """Finds for each block of BLOCK_ROWS output rows the first pair of each offset that lies in it or later.

    Args:
        outputs: (M,) int32 output rows, offset after offset, ascending in each.
        ends: (K + 1,) int64 where the pairs of each offset begin.
        num_outputs: number of output rows.

    Returns:
        (blocks + 1, K) int32.
    """
    blocks, offsets = -(-num_outputs // BLOCK_ROWS), len(ends) - 1
    cuts = torch.empty(blocks + 1, offsets, dtype=torch.int32)
    outputs = outputs.contiguous()
    _functions(_loaded())[1](pointer(outputs), pointer(ends), offsets, BLOCK_ROWS, blocks, pointer(cuts))
    return cuts


def convolve(
    features: Tensor, weight: Tensor, pairs: Pairs, epilogue: Epilogue = NOTHING, side: Side | None = None
) -> tuple[Tensor, Tensor | None]:
    """Computes a sparse convolution without a gradient.

    Args:
        features: (num_inputs, C_in) fp32 or bf16; the type that is computed in. Sums are fp32, rounded once.
        weight: (K, C_in, C_out) fp32 or bf16, of any strides.
        pairs: the pairs of each offset.
        epilogue: what follows the sums.
        side: a further product.

    Returns:
        (num_outputs, C_out) in the type of the features, and the second result of the epilogue or None.
    """
    offsets = pairs.cuts.shape[1]
    if (offsets, *features.shape) != (weight.shape[0], pairs.num_inputs, weight.shape[1]):
        raise ValueError(
            f"a kernel map of {offsets} offsets and {pairs.num_inputs} input rows, features {tuple(features.shape)} "
            f"and a weight {tuple(weight.shape)} do not belong together"
        )
    call = Call(inputs=pointer(pairs.inputs), outputs=pointer(pairs.outputs), cuts=pointer(pairs.cuts))
    call.identity = -1 if pairs.identity is None else pairs.identity
    call.rows, call.block_rows, call.offsets, call.c_out = pairs.num_outputs, BLOCK_ROWS, offsets, weight.shape[2]
    return run(call, features, packed(weight, features.dtype), epilogue, side)


def run(
    call: Call, features: Tensor, weights: Tensor, epilogue: Epilogue, side: Side | None = None
) -> tuple[Tensor, Tensor | None]:
    """Completes the record of a call whose pairs and sizes are set, and computes it; see `convolve`.

    Args:
        call: its record.
        features: its input rows.
        weights: the packed weight.
        epilogue: what follows the sums.
        side: a further product.
    """
    dtype, shape = features.dtype, (call.rows, call.c_out)
    features = features.contiguous()
    alive = [features, weights]  # what the record points to
    call.features, call.weights, call.c_in = pointer(features), pointer(weights), features.shape[1]
    if side is not None:
        if side.matrix.shape != (1, side.features.shape[1], shape[1]) or len(side.features) != shape[0]:
            raise ValueError(f"further features for {shape} have shape {tuple(side.features.shape)}")
        other, matrix = side.features.to(dtype).contiguous(), packed(side.matrix, dtype)
        call.side, call.side_weights, call.side_depth = pointer(other), pointer(matrix), other.shape[1]
        alive += [other, matrix]
    if epilogue.bias is not None:
        alive.append(_padded(epilogue.bias, call.c_out))
        call.bias = pointer(alive[-1])
    residuals = [_addend(residual, shape, dtype, alive) for residual in epilogue.residuals]
    call.num_residuals, call.residuals = len(residuals), (_Addend * len(residuals))(*residuals)
    out = features.new_empty(shape)
    plus = None if epilogue.addend is None else features.new_empty(shape)
    if epilogue.addend is not None:
        call.addend = _addend(epilogue.addend, shape, dtype, alive)
    call.out, call.out_plus = pointer(out), pointer(plus)
    call.type, call.slope, call.threads = TYPES[dtype], epilogue.slope, torch.get_num_threads()
    _functions(_loaded())[0](ctypes.byref(call))
    return out, plus


def _addend(addend: Addend, shape: tuple[int, int], dtype: torch.dtype, alive: list[Tensor]) -> _Addend:
    """Makes the record of rows that are added to a result of some shape; what it points to is appended to `alive`."""
    rows, picks = addend
    if (len(rows if picks is None else picks), rows.shape[1]) != shape:
        raise ValueError(f"rows of shape {tuple(rows.shape)} cannot be added to {shape}")
    rows = rows.to(dtype).contiguous()
    alive.append(rows)
    if picks is not None:
        picks = picks.contiguous()
        alive.append(picks)
    return _Addend(pointer(rows), pointer(picks))


def _padded(bias: Tensor, c_out: int) -> Tensor:
    """Returns a bias in fp32, with zeros for the columns by which weights are padded."""
    if bias.shape != (c_out,):
        raise ValueError(f"a bias for {c_out} channels has shape {tuple(bias.shape)}")
    bias = bias.detach().float()
    return bias.contiguous() if c_out % WIDTH == 0 else nn.functional.pad(bias, (0, -c_out % WIDTH))


def _loaded() -> Library:
    loaded = library()
    assert loaded is not None
    return loaded


@lru_cache(maxsize=1)
def _functions(loaded: Library) -> tuple[Callable[..., None], Callable[..., None]]:
    return (
        loaded.function("native_convolve", _ADDRESS),
        loaded.function("native_cut", _ADDRESS, _ADDRESS, _NUMBER, _NUMBER, _NUMBER, _ADDRESS),
    )
