"""Constants that are kept on a device."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor


def constant(values: tuple[float, ...], device: torch.device, dtype: torch.dtype = torch.float32) -> Tensor:
    """Returns the numbers as a tensor on the device.

    The tensors are kept for good: sending numbers to a GPU makes the host wait until the GPU has finished its work, and
    a CUDA graph reads them whenever it is replayed. So there must be few of them: those of a
    network, not of a scan.
    """
    if torch.compiler.is_exporting():  # tensors then are not real, and not to be kept
        return torch.tensor(values, dtype=dtype, device=device)
    return kept_constant(values, device, dtype)


@cache
def kept_constant(values: tuple[float, ...], device: torch.device, dtype: torch.dtype) -> Tensor:
    """Returns the numbers as a tensor on the device, the same one at each call; see `constant`."""
    with torch.inference_mode(False):
        return torch.tensor(values, dtype=dtype, device=device)
