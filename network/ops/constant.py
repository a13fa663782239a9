"""Constants that are kept on a device."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor


@cache
def constant(values: tuple[float, ...], device: torch.device, dtype: torch.dtype = torch.float32) -> Tensor:
    """Returns the numbers as a tensor on the device.

    The tensors are kept for good: sending numbers to a GPU makes the host wait until the GPU has finished its work, and
    a CUDA graph reads them whenever it is replayed. So there must be few of them: those of a
    network, not of a scan.
    """
    with torch.inference_mode(False):
        return torch.tensor(values, dtype=dtype, device=device)
