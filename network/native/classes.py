"""The best class of every point, on a CPU."""

from __future__ import annotations

import ctypes
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from network.native.library import Library, library


def best_classes(logits: Tensor) -> tuple[Tensor, Tensor] | None:
    """Finds the class of each point with the greatest logit, class 0 apart; None where PyTorch has to do it.

    Args:
        logits: (P, K) float32 of 2 to 256 classes.

    Returns:
        (P,) uint8 classes from 1 on, the lowest of several equally good ones, and a scalar bool: whether all logits are
        finite. Where one is NaN, the class of its point means nothing.
    """
    fits = logits.device.type == "cpu" and logits.dtype == torch.float32 and 2 <= logits.shape[1] <= 256
    lib = library() if fits else None
    if lib is None:
        return None
    logits = logits.contiguous()
    best = torch.empty(len(logits), dtype=torch.uint8)
    finite = _function(lib)(logits.data_ptr(), *logits.shape, best.data_ptr(), torch.get_num_threads())
    return best, torch.tensor(bool(finite))


@lru_cache(maxsize=1)
def _function(lib: Library) -> Any:
    address, size = ctypes.c_void_p, ctypes.c_int64
    return lib.function("native_best_classes", address, size, size, address, ctypes.c_int, returns=ctypes.c_int)
