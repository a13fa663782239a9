"""Voxel coordinates are packed into one sortable int64 key per voxel.

A key packs (batch, y, x, z), z innermost, with 16 bits and a bias per axis. So negative coordinates are allowed, the
next voxel in z has the key + 1, and neighbours in x and y differ by a constant. Sorting 1-D keys makes voxelisation and
neighbour search fast: torch.unique over (V, 4) rows takes many times as long.
"""

from __future__ import annotations

import torch
from torch import Tensor

from network.native.voxels import halved_keys

BIAS = 1 << 15
LIMIT = BIAS - 4  # coordinates are clamped to +-LIMIT (1.6 km at 5 cm), so that neighbours never overflow their bits
STEP_X = 1 << 16
STEP_Y = 1 << 32
_BATCH_SHIFT = 48
_AXIS_MASK = 0xFFFF


def pack(batch: Tensor, z: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """Packs integer coordinates into keys, (V,) int64.

    Args:
        batch: (V,) number of the scan in the batch, 0..32767.
        z, y, x: (V,) voxel coordinates; clamped to +-LIMIT.
    """
    x, y, z = (axis.long().clamp(-LIMIT, LIMIT) + BIAS for axis in (x, y, z))
    return (batch.long() << _BATCH_SHIFT) | (y << 32) | (x << 16) | z


def unpack(keys: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Unpacks keys (V,) into (batch, z, y, x), each (V,) int64."""
    y = ((keys >> 32) & _AXIS_MASK) - BIAS
    x = ((keys >> 16) & _AXIS_MASK) - BIAS
    z = (keys & _AXIS_MASK) - BIAS
    return keys >> _BATCH_SHIFT, z, y, x


def halve(keys: Tensor) -> Tensor:
    """Computes the keys (V,) of floor(coordinate / 2) on every axis; they are neither sorted nor distinct."""
    if (found := halved_keys(keys)) is not None:
        return found
    # BIAS is even, so halving the biased fields halves the coordinates. The mask drops the bits that one field shifts
    # into the next, and half a bias is added to restore the bias.
    halved = (keys >> 1) & 0x7FFF_7FFF_7FFF
    bias = (BIAS >> 1) * (STEP_Y + STEP_X + 1)
    return ((keys >> _BATCH_SHIFT) << _BATCH_SHIFT) | (halved + bias)


def divide(keys: Tensor, stride: int) -> Tensor:
    """Computes the keys (V,) of floor(coordinate / stride) on every axis; they are neither sorted nor distinct."""
    batch, z, y, x = unpack(keys)
    return pack(batch, *(torch.div(axis, stride, rounding_mode="floor") for axis in (z, y, x)))


def kernel_offsets(kernel_size: int) -> list[tuple[int, int, int]]:
    """Lists the offsets (dz, dy, dx) in the order of the weights (z slowest, x fastest).

    They are centred for an odd kernel size k, and 0..k-1 for an even one.
    """
    low = -(kernel_size // 2) if kernel_size % 2 else 0
    axis = range(low, low + kernel_size)
    return [(dz, dy, dx) for dz in axis for dy in axis for dx in axis]
