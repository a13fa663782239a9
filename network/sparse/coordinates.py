"""Voxel coordinates as one sortable int64 key each.

A key packs (batch, y, x, z), z innermost, 16 bits per axis with a bias, so negative coordinates are fine, the next
voxel in z is key + 1, and neighbours in x and y are a constant away. Sorting 1-D keys is what makes voxelisation and
neighbour search fast: torch.unique over (V, 4) rows takes many times as long.
"""

from __future__ import annotations

import torch
from torch import Tensor

BIAS = 1 << 15
LIMIT = BIAS - 4  # coordinates beyond +-LIMIT (1.6 km at 5 cm) are clamped there, so neighbours never overflow a field
STEP_X = 1 << 16
STEP_Y = 1 << 32
_BATCH_SHIFT = 48
_AXIS_MASK = 0xFFFF


def pack(batch: Tensor, z: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """Keys (V,) int64 of integer coordinates (V,) each; `batch` in 0..32767, the axes within +-LIMIT (else clamped)."""
    x, y, z = (axis.long().clamp(-LIMIT, LIMIT) + BIAS for axis in (x, y, z))
    return (batch.long() << _BATCH_SHIFT) | (y << 32) | (x << 16) | z


def unpack(keys: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Inverse of `pack`: (batch, z, y, x), each (V,) int64."""
    y = ((keys >> 32) & _AXIS_MASK) - BIAS
    x = ((keys >> 16) & _AXIS_MASK) - BIAS
    z = (keys & _AXIS_MASK) - BIAS
    return keys >> _BATCH_SHIFT, z, y, x


def halve(keys: Tensor) -> Tensor:
    """Keys of floor(coordinate / 2) on every axis, the batch kept; not sorted, not distinct."""
    # BIAS is even, so halving the biased fields halves the coordinates. The mask drops the bits that one field
    # shifts into the next, and the bias is made whole again.
    halved = (keys >> 1) & 0x7FFF_7FFF_7FFF
    bias = (BIAS >> 1) * (STEP_Y + STEP_X + 1)
    return ((keys >> _BATCH_SHIFT) << _BATCH_SHIFT) | (halved + bias)


def divide(keys: Tensor, stride: int) -> Tensor:
    """Keys of floor(coordinate / stride) on every axis, the batch kept; not sorted, not distinct."""
    batch, z, y, x = unpack(keys)
    return pack(batch, *(torch.div(axis, stride, rounding_mode="floor") for axis in (z, y, x)))


def kernel_offsets(kernel_size: int) -> list[tuple[int, int, int]]:
    """Offsets (dz, dy, dx) in weight order (z slowest, x fastest): centred for odd sizes, 0..k-1 for even ones."""
    low = -(kernel_size // 2) if kernel_size % 2 else 0
    axis = range(low, low + kernel_size)
    return [(dz, dy, dx) for dz in axis for dy in axis for dx in axis]
