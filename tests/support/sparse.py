"""Kernel maps of each kind, made by any sparse backend."""

from __future__ import annotations

import torch
from torch import Tensor

from network.sparse.coordinates import halve

KINDS = {"submanifold": 3, "strided": 2, "transposed": 2}
"""Kind of convolution -> kernel size."""


def make_map(backend, kind: str, keys: Tensor):
    """Builds the map, and the keys of its input and output rows."""
    if kind == "submanifold":
        return backend.submanifold_map(keys, 3), keys, keys
    coarse, parent = torch.unique(halve(keys), return_inverse=True)
    kernel_map = backend.halving_map(keys, parent, len(coarse))
    return (kernel_map, keys, coarse) if kind == "strided" else (kernel_map.transposed(), coarse, keys)
