"""The reference backend computes sparse convolution in pure PyTorch, with its own gradients, on any device.

A kernel map lists, for every kernel offset, which input row contributes to which output row. Convolution then gathers
and multiplies the input rows of each offset, and adds up the products of each output row. A CPU does that for some
thousand output rows at a time (`pair_schedule`), so that the products of all offsets stay in the cache until they are
added.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from network.ops.linear import needs_gradient
from network.ops.sums import sum_bags
from network.sparse.coordinates import STEP_X, STEP_Y, divide, kernel_offsets, pack, unpack
from network.sparse.layers import SparseBackend, compute_dtype, finish
from network.sparse.pair_schedule import PairSchedule, build_schedule


@dataclass(frozen=True, eq=False)
class PairMap:
    """A kernel map as lists of pairs: under each kernel offset, which input row contributes to which output row.

    Attributes:
        num_inputs, num_outputs: number of input and output rows.
        inputs, outputs: one (M_k,) int64 tensor per offset k; both ascend, and no row occurs twice in an offset.
        identity: the offset that maps every row to itself (the centre of a submanifold kernel), or None. Its lists are
            empty, because it needs no gather.
        mirrored: whether the pairs of offset k are those of the k-th offset from the end, with inputs and outputs
            exchanged.
        origin: for a transposed map, a reference to the map it was made from, so that both share schedules.
    """

    num_inputs: int
    num_outputs: int
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    identity: int | None = None
    mirrored: bool = False
    origin: weakref.ref[PairMap] | None = None

    @cached_property
    def schedule(self) -> PairSchedule:
        """The order in which a CPU computes the pairs."""
        return build_schedule(self.inputs, self.outputs, self.identity, self.num_outputs)

    @cached_property
    def _reversed(self) -> PairMap:
        lists = (self.outputs, self.inputs)
        return PairMap(self.num_outputs, self.num_inputs, *lists, self.identity, self.mirrored, weakref.ref(self))

    def transposed(self) -> PairMap:
        """Returns the map of the transposed (inverse) convolution: the same pairs with inputs and outputs exchanged."""
        return (self.origin and self.origin()) or self._reversed

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
            features: (num_inputs, C_in) fp32, fp64, bf16 or fp16; autocast applies as to a matrix product.
            weight: (kernel volume, C_in, C_out).
            bias: (C_out,) or None.
            residual: (num_outputs, C_out) or None.
            slope: slope of the LeakyReLU; 1 for no activation, 0 for a ReLU.

        Returns:
            (num_outputs, C_out) in the type that is computed in; sums are accumulated in at least fp32.
        """
        dtype = compute_dtype(features)
        features, weight = features.to(dtype), weight.to(dtype)
        bias = None if bias is None else bias.to(dtype)
        if needs_gradient(features, weight, bias, residual):
            result = _PairConvolution.apply(features, weight, bias, self)
            assert isinstance(result, Tensor)
            return finish(result, residual, slope)
        return _walk(features, weight, self, _Epilogue(bias, residual, slope))


def submanifold_map(keys: Tensor, kernel_size: int) -> PairMap:
    """Builds the map of a submanifold convolution: stride 1, and the output voxels are the input voxels.

    Args:
        keys: (V,) int64 sorted distinct keys.
        kernel_size: 1, 2 (offsets 0..1 on each axis) or 3.

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
    # If out[p] takes in[p + d] under offset d, out[p + d] takes in[p] under -d: 13 offsets are searched, 13 mirrored.
    for (dz, dy, dx), (here, there) in _forward_neighbours(keys).items():
        offset = (dz + 1) * 9 + (dy + 1) * 3 + (dx + 1)
        outputs[offset], inputs[offset] = here, there
        outputs[26 - offset], inputs[26 - offset] = there, here
    return PairMap(len(keys), len(keys), tuple(inputs), tuple(outputs), identity=13, mirrored=True)


def _forward_neighbours(keys: Tensor) -> dict[tuple[int, int, int], tuple[Tensor, Tensor]]:
    """Finds, for the 13 offsets after the centre (in key order), the rows that have a neighbour there, and its row.

    Three neighbours in z have consecutive keys. So one binary search finds where they would begin, and the next entries
    are compared: 4 searches instead of 13.
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
    """Builds the map of a strided convolution: output voxels are the distinct floor(coordinate / stride).

    An output voxel takes the input voxels at stride * coordinate + offset.

    Args:
        keys: (V,) int64 sorted distinct keys of the input voxels.
        kernel_size: 1, 2 or 3 (offsets of odd sizes are centred, those of even sizes are 0..k-1).
        stride: 1 or more.

    Returns:
        The sorted keys of the output voxels and the map; `map.transposed()` leads back to the input voxels.
    """
    coarse = torch.unique(divide(keys, stride))
    batch, z, y, x = unpack(coarse)
    zero = torch.zeros_like(batch)
    # Added to the key, not packed: a coordinate that `pack` clamps at the limit would become its own neighbour.
    origin = pack(batch, zero, zero, zero) + stride * (y * STEP_Y + x * STEP_X + z)
    inputs, outputs = [], []
    for dz, dy, dx in kernel_offsets(kernel_size):
        wanted = origin + (dy * STEP_Y + dx * STEP_X + dz)
        position = torch.searchsorted(keys, wanted).clamp(max=max(len(keys) - 1, 0))
        there = (keys[position] == wanted).nonzero()[:, 0]
        inputs.append(position[there])
        outputs.append(there)
    return coarse, PairMap(len(keys), len(coarse), tuple(inputs), tuple(outputs))


def halving_map(keys: Tensor, parent: Tensor, num_coarse: int) -> PairMap:
    """Builds the map of `strided_map` with kernel size 2 and stride 2, from known parents.

    Args:
        keys: (V,) int64 sorted distinct keys of the input voxels.
        parent: (V,) int64, row of the output voxel that holds each input voxel.
        num_coarse: number of output voxels.

    Returns:
        The map; `map.transposed()` leads back to the input voxels.
    """
    _, z, y, x = unpack(keys)
    offset = (z % 2) * 4 + (y % 2) * 2 + x % 2
    inputs = tuple((offset == number).nonzero()[:, 0] for number in range(8))
    return PairMap(len(keys), num_coarse, inputs, tuple(parent[rows] for rows in inputs))


@dataclass(frozen=True, eq=False)
class _Epilogue:
    """The last step before sums are written: LeakyReLU(sum + bias + residual) with a slope."""

    bias: Tensor | None = None
    residual: Tensor | None = None
    slope: float = 1.0


class _PairConvolution(torch.autograd.Function):
    """A convolution over the pairs of a map with its own gradient; autograd through a plain loop is twice as slow."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, weight: Tensor, bias: Tensor | None, kernel_map: PairMap) -> Tensor:
        ctx.save_for_backward(features, weight)
        ctx.kernel_map = kernel_map
        return _walk(features, weight, kernel_map, _Epilogue(bias))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        features, weight = ctx.saved_tensors
        kernel_map: PairMap = ctx.kernel_map
        grad = grad_outputs[0].contiguous()
        grad_features = grad_weight = grad_bias = None
        if ctx.needs_input_grad[0]:
            # out = sum_k S_k x W_k, so dx = sum_k S_k^T dout W_k^T: the transposed map with transposed weights. Where
            # the map is its own mirror image, S_k^T = S_(K-1-k), and the same map is used.
            transposed = weight.transpose(1, 2)
            if kernel_map.mirrored:
                grad_features = _walk(grad, transposed.flip(0), kernel_map, _Epilogue())
            else:
                grad_features = _walk(grad, transposed, kernel_map.transposed(), _Epilogue())
        if ctx.needs_input_grad[1]:
            grad_weight = weight_gradient(features, grad, weight, kernel_map)
        if ctx.needs_input_grad[2]:
            grad_bias = grad.sum(0)
        return grad_features, grad_weight, grad_bias, None


def _walk(features: Tensor, weight: Tensor, kernel_map: PairMap, epilogue: _Epilogue) -> Tensor:
    on_cpu = features.device.type == "cpu"
    return (_walk_in_chunks if on_cpu else _walk_by_offset)(features, weight, kernel_map, epilogue)


def _walk_in_chunks(features: Tensor, weight: Tensor, kernel_map: PairMap, epilogue: _Epilogue) -> Tensor:
    schedule, matrices = kernel_map.schedule, weight.unbind(0)
    _, c_in, c_out = weight.shape
    out = features.new_empty(kernel_map.num_outputs, c_out)
    gathered = features.new_empty(_padded(schedule.num_gathered, features.dtype), c_in)
    # A part is multiplied with its padding, which the next part overwrites; the last part needs extra space for it.
    buffer = features.new_empty(schedule.num_products + len(gathered), c_out)
    bias, residual, slope = epilogue.bias, epilogue.residual, epilogue.slope
    for chunk in schedule.chunks:
        rows = slice(chunk.begin, chunk.end)
        for part in chunk.parts:
            matrix, count = matrices[part.offset], part.end - part.begin
            if part.inputs is None:
                products = buffer[part.begin : part.end]
                if bias is None:
                    torch.mm(features[rows], matrix, out=products)
                else:
                    torch.addmm(bias, features[rows], matrix, out=products)
            else:
                torch.index_select(features, 0, part.inputs, out=gathered[:count])
                padded = _padded(count, features.dtype)
                torch.mm(gathered[:padded], matrix, out=buffer[part.begin : part.begin + padded])
        sums = sum_bags(buffer, chunk.products, chunk.bags)
        if bias is not None and kernel_map.identity is None:
            sums += bias
        out[rows] = finish(sums, None if residual is None else residual[rows], slope)
    return out


def _padded(count: int, dtype: torch.dtype) -> int:
    """Returns the number of rows to multiply where `count` are needed: in half precision one of a few sizes.

    In half precision oneDNN multiplies, and generates code for every size that it has not seen lately. That takes six
    times as long as the product, and no two scans have the same sizes.
    """
    if dtype not in (torch.bfloat16, torch.float16):
        return count
    step = max(64, 1 << max(count.bit_length() - 4, 0))
    return -(-count // step) * step


def _walk_by_offset(features: Tensor, weight: Tensor, kernel_map: PairMap, epilogue: _Epilogue) -> Tensor:
    """Convolves on a GPU: all pairs of an offset at once, added into the result in fp32."""
    wide = torch.promote_types(features.dtype, torch.float32)
    out = features.new_zeros(kernel_map.num_outputs, weight.shape[2], dtype=wide)
    if epilogue.bias is not None:
        out += epilogue.bias
    for offset, (inputs, outputs, matrix) in enumerate(zip(kernel_map.inputs, kernel_map.outputs, weight, strict=True)):
        if offset == kernel_map.identity:
            out += features @ matrix
        else:
            out.index_add_(0, outputs, (features.index_select(0, inputs) @ matrix).to(wide))
    return finish(out, epilogue.residual, epilogue.slope).to(features.dtype)


def weight_gradient(features: Tensor, grad: Tensor, weight: Tensor, kernel_map: PairMap) -> Tensor:
    """Computes the gradient of a convolution's weight, (K, C_in, C_out), from that of its output."""
    result = torch.zeros_like(weight, memory_format=torch.contiguous_format)
    dtype = features.dtype
    most = _padded(max((len(pairs) for pairs in kernel_map.inputs), default=0), dtype)
    # Two buffers for all offsets: new memory for each would cost more (in page faults) than the arithmetic.
    left, right = features.new_empty(most, weight.shape[1]), grad.new_empty(most, weight.shape[2])
    for offset, (inputs, outputs) in enumerate(zip(kernel_map.inputs, kernel_map.outputs, strict=True)):
        if offset == kernel_map.identity:
            torch.mm(features.T, grad, out=result[offset])
        elif count := len(inputs):
            padded = _padded(count, dtype)
            torch.index_select(features, 0, inputs, out=left[:count])
            torch.index_select(grad, 0, outputs, out=right[:count])
            for buffer in (left, right):
                buffer[count:padded].zero_()
            torch.mm(left[:padded].T, right[:padded], out=result[offset])
    return result


BACKEND = SparseBackend("torch", submanifold_map, halving_map)
