"""The derivative of the Lovasz extension of the Jaccard loss, on a CPU."""

from __future__ import annotations

import ctypes
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from network.native.library import Library, library

_MOST_ROWS = 1 << 24  # up to here float32 has every number of rows


def lovasz_gradient(errors: Tensor, foreground: Tensor) -> Tensor | None:
    """Computes the derivative of the Lovasz extension, one class per thread at a time; None where PyTorch has to do it.

    The results are the same to the last bit; of equal errors the earlier row comes first.

    Args:
        errors: (K, R) non-negative float32.
        foreground: (K, R) float32, 0 or 1.

    Returns:
        (K, R) float32.
    """
    fits = errors.device.type == "cpu" and errors.dtype == torch.float32 and errors.shape[1] < _MOST_ROWS
    lib = library() if fits else None
    if lib is None:
        return None
    errors, foreground = errors.contiguous(), foreground.contiguous()
    gradient, threads = torch.empty_like(errors), torch.get_num_threads()
    room = torch.empty(min(threads, len(errors)) * 2 * errors.shape[1], dtype=torch.int64)
    addresses = [tensor.data_ptr() for tensor in (errors, foreground, gradient, room)]
    _function(lib)(*addresses[:2], *errors.shape, *addresses[2:], threads)
    return gradient


@lru_cache(maxsize=1)
def _function(lib: Library) -> Any:
    address, size = ctypes.c_void_p, ctypes.c_int64
    kinds = (address, address, size, size, address, address, ctypes.c_int)
    return lib.function("native_lovasz_gradient", *kinds)
