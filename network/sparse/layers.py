"""Layers on voxel features hold the weights; the kernel map knows which voxels are neighbours."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from network.ops.kept import Kept
from network.ops.linear import compute_dtype, finish, linear

LEAKY_SLOPE = 0.1

Layer = tuple[int, int, int]
"""Kernel volume, C_in and C_out of a convolution."""


class KernelMap(Protocol):
    """The geometry of a sparse convolution: a backend makes it for one voxel set, and all layers on it share it."""

    def convolve(
        self,
        features: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        residual: Tensor | None = None,
        slope: float = 1.0,
    ) -> Tensor:
        """Computes LeakyReLU(convolution + bias + residual); see `torch_backend.PairMap.convolve`."""
        ...

    def transposed(self) -> KernelMap:
        """Returns the map of the transposed (inverse) convolution."""
        ...


@runtime_checkable
class FusingMap(KernelMap, Protocol):
    """A kernel map that computes a shortcut together with the convolution, where no gradient is needed."""

    def convolve_with_shortcut(
        self, features: Tensor, weight: Tensor, bias: Tensor, start: Tensor, matrix: Tensor, slope: float
    ) -> Tensor:
        """Computes LeakyReLU(convolution + bias + start @ matrix) with a (1, C, C_out) matrix; see `convolve`."""
        ...


def _needs_no_warm_up(device: torch.device, dtype: torch.dtype, layers: Iterable[Layer], training: bool) -> None:
    pass


@dataclass(frozen=True)
class SparseBackend:
    """A frozen record of the functions that make up an implementation of sparse convolution.

    Attributes:
        name: its name in `model_params.sparse_backend`.
        submanifold_map: (keys, kernel size) -> map of stride 1 whose output voxels are the input voxels; `keys` (V,)
            int64 are sorted and distinct.
        halving_map: (keys, parent, number of coarse voxels) -> map of size 2 and stride 2 from the voxels `keys` (V,)
            to coarser ones; `parent` (V,) int64 is the row of the coarse voxel that holds each.
        warm_up: (device, dtype, layers, whether to train) -> None; compiles, tunes and checks the kernels of all layers
            beforehand, so that no process does it while others wait.
    """

    name: str
    submanifold_map: Callable[[Tensor, int], KernelMap]
    halving_map: Callable[[Tensor, Tensor, int], KernelMap]
    warm_up: Callable[[torch.device, torch.dtype, Iterable[Layer], bool], None] = _needs_no_warm_up


class NormOfFew(nn.modules.batchnorm._BatchNorm):
    """A BatchNorm that accepts fewer than two values per channel in training.

    The variance of a single value is meaningless, so the running statistics are used there.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Normalises the input; channels are dimension 1."""
        if self.training and input.numel() < 2 * self.num_features:
            return nn.functional.batch_norm(
                input, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps
            )
        return super().forward(input)


class BatchNorm(NormOfFew, nn.BatchNorm1d):
    """A BatchNorm over the rows of (V, C) features (eps 1e-5, momentum 0.1), for any number of rows."""


class SparseConv3d(nn.Module):
    """A sparse 3D convolution without bias; the kernel map makes it submanifold, strided or transposed.

    The weight is (kernel volume, C_in, C_out), with offsets in the order z slowest, x fastest.

    Args:
        c_in, c_out: number of input and output channels.
        kernel_size: edge of the kernel, voxels.
    """

    def __init__(self, c_in: int, c_out: int, kernel_size: int) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.weight = nn.Parameter(torch.empty(kernel_size**3, c_in, c_out))
        # Kaiming-uniform with a = sqrt(5) and fan-in = kernel volume * C_in, as torch initialises its convolutions.
        bound = 1 / math.sqrt(kernel_size**3 * c_in)
        nn.init.uniform_(self.weight, -bound, bound)

    def forward(self, features: Tensor, kernel_map: KernelMap | None, bias: Tensor | None = None) -> Tensor:
        """Computes (V_out, C_out) features from (V_in, C_in); a kernel of size 1 on the same voxels needs no map.

        Raises:
            ValueError: a larger kernel without a kernel map.
        """
        return self._convolve(features, kernel_map, self.weight, bias)

    def _convolve(
        self,
        features: Tensor,
        kernel_map: KernelMap | None,
        weight: Tensor,
        bias: Tensor | None,
        residual: Tensor | None = None,
        slope: float = 1.0,
    ) -> Tensor:
        if kernel_map is not None:
            return kernel_map.convolve(features, weight, bias, residual, slope)
        if self.kernel_size != 1:
            raise ValueError(f"a convolution of kernel size {self.kernel_size} needs a kernel map")
        return finish(linear(features, weight[0].T, bias), residual, slope)


class SparseConvNorm(SparseConv3d):
    """A sparse convolution followed by BatchNorm; in evaluation the norm is folded into the weights."""

    def __init__(self, c_in: int, c_out: int, kernel_size: int) -> None:
        super().__init__(c_in, c_out, kernel_size)
        self.norm = BatchNorm(c_out)
        self._folded = Kept()

    def forward(
        self,
        features: Tensor,
        kernel_map: KernelMap | None,
        bias: Tensor | None = None,
        residual: Tensor | None = None,
        slope: float = 1.0,
    ) -> Tensor:
        """Computes LeakyReLU(BN(convolution + bias) + residual), (V_out, C_out), from (V_in, C_in) features.

        A slope of 1 means no activation, 0 a ReLU.
        """
        if self.training or bias is not None:
            self._folded.clear()  # training needs no second copy of the weights
            return finish(self.norm(super().forward(features, kernel_map, bias)), residual, slope)
        return self._convolve(features, kernel_map, *self._fold(features), residual, slope)

    def with_shortcut(
        self, features: Tensor, kernel_map: KernelMap, start: Tensor, shortcut: SparseConvNorm, slope: float
    ) -> Tensor:
        """Computes LeakyReLU(BN(convolution) + shortcut(start)), where the shortcut has kernel size 1."""
        if self.training or torch.is_grad_enabled() or not isinstance(kernel_map, FusingMap):
            return self(features, kernel_map, residual=shortcut(start, None), slope=slope)
        weight, bias = self._fold(features)
        matrix, other = shortcut._fold(start)
        return kernel_map.convolve_with_shortcut(features, weight, bias + other, start, matrix, slope)

    def train(self, mode: bool = True) -> SparseConvNorm:
        """Sets training or evaluation mode, as for any module, and drops the folded weights."""
        self._folded.clear()
        return super().train(mode)

    def _fold(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Returns weight and bias of convolution and norm together, in the type that is computed in.

        They are kept until a tensor that they are made of changes.
        """
        norm = self.norm
        assert norm.running_mean is not None and norm.running_var is not None
        sources = (self.weight, norm.weight, norm.bias, norm.running_mean, norm.running_var)
        weight, bias = self._folded.get_or_make(sources, compute_dtype(features), self.folded)
        return weight, bias

    def folded(self) -> tuple[Tensor, Tensor]:
        """Computes weight (kernel volume, C_in, C_out) and bias (C_out,) of convolution and norm together."""
        norm = self.norm
        assert norm.running_mean is not None and norm.running_var is not None
        scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
        return self.weight * scale, norm.bias - norm.running_mean * scale


class ResidualBlock(nn.Module):
    """A residual block: act(BN(SubM3(act(BN(SubM3(x))))) + shortcut(x)), where the shortcut is BN(SubM1(x)) or x.

    SubMk is a submanifold convolution of kernel size k.

    Args:
        c_in, c_out: number of input and output channels.
        slope: slope of the activation, a LeakyReLU; 0 is a ReLU.
        keep_identity: if c_in = c_out, use x itself as the shortcut (voxel models). 2DPASS has weights in every
            shortcut.
    """

    def __init__(self, c_in: int, c_out: int, slope: float = LEAKY_SLOPE, keep_identity: bool = False) -> None:
        super().__init__()
        self.slope = slope
        self.conv1 = SparseConvNorm(c_in, c_out, 3)
        self.conv2 = SparseConvNorm(c_out, c_out, 3)
        self.shortcut = None if keep_identity and c_in == c_out else SparseConvNorm(c_in, c_out, 1)

    def forward(self, features: Tensor, kernel_map: KernelMap) -> Tensor:
        """Computes (V, C_out) features from (V, C_in) on the voxels of `kernel_map`."""
        inner = self.conv1(features, kernel_map, slope=self.slope)
        if self.shortcut is None:
            return self.conv2(inner, kernel_map, residual=features, slope=self.slope)
        return self.conv2.with_shortcut(inner, kernel_map, features, self.shortcut, self.slope)
