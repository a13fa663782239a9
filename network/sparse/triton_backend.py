"""Sparse convolution as one Triton kernel per layer, for CUDA devices of compute capability 8.0 and later.

A masked implicit GEMM: a program owns a tile of output rows and runs over the kernel offsets that any of them has,
gathering the input rows and multiplying them as it goes. Rows are sorted by the set of their offsets, so that few
products are wasted; no two programs write the same number, so results do not depend on their order. The gradient of the
features is the same kernel on the map walked backwards; the gradient of the weights runs over lists of pairs.

Nothing waits for the device. `triton_geometry` finds neighbours, tiles and pairs, `triton_kernels` has the arithmetic.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from network.sparse import torch_backend
from network.sparse.coordinates import halve, pack
from network.sparse.layers import SparseBackend, compute_dtype, finish
from network.sparse.triton_geometry import Pairs, Tiles, find_children, find_neighbours, make_pairs, make_tiles
from network.sparse.triton_kernels import INTERPRETED, convolve_tiles, interpreting, weight_gradient
from utils.errors import UserError

_DTYPES = (torch.float32, torch.float16, torch.bfloat16)


@dataclass(frozen=True, eq=False)
class TritonMap:
    """Which voxels meet, as tiles of output rows in both directions.

    Attributes:
        num_inputs, num_outputs: rows of the input and of the output features.
        forward, backward: tiles of the output rows, and of the input rows as outputs of the transposed convolution.
        mirrored: offset k backwards is offset K - 1 - k forwards (a submanifold map, where both tiles are the same
            object).
        max_pairs: a number that all pairs together cannot exceed.
    """

    num_inputs: int
    num_outputs: int
    forward: Tiles
    backward: Tiles
    mirrored: bool
    max_pairs: int

    @cached_property
    def pairs(self) -> Pairs:
        """Compact lists for the gradient of the weights; made when first asked for, which is in training."""
        return make_pairs(self.forward, self.max_pairs)

    def transposed(self) -> TritonMap:
        """The map of the transposed (inverse) convolution.

        Raises:
            ValueError: a submanifold map, whose transpose is needed by nobody.
        """
        if self.mirrored:
            raise ValueError("the triton backend transposes strided maps only")
        return self._reversed

    @cached_property
    def _reversed(self) -> TritonMap:
        return TritonMap(self.num_outputs, self.num_inputs, self.backward, self.forward, False, self.max_pairs)

    def convolve(
        self,
        features: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        residual: Tensor | None = None,
        slope: float = 1.0,
    ) -> Tensor:
        """out[o] = LeakyReLU(bias + residual[o] + sum over offsets k and pairs (i, o) of k: features[i] @ weight[k]).

        Args:
            features: (num_inputs, C_in) of fp32, fp16 or bf16. Under autocast it is cast as a matmul would be.
            weight: (K, C_in, C_out).
            bias: (C_out,) or None.
            residual: (num_outputs, C_out) or None.
            slope: of the LeakyReLU below 0: 1 for no activation, 0 for a ReLU.

        Returns:
            (num_outputs, C_out) in the type of the features; the sums are of fp32 and rounded once.

        Raises:
            ValueError: features of another type or shape.
        """
        dtype = compute_dtype(features)
        self._check(features, weight, dtype)
        tensors = [tensor for tensor in (features, weight, bias, residual) if tensor is not None]
        if not (torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)):
            features, weight = features.to(dtype), weight.to(dtype)
            return convolve_tiles(features, weight, self.forward, False, bias, residual, slope)
        out = _TritonConvolution.apply(features, weight, bias, self, dtype)
        assert isinstance(out, Tensor)
        # Training has a BatchNorm in between, so there is nothing to gain from a fused gradient.
        return finish(out, residual, slope)

    def _check(self, features: Tensor, weight: Tensor, dtype: torch.dtype) -> None:
        if dtype not in _DTYPES:
            raise ValueError(f"the triton backend takes features of fp32, fp16 or bf16, got {dtype}")
        wanted = (self.forward.live.shape[1], self.num_inputs, features.shape[1])
        if (len(weight), len(features), weight.shape[1]) != wanted:
            raise ValueError(
                f"a map of {self.num_inputs} input rows and {wanted[0]} offsets does not fit features "
                f"{tuple(features.shape)} and weight {tuple(weight.shape)}"
            )


class _TritonConvolution(torch.autograd.Function):
    """The casts of autocast happen inside, so that the gradient of a weight is not rounded on its way out."""

    @staticmethod
    def forward(
        ctx: Any, features: Tensor, weight: Tensor, bias: Tensor | None, kernel_map: TritonMap, dtype: torch.dtype
    ) -> Tensor:
        x, w = features.to(dtype), weight.to(dtype)
        ctx.save_for_backward(x, w)
        ctx.kernel_map = kernel_map
        ctx.dtypes = features.dtype, weight.dtype, None if bias is None else bias.dtype
        return convolve_tiles(x, w, kernel_map.forward, bias=bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None, None]:
        x, w = ctx.saved_tensors
        kernel_map: TritonMap = ctx.kernel_map
        features_dtype, weight_dtype, bias_dtype = ctx.dtypes
        grad = grad_outputs[0].contiguous()  # once for both kernels
        grad_features = grad_weight = grad_bias = None
        if ctx.needs_input_grad[0]:
            # out = sum_k S_k x W_k, so dx = sum_k S_k^T dout W_k^T: the map backwards with transposed weights.
            grad_features = convolve_tiles(grad, w.transpose(1, 2), kernel_map.backward, kernel_map.mirrored)
            grad_features = grad_features.to(features_dtype)
        if ctx.needs_input_grad[1]:
            grad_weight = weight_gradient(x, grad, kernel_map.pairs, weight_dtype)
        if ctx.needs_input_grad[2]:
            grad_bias = grad.sum(0, dtype=torch.float32).to(bias_dtype)
        return grad_features, grad_weight, grad_bias, None, None


def submanifold_map(keys: Tensor, kernel_size: int) -> TritonMap:
    """Map of a stride-1 convolution whose outputs are the input voxels themselves.

    Args:
        keys: (V,) sorted distinct keys.
        kernel_size: 3.

    Raises:
        ValueError: another kernel size, or too many voxels.
        UserError: the data is not on a CUDA device.
    """
    if kernel_size != 3:
        raise ValueError(f"the triton backend takes kernel size 3, got {kernel_size}")
    _check_device(keys)
    tiles = make_tiles(find_neighbours(keys.contiguous()))
    # out[p] takes in[p + d], hence out[p + d] takes in[p] under -d: the same tiles lead back.
    return TritonMap(len(keys), len(keys), tiles, tiles, True, 27 * len(keys))


def halving_map(keys: Tensor, parent: Tensor, num_coarse: int) -> TritonMap:
    """Map of a convolution of size 2 and stride 2; `transposed()` of it leads back onto the fine voxels.

    Args:
        keys: (V,) sorted distinct keys of the input voxels.
        parent: (V,) int64, the output voxel of every input voxel.
        num_coarse: the number of output voxels.

    Raises:
        ValueError: too many voxels.
        UserError: the data is not on a CUDA device.
    """
    _check_device(keys)
    children, parents = find_children(keys.contiguous(), parent.contiguous(), num_coarse)
    return TritonMap(len(keys), num_coarse, make_tiles(children), make_tiles(parents), False, len(keys))


def _check_device(keys: Tensor) -> None:
    if not keys.is_cuda and not INTERPRETED:
        raise UserError("model_params.sparse_backend: triton runs on CUDA only; set model_params.sparse_backend=torch")


def is_available(device: torch.device) -> bool:
    """Whether the kernels can run on a device: CUDA of compute capability 8.0 or later, or Triton's interpreter."""
    if device.type == "cuda":
        return torch.version.cuda is not None and torch.cuda.get_device_capability(device) >= (8, 0)
    return interpreting()


def warm_up(device: torch.device, dtype: torch.dtype, layers: Iterable[tuple[int, int, int]], training: bool) -> None:
    """Compile and tune the kernels of all layers on made-up voxels, so that no process does it while others wait.

    Args:
        device: what the layers will run on.
        dtype: in which they will compute: that of autocast, or of the features.
        layers: (kernel volume, C_in, C_out) of the convolutions: volume 27, and 8 for those that halve and their
            transposes; others are passed over, since they need no kernel.
        training: gradients as well.
    """
    with torch.inference_mode(False):
        _warm_up(device, dtype, layers, training)


def _warm_up(device: torch.device, dtype: torch.dtype, layers: Iterable[tuple[int, int, int]], training: bool) -> None:
    keys = _made_up_surface(device)
    halving = halving_map(keys, *_parents(keys))
    maps = {27: [submanifold_map(keys, 3)], 8: [halving, halving.transposed()]}
    # Under an autocast of the caller, the features would be cast to its type.
    with torch.autocast(device.type, enabled=False):
        for volume, c_in, c_out in dict.fromkeys(layers):
            for kernel_map in maps.get(volume, []):
                features = torch.ones(kernel_map.num_inputs, c_in, device=device, dtype=dtype)
                weight = torch.ones(volume, c_in, c_out, device=device, dtype=dtype)
                _run_once(kernel_map, features, weight, training)


def _run_once(kernel_map: TritonMap, features: Tensor, weight: Tensor, training: bool) -> None:
    """Every way in which a layer calls the kernels."""
    with torch.no_grad():
        out = kernel_map.convolve(features, weight)
        kernel_map.convolve(features, weight, out[0])
        kernel_map.convolve(features, weight, out[0], out)
    if training:
        with torch.enable_grad():
            kernel_map.convolve(features.requires_grad_(), weight.requires_grad_()).sum().backward()


def _made_up_surface(device: torch.device) -> Tensor:
    """Sorted keys of voxels on a rough slope: as many neighbours as in a scan, and always the same ones."""
    side = 8 if INTERPRETED else 128
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    z = (x + 2 * y) // 4 + x * y % 3 // 2
    return pack(torch.zeros_like(x), z, y, x).view(-1).sort().values.to(device)


def _parents(keys: Tensor) -> tuple[Tensor, int]:
    """The row of the voxel above each voxel, and how many of those there are."""
    coarse, parent = torch.unique(halve(keys), return_inverse=True)
    return parent, len(coarse)


def self_check(device: torch.device) -> bool:
    """Whether the kernels compute on this device what the torch backend computes; warns of it if not.

    Forward and backward of each kind of map, on a few made-up voxels, in fp32 and bf16. What goes wrong when kernels
    are compiled (without a C compiler, say) counts as wrong, too.
    """
    try:
        with torch.inference_mode(False):  # or there would be no gradients to look at
            wrong = _first_wrong(device)
    except Exception as error:
        wrong = f"{type(error).__name__}: {error}"
    if wrong is not None:
        warnings.warn(f"the triton backend does not work on {device}: {wrong}", RuntimeWarning)
    return wrong is None


def _first_wrong(device: torch.device) -> str | None:
    keys = _made_up_surface(device)[: 20 if INTERPRETED else 2000]
    parent, num_coarse = _parents(keys)
    halving = halving_map(keys, parent, num_coarse)
    reference = torch_backend.halving_map(keys, parent, num_coarse)
    for volume, found, expected in (
        (27, submanifold_map(keys, 3), torch_backend.submanifold_map(keys, 3)),
        (8, halving, reference),
        (8, halving.transposed(), reference.transposed()),
    ):
        for dtype in (torch.float32, torch.bfloat16):
            if not _agree(volume, found, expected, dtype, device):
                return f"wrong results with {volume} offsets in {dtype}"
    return None


def _agree(
    volume: int, found: TritonMap, expected: torch_backend.PairMap, dtype: torch.dtype, device: torch.device
) -> bool:
    generator = torch.Generator().manual_seed(volume)
    shapes = [(found.num_inputs, 16), (volume, 16, 16), (16,), (found.num_outputs, 16)]
    features, weight, bias, upstream = (
        torch.randn(shape, generator=generator).to(device, dtype).requires_grad_() for shape in shapes
    )
    results = []
    for kernel_map in (found, expected):
        with torch.enable_grad(), torch.autocast(device.type, enabled=False):
            out = kernel_map.convolve(features, weight, bias)
            gradients = torch.autograd.grad(out, [features, weight, bias], upstream.detach())
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            results.append([kernel_map.convolve(features, weight, bias, upstream, 0.1), out, *gradients])
    # Relative to the largest number: products may be summed in any order, or computed in TF32.
    tolerance = 2e-2 if dtype == torch.bfloat16 else 5e-3
    return all(bool((f - e).abs().max() <= tolerance * e.abs().max()) for f, e in zip(*results, strict=True))


BACKEND = SparseBackend("triton", submanifold_map, halving_map)
