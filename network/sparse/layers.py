"""Layers on voxel features. They hold weights; which voxels meet which is the kernel map's business."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

LEAKY_SLOPE = 0.1

Layer = tuple[int, int, int]
"""Kernel volume, C_in and C_out of a convolution."""


class KernelMap(Protocol):
    """Geometry of a sparse convolution, made by a backend for one voxel set and shared by all layers on it."""

    def convolve(
        self,
        features: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        residual: Tensor | None = None,
        slope: float = 1.0,
    ) -> Tensor:
        """LeakyReLU(sum of the convolution + bias + residual); see `torch_backend.PairMap.convolve`."""
        ...

    def transposed(self) -> KernelMap:
        """The map of the transposed (inverse) convolution."""
        ...


def _needs_no_warm_up(device: torch.device, dtype: torch.dtype, layers: Iterable[Layer], training: bool) -> None:
    pass


@dataclass(frozen=True)
class SparseBackend:
    """What computes sparse convolutions.

    Attributes:
        name: as in `model_params.sparse_backend`.
        submanifold_map: (keys, kernel size) -> map of stride 1 whose outputs are the input voxels; `keys` (V,) are
            sorted and distinct.
        halving_map: (keys, parent, number of coarse voxels) -> map of size 2 and stride 2 from the voxels `keys` (V,)
            onto coarser ones; `parent` (V,) is the one above each.
        warm_up: (device, compute type, all layers, whether to train) -> compiles, tunes and checks what they need, so
            that no process does it while others wait.
    """

    name: str
    submanifold_map: Callable[[Tensor, int], KernelMap]
    halving_map: Callable[[Tensor, Tensor, int], KernelMap]
    warm_up: Callable[[torch.device, torch.dtype, Iterable[Layer], bool], None] = _needs_no_warm_up


class NormOfFew(nn.modules.batchnorm._BatchNorm):
    """BatchNorm that also accepts fewer than two values of a channel in training.

    Statistics of a single value are meaningless, so there the running ones are used.
    """

    def forward(self, input: Tensor) -> Tensor:
        if self.training and input.numel() < 2 * self.num_features:
            return nn.functional.batch_norm(
                input, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps
            )
        return super().forward(input)


class BatchNorm(NormOfFew, nn.BatchNorm1d):
    """BatchNorm over rows (eps 1e-5, momentum 0.1), be they ever so few."""


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
        return finish(nn.functional.linear(features, weight[0].T, bias), residual, slope)


class SparseConvNorm(SparseConv3d):
    """Sparse convolution followed by BatchNorm; in evaluation the norm is folded into the weights."""

    def __init__(self, c_in: int, c_out: int, kernel_size: int) -> None:
        super().__init__(c_in, c_out, kernel_size)
        self.norm = BatchNorm(c_out)
        self._folded: dict[torch.dtype, _Folded] = {}

    def forward(
        self,
        features: Tensor,
        kernel_map: KernelMap | None,
        bias: Tensor | None = None,
        residual: Tensor | None = None,
        slope: float = 1.0,
    ) -> Tensor:
        """(V_in, C_in) -> (V_out, C_out): LeakyReLU(BN(convolution + bias) + residual), slope 1 for no activation."""
        if self.training or bias is not None:
            self._folded = {}  # no second copy of the weights in a training
            return finish(self.norm(super().forward(features, kernel_map, bias)), residual, slope)
        return self._convolve(features, kernel_map, *self._fold(features), residual, slope)

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_folded": {}}  # no copies, and not in files

    def train(self, mode: bool = True) -> SparseConvNorm:
        """As of any module; the folded weights are dropped."""
        self._folded = {}
        return super().train(mode)

    def _fold(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Weight and bias of convolution and norm together, in the type that is computed in; kept for each such type,
        as long as no tensor they are made of has changed.

        What is written into a tensor through `.data` cannot be seen: `eval()` after that, as Lightning does.
        """
        norm = self.norm
        assert norm.running_mean is not None and norm.running_var is not None
        sources = (self.weight, norm.weight, norm.bias, norm.running_mean, norm.running_var)
        if torch.is_grad_enabled() or any(tensor.is_inference() for tensor in sources):  # those have no version
            return _fold(self.weight, norm)
        dtype = compute_dtype(features)
        state = tuple((tensor.data_ptr(), tensor._version) for tensor in sources)
        kept = self._folded.get(dtype)
        if kept is None or kept.state != state:
            weight, bias = _fold(self.weight, norm)
            current = {of: folded for of, folded in self._folded.items() if folded.state == state}
            kept = _Folded(state, weight.to(dtype), bias.to(dtype))
            self._folded = {**current, dtype: kept}
        return kept.weight, kept.bias


@dataclass(frozen=True, eq=False)
class _Folded:
    """Folded weights and what they were made of.

    Attributes:
        state: address and version of each tensor that they were made of.
        weight, bias: for `KernelMap.convolve`.
    """

    state: tuple[tuple[int, int], ...]
    weight: Tensor
    bias: Tensor


def _fold(weight: Tensor, norm: BatchNorm) -> tuple[Tensor, Tensor]:
    assert norm.running_mean is not None and norm.running_var is not None
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    return weight * scale, norm.bias - norm.running_mean * scale


def compute_dtype(features: Tensor) -> torch.dtype:
    """The type in which a matrix product with these features is computed: autocast's, or their own."""
    device = features.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else features.dtype


def finish(result: Tensor, residual: Tensor | None, slope: float) -> Tensor:
    """LeakyReLU(result + residual). `result` is fresh, nothing else needs it: it may be changed in place."""
    if residual is not None:
        result = result.add_(residual)
    if slope == 0.0:
        return nn.functional.relu(result, inplace=True)
    return result if slope == 1.0 else nn.functional.leaky_relu(result, slope, inplace=True)


def leaky_relu(features: Tensor) -> Tensor:
    """LeakyReLU of slope 0.1, in place: it always follows a fresh result that nothing else needs."""
    return finish(features, None, LEAKY_SLOPE)


class ResidualBlock(nn.Module):
    """act(BN(SubM3(act(BN(SubM3(x))))) + shortcut(x)); the shortcut is BN(SubM1(x)), or x itself.

    Args:
        c_in, c_out: channels.
        slope: of the activation, a LeakyReLU; 0 is ReLU.
        keep_identity: where c_in = c_out the shortcut is x itself, with no weights (the voxel models; 2DPASS has
            weights in every shortcut).
    """

    def __init__(self, c_in: int, c_out: int, slope: float = LEAKY_SLOPE, keep_identity: bool = False) -> None:
        super().__init__()
        self.slope = slope
        self.conv1 = SparseConvNorm(c_in, c_out, 3)
        self.conv2 = SparseConvNorm(c_out, c_out, 3)
        self.shortcut = None if keep_identity and c_in == c_out else SparseConvNorm(c_in, c_out, 1)

    def forward(self, features: Tensor, kernel_map: KernelMap) -> Tensor:
        """(V, C_in) -> (V, C_out) on the voxels of `kernel_map`."""
        inner = self.conv1(features, kernel_map, slope=self.slope)
        shortcut = features if self.shortcut is None else self.shortcut(features, None)
        return self.conv2(inner, kernel_map, residual=shortcut, slope=self.slope)
