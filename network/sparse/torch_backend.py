"""The reference backend: sparse convolution in pure PyTorch, with its own gradients, on any device.

A kernel map lists, for every kernel offset, which input row contributes to which output row. Convolution is then, per
offset, gather - matrix product - scatter-add. Temporaries are reused from one offset to the next, in the forward and in
the backward pass: on a CPU, fresh ones cost more (in page faults) than the arithmetic.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from network.sparse.coordinates import STEP_X, STEP_Y, divide, halve, kernel_offsets, pack, unpack


@dataclass(frozen=True, eq=False)
class PairMap:
    """Which input row meets which output row under each kernel offset.

    Attributes:
        num_inputs, num_outputs: rows of the input and of the output features.
        inputs, outputs: one (M_k,) int64 tensor per offset k; rows are distinct within an offset.
        identity: the offset under which every row meets itself (the centre of a submanifold kernel; its lists are
            left empty, it costs neither gather nor scatter), or None.
    """

    num_inputs: int
    num_outputs: int
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    identity: int | None = None

    def transposed(self) -> PairMap:
        """The same pairs walked backwards: the map of the transposed (inverse) convolution."""
        return PairMap(self.num_outputs, self.num_inputs, self.outputs, self.inputs, self.identity)

    def convolve(self, features: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """out[o] = bias + sum over offsets k and pairs (i, o) of k: features[i] @ weight[k].

        Args:
            features: (num_inputs, C_in); fp32, fp64, bf16 or fp16. Under autocast it is cast as a matmul would be.
            weight: (K, C_in, C_out).
            bias: (C_out,) or None.

        Returns:
            (num_outputs, C_out) in the dtype of the features; sums are accumulated in at least fp32.
        """
        device = features.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else features.dtype
        bias = None if bias is None else bias.to(dtype)
        result = _PairConvolution.apply(features.to(dtype), weight.to(dtype), bias, self)
        assert isinstance(result, Tensor)
        return result


def submanifold_map(keys: Tensor, kernel_size: int) -> PairMap:
    """Map of a stride-1 convolution whose outputs are the input voxels themselves.

    Args:
        keys: (V,) sorted distinct keys.
        kernel_size: 1, 2 (reaching 0..1 on each axis) or 3.

    Raises:
        ValueError: another kernel size.
    """
    if kernel_size == 1:
        empty = keys.new_empty(0)
        return PairMap(len(keys), len(keys), (empty,), (empty,), identity=0)
    if kernel_size == 2:
        return strided_map(keys, kernel_size, stride=1)[1]
    if kernel_size != 3:
        raise ValueError(f"submanifold convolution takes kernel size 1, 2 or 3, got {kernel_size}")
    empty = keys.new_empty(0)
    inputs, outputs = [empty] * 27, [empty] * 27
    # out[p] takes in[p + d], hence out[p + d] takes in[p] under -d: 13 offsets are searched, 13 mirrored.
    for (dz, dy, dx), (here, there) in _forward_neighbours(keys).items():
        offset = (dz + 1) * 9 + (dy + 1) * 3 + (dx + 1)
        outputs[offset], inputs[offset] = here, there
        outputs[26 - offset], inputs[26 - offset] = there, here
    return PairMap(len(keys), len(keys), tuple(inputs), tuple(outputs), identity=13)


def _forward_neighbours(keys: Tensor) -> dict[tuple[int, int, int], tuple[Tensor, Tensor]]:
    """For the 13 offsets after the centre (in key order): the rows that have that neighbour, and the neighbours.

    A column of three z neighbours is consecutive in the sorted keys, so one binary search finds where it would begin
    and the next entries are compared: 4 searches instead of 13.
    """
    padded = torch.cat([keys, keys.new_full((3,), torch.iinfo(torch.int64).max)])
    above = (padded[1 : len(keys) + 1] == keys + 1).nonzero()[:, 0]
    found = {(1, 0, 0): (above, above + 1)}
    for dy, dx in ((0, 1), (1, -1), (1, 0), (1, 1)):
        target = keys + (dy * STEP_Y + dx * STEP_X)
        position = torch.searchsorted(keys, target - 1)
        for dz in (-1, 0, 1):
            hit = padded[position] == target + dz
            here = hit.nonzero()[:, 0]
            found[dz, dy, dx] = (here, position[here])
            position = position + hit
    return found


def strided_map(keys: Tensor, kernel_size: int, stride: int) -> tuple[Tensor, PairMap]:
    """Map of a strided convolution: outputs are the distinct floor(coordinate / stride), in = stride * out + offset.

    Args:
        keys: (V,) sorted distinct keys of the input voxels.
        kernel_size: 1, 2 or 3 (odd kernels are centred, even ones reach 0..k-1).
        stride: 1 or more.

    Returns:
        The sorted keys of the output voxels and the map; `map.transposed()` leads back onto the input voxels.
    """
    coarse = torch.unique(divide(keys, stride))
    batch, z, y, x = unpack(coarse)
    zero = torch.zeros_like(batch)
    # Added to the key, not packed: what `pack` clamps at the limit would be its own neighbour.
    origin = pack(batch, zero, zero, zero) + stride * (y * STEP_Y + x * STEP_X + z)
    inputs, outputs = [], []
    for dz, dy, dx in kernel_offsets(kernel_size):
        wanted = origin + (dy * STEP_Y + dx * STEP_X + dz)
        position = torch.searchsorted(keys, wanted).clamp(max=max(len(keys) - 1, 0))
        there = (keys[position] == wanted).nonzero()[:, 0]
        inputs.append(position[there])
        outputs.append(there)
    return coarse, PairMap(len(keys), len(coarse), tuple(inputs), tuple(outputs))


def halving_map(keys: Tensor) -> tuple[Tensor, Tensor, PairMap]:
    """As `strided_map` with kernel size 2 and stride 2, where every input voxel lies under exactly one output voxel.

    Args:
        keys: (V,) sorted distinct keys of the input voxels.

    Returns:
        The sorted keys of the (V',) output voxels, the output voxel of every input voxel (V,), and the map.
    """
    coarse, parent = torch.unique(halve(keys), return_inverse=True)
    _, z, y, x = unpack(keys)
    offset = (z % 2) * 4 + (y % 2) * 2 + x % 2
    inputs = tuple((offset == number).nonzero()[:, 0] for number in range(8))
    outputs = tuple(parent[rows] for rows in inputs)
    return coarse, parent, PairMap(len(keys), len(coarse), inputs, outputs)


class _Scratch:
    """Two row buffers, large enough for any offset of a map, filled anew for each."""

    def __init__(self, kernel_map: PairMap, like: Tensor, channels: tuple[int, int]) -> None:
        rows = max((len(pairs) for pairs in kernel_map.inputs), default=0)
        self.first = like.new_empty(rows, channels[0])
        self.second = like.new_empty(rows, channels[1])

    def gather_first(self, source: Tensor, rows: Tensor) -> Tensor:
        return torch.index_select(source, 0, rows, out=self.first[: len(rows)])

    def gather_second(self, source: Tensor, rows: Tensor) -> Tensor:
        return torch.index_select(source, 0, rows, out=self.second[: len(rows)])


class _PairConvolution(torch.autograd.Function):
    """Gather - multiply - scatter over the pairs of a map; autograd through the plain loop is twice as slow."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, weight: Tensor, bias: Tensor | None, kernel_map: PairMap) -> Tensor:
        ctx.save_for_backward(features, weight)
        ctx.kernel_map = kernel_map
        return _apply(features, weight, kernel_map, bias)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        features, weight = ctx.saved_tensors
        kernel_map: PairMap = ctx.kernel_map
        grad = grad_outputs[0].contiguous()
        grad_features = grad_weight = grad_bias = None
        if ctx.needs_input_grad[0]:
            # out = sum_k S_k x W_k, so dx = sum_k S_k^T dout W_k^T: the transposed map with transposed weights.
            grad_features = _apply(grad, weight.transpose(1, 2), kernel_map.transposed(), None)
        if ctx.needs_input_grad[1]:
            grad_weight = _weight_gradient(features, grad, weight, kernel_map)
        if ctx.needs_input_grad[2]:
            grad_bias = grad.sum(0)
        return grad_features, grad_weight, grad_bias, None


def _apply(features: Tensor, weight: Tensor, kernel_map: PairMap, bias: Tensor | None) -> Tensor:
    wide = torch.promote_types(features.dtype, torch.float32)
    if kernel_map.identity is None:
        out = features.new_zeros(kernel_map.num_outputs, weight.shape[2], dtype=wide)
        if bias is not None:
            out += bias
    elif bias is None:
        out = (features @ weight[kernel_map.identity]).to(wide)
    else:
        out = torch.addmm(bias, features, weight[kernel_map.identity]).to(wide)
    scratch = _Scratch(kernel_map, features, (weight.shape[1], weight.shape[2]))
    for inputs, outputs, matrix in zip(kernel_map.inputs, kernel_map.outputs, weight, strict=True):
        if len(inputs):
            gathered = scratch.gather_first(features, inputs)
            product = torch.mm(gathered, matrix, out=scratch.second[: len(inputs)])
            out.index_add_(0, outputs, product.to(wide))
    return out.to(features.dtype)


def _weight_gradient(features: Tensor, grad: Tensor, weight: Tensor, kernel_map: PairMap) -> Tensor:
    result = torch.zeros_like(weight, memory_format=torch.contiguous_format)
    scratch = _Scratch(kernel_map, features, (weight.shape[1], weight.shape[2]))
    for offset, (inputs, outputs) in enumerate(zip(kernel_map.inputs, kernel_map.outputs, strict=True)):
        if offset == kernel_map.identity:
            torch.mm(features.T, grad, out=result[offset])
        elif len(inputs):
            gathered = scratch.gather_first(features, inputs)
            torch.mm(gathered.T, scratch.gather_second(grad, outputs), out=result[offset])
    return result
