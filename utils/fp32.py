"""The precision of products of fp32 numbers: IEEE 754, or TF32, which keeps 10 of the 23 bits of the mantissa.

This is the only place that sets and reads it, for matrix products and convolutions. PyTorch has two sets of switches:
the older ones (`allow_tf32`, `set_float32_matmul_precision`) have a state beside that of the newer ones
(`fp32_precision`), and reading them raises an error while the two disagree. So this module writes both and reads only
the newer ones, which never raise an error, whatever the user or a library has set before.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

_backends: Any = torch.backends  # its switches appear when it is imported, so type checkers do not know them
_cuda, _cudnn, _mkldnn = _backends.cuda, _backends.cudnn, _backends.mkldnn
_ON_CUDA = (_cuda.matmul, _cudnn.conv, _cudnn.rnn)
_ON_CPU = (_mkldnn.matmul, _mkldnn.conv, _mkldnn.rnn)


def set_fp32_arithmetic(tf32: bool) -> None:
    """Sets the precision of all products of fp32 numbers in this process.

    Args:
        tf32: whether to use TF32 on a GPU; otherwise, and always on a CPU, the precision is full.
    """
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    _cudnn.allow_tf32 = tf32
    # The older switches set some of the newer ones to "none" (as a wider switch says), or change those of the CPU.
    for switch in _ON_CUDA:
        switch.fp32_precision = "tf32" if tf32 else "ieee"
    for switch in _ON_CPU:
        switch.fp32_precision = "ieee"


def matmul_in_tf32() -> bool:
    """Returns whether matrix products of fp32 numbers are computed in TF32 on a GPU."""
    return _cuda.matmul.fp32_precision == "tf32"


@contextmanager
def exact_matmul() -> Iterator[None]:
    """Makes matrix products of fp32 numbers use full precision inside the block, on a GPU and on a CPU."""
    reduced = [(s, s.fp32_precision) for s in (_cuda.matmul, _mkldnn.matmul) if s.fp32_precision in ("tf32", "bf16")]
    for switch, _ in reduced:
        switch.fp32_precision = "ieee"
    try:
        yield
    finally:
        for switch, before in reduced:
            switch.fp32_precision = before
