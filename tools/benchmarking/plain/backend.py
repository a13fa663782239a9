"""Sparse convolution in the plain way as a backend: a search per offset, a loop over offsets, autograd.

The voxel models with it are their own plain way: only their convolutions and kernel maps differ.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from network.sparse.coordinates import unpack
from network.sparse.layers import SparseBackend
from tools.benchmarking.plain.versions import Pairs, kernel_map, wide


@dataclass(frozen=True)
class PlainMap:
    """The pairs of a convolution.

    Attributes:
        pairs: for each offset the rows of the inputs and of the outputs.
        num_inputs, num_outputs: numbers of voxels.
    """

    pairs: Pairs
    num_inputs: int
    num_outputs: int

    def convolve(
        self,
        features: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        residual: Tensor | None = None,
        slope: float = 1.0,
    ) -> Tensor:
        """Computes LeakyReLU(convolution + bias + residual)."""
        out = wide(features.new_zeros(self.num_outputs, weight.shape[2]))
        for (inputs, outputs), matrix in zip(self.pairs, weight, strict=True):
            out = out.index_add(0, outputs, wide(features[inputs] @ matrix))
        for term in (bias, residual):
            out = out if term is None else out + term
        out = out.to(features.dtype)
        return out if slope == 1.0 else F.leaky_relu(out, slope)

    def transposed(self) -> PlainMap:
        """Returns the map of the transposed convolution."""
        return PlainMap([(outputs, inputs) for inputs, outputs in self.pairs], self.num_outputs, self.num_inputs)


def _submanifold_map(keys: Tensor, kernel_size: int) -> PlainMap:
    assert kernel_size == 3
    coordinates, place = torch.unique(torch.stack(unpack(keys), 1).long(), dim=0, return_inverse=True)
    row = place.argsort()  # keys have an order of their own
    pairs = [(row[inputs], row[outputs]) for inputs, outputs in kernel_map(coordinates)]
    return PlainMap(pairs, len(keys), len(keys))


def _halving_map(keys: Tensor, parent: Tensor, num_coarse: int) -> PlainMap:
    _, z, y, x = unpack(keys)
    offset = 4 * (z % 2) + 2 * (y % 2) + x % 2
    rows = [torch.nonzero(offset == number)[:, 0] for number in range(8)]
    return PlainMap([(inputs, parent[inputs]) for inputs in rows], len(keys), num_coarse)


PLAIN = SparseBackend("plain", _submanifold_map, _halving_map)
