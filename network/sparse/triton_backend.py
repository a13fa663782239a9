"""The Triton backend computes a sparse convolution as one kernel, on CUDA devices of compute capability 8.0 and later.

The kernel is a masked implicit GEMM: a program computes a tile of output rows. It loops over the kernel offsets that
any of these rows has a neighbour at, gathers the input rows and multiplies them. Rows are sorted by the set of their
offsets, so that few products are wasted. Where products are dear, the z levels of a kernel are computed one after the
other, each with rows sorted for it; where tiles are few, several programs share the offsets of one, and their sums are
added up in a fixed order. No two programs write the same number, so results do not depend on their order. The gradient
of the features is the same kernel on the transposed map; the gradient of the weights runs over lists of pairs.

The host never waits for the device. `triton_geometry` finds neighbours, tiles and pairs; `triton_kernels` has the
arithmetic.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from network.ops.linear import needs_gradient
from network.sparse.backend_check import first_wrong, made_up_surface
from network.sparse.layers import Layer, SparseBackend, compute_dtype, finish
from network.sparse.triton_geometry import Neighbours, find_children, find_neighbours
from network.sparse.triton_kernels import convolve, interpreting, weight_gradient
from network.sparse.triton_tuning import INTERPRETED
from utils.errors import UserError

_DTYPES = (torch.float32, torch.float16, torch.bfloat16)
# Voxels along the surfaces that layers are tuned and checked on: of each size that a map can have (`triton_tuning`), on
# the finer and on the coarser side of a strided map.
_SIDES = (6,) if INTERPRETED else (25, 50, 80, 160, 360, 720)
_MOST_NUMBERS = 1 << 25  # features of a surface; wide layers are not met on the largest one


@dataclass(frozen=True, eq=False)
class TritonMap:
    """A kernel map as tiles of output rows, for both directions.

    Attributes:
        forward, backward: neighbours of the output rows, and of the input rows as outputs of the transposed
            convolution. For submanifold maps both are the same object: offset k backward is offset K - 1 - k forward, K
            the kernel volume.
    """

    forward: Neighbours
    backward: Neighbours

    @property
    def num_inputs(self) -> int:
        """The number of input rows."""
        return len(self.backward)

    @property
    def num_outputs(self) -> int:
        """The number of output rows."""
        return len(self.forward)

    @property
    def mirrored(self) -> bool:
        """True for a submanifold map."""
        return self.forward.mirrored

    def transposed(self) -> TritonMap:
        """Returns the map of the transposed (inverse) convolution.

        Raises:
            ValueError: this is a submanifold map; no layer needs its transpose.
        """
        if self.mirrored:
            raise ValueError("the triton backend transposes strided maps only")
        return TritonMap(self.backward, self.forward)

    def convolve(
        self,
        features: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        residual: Tensor | None = None,
        slope: float = 1.0,
    ) -> Tensor:
        """Computes out[o] = LeakyReLU(bias + residual[o] + sum over offsets k, pairs (i, o): features[i] @ weight[k]).

        Args:
            features: (num_inputs, C_in) fp32, fp16 or bf16; autocast applies as to a matrix product.
            weight: (kernel volume, C_in, C_out).
            bias: (C_out,) or None.
            residual: (num_outputs, C_out) or None.
            slope: slope of the LeakyReLU; 1 for no activation, 0 for a ReLU.

        Returns:
            (num_outputs, C_out) in the type that is computed in; sums are accumulated in fp32 and rounded once.

        Raises:
            ValueError: the features have another type, or shapes do not fit the map.
        """
        dtype = compute_dtype(features)
        self._check(features, weight, dtype)
        if not needs_gradient(features, weight, bias, residual):
            features, weight = features.to(dtype), weight.to(dtype)
            return convolve(features, weight, self.forward, False, bias, residual, slope)
        out = _TritonConvolution.apply(features, weight, bias, self, dtype)
        assert isinstance(out, Tensor)
        # In training a BatchNorm comes in between, so fusing bias, residual and activation would gain nothing.
        return finish(out, residual, slope)

    def _check(self, features: Tensor, weight: Tensor, dtype: torch.dtype) -> None:
        if dtype not in _DTYPES:
            raise ValueError(f"the triton backend takes features of fp32, fp16 or bf16, got {dtype}")
        wanted = (len(self.forward.table), self.num_inputs, features.shape[1])
        if (len(weight), len(features), weight.shape[1]) != wanted:
            raise ValueError(
                f"a map of {self.num_inputs} input rows and {wanted[0]} offsets does not fit features "
                f"{tuple(features.shape)} and weight {tuple(weight.shape)}"
            )


class _TritonConvolution(torch.autograd.Function):
    """A convolution that applies autocast's casts itself, so that the gradient of a weight is not rounded once more."""

    @staticmethod
    def forward(
        ctx: Any, features: Tensor, weight: Tensor, bias: Tensor | None, kernel_map: TritonMap, dtype: torch.dtype
    ) -> Tensor:
        x, w = features.to(dtype), weight.to(dtype)
        ctx.save_for_backward(x, w)
        ctx.kernel_map = kernel_map
        ctx.dtypes = features.dtype, weight.dtype, None if bias is None else bias.dtype
        return convolve(x, w, kernel_map.forward, bias=bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None, None]:
        x, w = ctx.saved_tensors
        kernel_map: TritonMap = ctx.kernel_map
        features_dtype, weight_dtype, bias_dtype = ctx.dtypes
        grad = grad_outputs[0].contiguous()  # once for both kernels
        grad_features = grad_weight = grad_bias = None
        if ctx.needs_input_grad[0]:
            # out = sum_k S_k x W_k, so dx = sum_k S_k^T dout W_k^T: the transposed map with transposed weights.
            grad_features = convolve(grad, w.transpose(1, 2), kernel_map.backward, kernel_map.mirrored)
            grad_features = grad_features.to(features_dtype)
        if ctx.needs_input_grad[1]:
            grad_weight = weight_gradient(x, grad, kernel_map.forward.pairs, weight_dtype)
        if ctx.needs_input_grad[2]:
            grad_bias = grad.sum(0, dtype=torch.float32).to(bias_dtype)
        return grad_features, grad_weight, grad_bias, None, None


def submanifold_map(keys: Tensor, kernel_size: int) -> TritonMap:
    """Builds the map of a submanifold convolution: stride 1, and the output voxels are the input voxels.

    Args:
        keys: (V,) int64 sorted distinct keys.
        kernel_size: 3.

    Raises:
        ValueError: another kernel size, or too many voxels.
        UserError: the keys are not on a CUDA device.
    """
    if kernel_size != 3:
        raise ValueError(f"the triton backend takes kernel size 3, got {kernel_size}")
    _check_device(keys.device)
    # If out[p] takes in[p + d] under offset d, out[p + d] takes in[p] under -d: the same tiles serve both directions.
    neighbours = Neighbours(find_neighbours(keys.contiguous()), mirrored=True, max_pairs=13 * len(keys))
    return TritonMap(neighbours, neighbours)


def halving_map(keys: Tensor, parent: Tensor, num_coarse: int) -> TritonMap:
    """Builds the map of a convolution of size 2 and stride 2; its `transposed()` leads back to the fine voxels.

    Args:
        keys: (V,) int64 sorted distinct keys of the input voxels.
        parent: (V,) int64, row of the output voxel that holds each input voxel.
        num_coarse: number of output voxels.

    Raises:
        ValueError: too many voxels.
        UserError: the keys are not on a CUDA device.
    """
    _check_device(keys.device)
    children, parents = find_children(keys.contiguous(), parent.contiguous(), num_coarse)
    return TritonMap(*(Neighbours(table, mirrored=False, max_pairs=len(keys)) for table in (children, parents)))


def _check_device(device: torch.device) -> None:
    if (reason := unsupported(device)) is not None and not INTERPRETED:
        raise UserError(f"model_params.sparse_backend: triton {reason}; set model_params.sparse_backend=torch")


def unsupported(device: torch.device) -> str | None:
    """Returns why the kernels cannot run on a device, or None: on NVIDIA's of compute capability 8.0 or later they can.

    In Triton's interpreter they run anywhere.
    """
    if device.type != "cuda":
        return None if interpreting() else "runs on CUDA only"
    if torch.version.cuda is None:  # what torch calls cuda may be an AMD device
        return "runs on NVIDIA devices only: on others its kernels were never tried"
    major, minor = torch.cuda.get_device_capability(device)
    if major < 8:
        name = torch.cuda.get_device_name(device)
        return f"needs a GPU of compute capability 8.0 or later, and {name} has {major}.{minor}"
    return None


def warm_up(device: torch.device, dtype: torch.dtype, layers: Iterable[Layer], training: bool) -> None:
    """Compiles, tunes and checks the kernels of all layers, so that no process does it while others wait.

    Args:
        device: where the layers will run.
        dtype: type in which they will compute: that of autocast, or of the features.
        layers: the layers of the network; only those with 27 or 8 offsets need a kernel.
        training: whether gradients will be needed.

    Raises:
        UserError: the kernels do not run on the device, or their results differ from those of the torch backend.
    """
    _check_device(device)
    reason = why_not(device, dtype, layers, training)
    if reason is not None:
        raise UserError(
            f"model_params.sparse_backend: triton does not work on {device} ({reason}); set "
            "model_params.sparse_backend=torch"
        )


def why_not(device: torch.device, dtype: torch.dtype, layers: Iterable[Layer], training: bool) -> str | None:
    """Tunes the kernels of all layers on a device and returns what is wrong with them; None if nothing is.

    A kernel is tuned when it first runs, so what is compared is computed by the kernels that will run.

    Errors of the compilation (for example without a C compiler) are returned too. The arguments are those of `warm_up`.
    """
    layers = tuple(dict.fromkeys(layers))
    try:
        # The check needs gradients, and an autocast of the caller would cast the features to its own type.
        with torch.inference_mode(False), torch.autocast(device.type, enabled=False):
            for side in _SIDES:
                fitting = [layer for layer in layers if side * side * max(layer[1:]) <= _MOST_NUMBERS]
                if not fitting:
                    continue
                reason = first_wrong(BACKEND, made_up_surface(device, side), dtype, fitting, training)
                if reason is not None:
                    return reason
    except Exception as error:
        return f"{type(error).__name__}: {error}".partition("\n")[0]
    return None


BACKEND = SparseBackend("triton", submanifold_map, halving_map, warm_up)
