"""Layers on voxel features. They hold weights; which voxels meet which is the kernel map's business."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor, nn

LEAKY_SLOPE = 0.1

Activation = Callable[[Tensor], Tensor]


class KernelMap(Protocol):
    """Geometry of a sparse convolution, made by a backend for one voxel set."""

    def convolve(self, features: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """(V_in, C_in) features and (K, C_in, C_out) weight -> (V_out, C_out)."""
        ...


class BatchNorm(nn.BatchNorm1d):
    """BatchNorm over rows (eps 1e-5, momentum 0.1) that also accepts fewer than two rows in training.

    Statistics of a single row are meaningless, so there the running ones are used.
    """

    def forward(self, input: Tensor) -> Tensor:
        if self.training and len(input) < 2:
            return nn.functional.batch_norm(
                input, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps
            )
        return super().forward(input)


class SparseConv3d(nn.Module):
    """Sparse 3D convolution without bias: submanifold, strided or transposed, as the kernel map says.

    Weight layout: (kernel volume, C_in, C_out), offsets z slowest, x fastest.
    """

    def __init__(self, c_in: int, c_out: int, kernel_size: int) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.weight = nn.Parameter(torch.empty(kernel_size**3, c_in, c_out))
        # kaiming-uniform with a = sqrt(5) over fan-in = kernel volume * C_in
        bound = 1 / math.sqrt(kernel_size**3 * c_in)
        nn.init.uniform_(self.weight, -bound, bound)

    def forward(self, features: Tensor, kernel_map: KernelMap | None, bias: Tensor | None = None) -> Tensor:
        """(V_in, C_in) -> (V_out, C_out); a kernel of size 1 on the same voxels needs no map."""
        return self._convolve(features, kernel_map, self.weight, bias)

    def _convolve(self, features: Tensor, kernel_map: KernelMap | None, weight: Tensor, bias: Tensor | None) -> Tensor:
        if kernel_map is not None:
            return kernel_map.convolve(features, weight, bias)
        if self.kernel_size != 1:
            raise ValueError(f"a convolution of kernel size {self.kernel_size} needs a kernel map")
        return nn.functional.linear(features, weight[0].T, bias)


class SparseConvNorm(SparseConv3d):
    """Sparse convolution followed by BatchNorm; in evaluation the norm is folded into the weights."""

    def __init__(self, c_in: int, c_out: int, kernel_size: int) -> None:
        super().__init__(c_in, c_out, kernel_size)
        self.norm = BatchNorm(c_out)

    def forward(self, features: Tensor, kernel_map: KernelMap | None, bias: Tensor | None = None) -> Tensor:
        """(V_in, C_in) -> (V_out, C_out)."""
        if self.training or bias is not None:
            return self.norm(super().forward(features, kernel_map, bias))
        norm = self.norm
        assert norm.running_mean is not None and norm.running_var is not None
        scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
        return self._convolve(features, kernel_map, self.weight * scale, norm.bias - norm.running_mean * scale)


def leaky_relu(features: Tensor) -> Tensor:
    """LeakyReLU of slope 0.1, in place: it always follows a fresh result that nothing else needs."""
    return nn.functional.leaky_relu(features, LEAKY_SLOPE, inplace=True)


def relu(features: Tensor) -> Tensor:
    """ReLU in place, where `leaky_relu` could stand."""
    return nn.functional.relu(features, inplace=True)


class ResidualBlock(nn.Module):
    """act(BN(SubM3(act(BN(SubM3(x))))) + shortcut(x)); the shortcut is BN(SubM1(x)), or x itself.

    Args:
        c_in, c_out: channels.
        activation: applied in place.
        keep_identity: where c_in = c_out the shortcut is x itself, with no weights (the voxel models; 2DPASS has
            weights in every shortcut).
    """

    def __init__(self, c_in: int, c_out: int, activation: Activation = leaky_relu, keep_identity: bool = False) -> None:
        super().__init__()
        self.activation = activation
        self.conv1 = SparseConvNorm(c_in, c_out, 3)
        self.conv2 = SparseConvNorm(c_out, c_out, 3)
        self.shortcut = None if keep_identity and c_in == c_out else SparseConvNorm(c_in, c_out, 1)

    def forward(self, features: Tensor, kernel_map: KernelMap) -> Tensor:
        """(V, C_in) -> (V, C_out) on the voxels of `kernel_map`."""
        inner = self.activation(self.conv1(features, kernel_map))
        shortcut = features if self.shortcut is None else self.shortcut(features, None)
        return self.activation(self.conv2(inner, kernel_map) + shortcut)
