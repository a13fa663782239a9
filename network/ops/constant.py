"""Constants that are kept on a device."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor


@lru_cache(maxsize=64)
def constant(values: tuple[float, ...], device: torch.device) -> Tensor:
    """Returns the numbers as a float32 tensor on the device.

    The tensors are kept: sending numbers to a GPU makes the host wait until the GPU has finished its work.
    """
    with torch.inference_mode(False):
        return torch.tensor(values, dtype=torch.float32, device=device)
