"""Linear layers in C++, with bias, residual and activation fused: a convolution of one offset."""

from __future__ import annotations

from torch import Tensor

from network.native.convolution import NOTHING, Call, Epilogue, run
from network.native.library import pointer
from network.native.packing import packed

BLOCK_ROWS = 48
"""Rows that are computed at a time: they, their sums and a matrix of 64 x 64 fit into the first-level cache."""


def linear(
    features: Tensor, weight: Tensor, epilogue: Epilogue = NOTHING, rows: Tensor | None = None
) -> tuple[Tensor, Tensor | None]:
    """Computes activation(x W^T + bias + residuals) without a gradient.

    Args:
        features: (R, C_in) fp32 or bf16; the type that is computed in. Sums are fp32, rounded once.
        weight: (C_out, C_in) fp32 or bf16, of any strides.
        epilogue: what follows the sums.
        rows: (N,) int32, the rows of the features that are x; None: all of them in order.

    Returns:
        (N, C_out) in the type of the features, and the second result of the epilogue or None.
    """
    if features.shape[1] != weight.shape[1]:
        raise ValueError(f"a weight {tuple(weight.shape)} does not multiply features {tuple(features.shape)}")
    count = len(features if rows is None else rows)
    call = Call(offsets=1, identity=0, rows=count, block_rows=BLOCK_ROWS, c_out=len(weight))
    if rows is not None:
        rows = rows.contiguous()
        call.inputs = pointer(rows)
    return run(call, features, packed(weight, features.dtype, transposed=True), epilogue)
