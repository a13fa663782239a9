"""Numbers on a device."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor


@lru_cache(maxsize=64)
def constant(values: tuple[float, ...], device: torch.device) -> Tensor:
    """float32 numbers on a device. Kept there: sending them makes the host wait for all that the device has to do."""
    with torch.inference_mode(False):
        return torch.tensor(values, dtype=torch.float32, device=device)
