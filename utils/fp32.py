"""How products of fp32 numbers are computed: as IEEE 754 says, or in TF32, which keeps 10 of the 23 bits.

The one place that says so, for matrix products and convolutions, and the one that is asked. PyTorch has two sets of
switches for it, and they are not the same thing seen from two sides: the older ones (`allow_tf32`,
`set_float32_matmul_precision`) keep a state of their own beside the newer ones (`fp32_precision`), and raise when they
are read while the two disagree. So whoever writes here writes both, and whoever reads here reads the newer ones, which
never raise, whatever the user or a library has set before.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

_backends: Any = torch.backends  # whose switches appear when it is imported, so that type checkers know none
_cuda, _cudnn, _mkldnn = _backends.cuda, _backends.cudnn, _backends.mkldnn
_ON_CUDA = (_cuda.matmul, _cudnn.conv, _cudnn.rnn)
_ON_CPU = (_mkldnn.matmul, _mkldnn.conv, _mkldnn.rnn)


def set_fp32_arithmetic(tf32: bool) -> None:
    """Decides how every product of fp32 numbers in this process is computed from now on.

    Args:
        tf32: in TF32 on a GPU; otherwise, and on a CPU always, in full precision.
    """
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    _cudnn.allow_tf32 = tf32
    # The older switches leave some of the newer ones to what a wider one says ("none"), or change those of the CPU.
    for switch in _ON_CUDA:
        switch.fp32_precision = "tf32" if tf32 else "ieee"
    for switch in _ON_CPU:
        switch.fp32_precision = "ieee"


def matmul_in_tf32() -> bool:
    """Whether matrix products of fp32 numbers are computed in TF32 on a GPU."""
    return _cuda.matmul.fp32_precision == "tf32"


@contextmanager
def exact_matmul() -> Iterator[None]:
    """Matrix products of fp32 numbers are computed in full precision inside, on a GPU and on a CPU."""
    reduced = [(s, s.fp32_precision) for s in (_cuda.matmul, _mkldnn.matmul) if s.fp32_precision in ("tf32", "bf16")]
    for switch, _ in reduced:
        switch.fp32_precision = "ieee"
    try:
        yield
    finally:
        for switch, before in reduced:
            switch.fp32_precision = before
