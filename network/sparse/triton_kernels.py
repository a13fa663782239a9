# ruff: noqa: ANN001, ANN202 -- the arguments of Triton kernels have no Python types
"""Triton kernels of the sparse convolution and of its weight gradient, and the functions that start them.

See `triton_backend` for the method.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton import knobs

from network.sparse.triton_geometry import TILE, Pairs, Tiles, blocks, launch
from utils.fp32 import matmul_in_tf32

INTERPRETED: bool = knobs.runtime.interpret  # the kernels below run in Triton's interpreter, on any device
_WIDEN = tl.constexpr(INTERPRETED)  # the interpreter would multiply the bits of bf16 as if they were integers

# The pairs of an offset are divided among programs in multiples of this, whatever the tuner chooses: so the order of
# the sums, and with it the result, depends on the map alone.
_SHARE = 128
_PARTIAL_SUMS = 1 << 21  # numbers in the partial sums of a weight gradient: 8 MiB, a fraction of the L2 cache
_MOST_SHARES = 4 if INTERPRETED else 512  # the interpreter runs programs one after another


def interpreting() -> bool:
    """Returns whether the kernels run in Triton's interpreter, and the environment still asks for it."""
    return INTERPRETED and knobs.runtime.interpret


def convolve_tiles(
    features: Tensor,
    weight: Tensor,
    tiles: Tiles,
    mirrored: bool = False,
    bias: Tensor | None = None,
    residual: Tensor | None = None,
    slope: float = 1.0,
) -> Tensor:
    """Computes out[o] = LeakyReLU(bias + residual[o] + sum over offsets k: features[neighbours[k, o]] @ weight[k]).

    Args:
        features: (V_in, C_in) fp32, fp16 or bf16.
        weight: (K, C_in, C_out) in the same type, K the kernel volume, any strides.
        tiles: tiles of the output rows.
        mirrored: whether to use weight[K - 1 - k] in place of weight[k].
        bias: (C_out,) or None.
        residual: (V_out, C_out) or None.
        slope: slope of the LeakyReLU; 1 for no activation, 0 for a ReLU.

    Returns:
        (V_out, C_out) in the type of the features; sums are accumulated in fp32 and rounded once.
    """
    volume, c_in, c_out = weight.shape
    num_tiles, features = len(tiles.num_live), _rows_together(features)
    out = features.new_empty(len(tiles.order), c_out)
    if not num_tiles:
        return out
    # A missing bias or residual is replaced by a tensor of the same type: the types are part of the tuner's key.
    bias_or_any = weight if bias is None else bias.to(weight.dtype).contiguous()
    residual_or_any = out if residual is None else _rows_together(residual.to(out.dtype))

    launch(
        _convolution_kernel, lambda config: num_tiles * blocks(c_out, config["BLOCK_N"]),
        features, weight, bias_or_any, residual_or_any, out,
        tiles.order, tiles.live, tiles.num_live, tiles.neighbours, len(tiles.order), float(slope),
        features.stride(0), *weight.stride(), residual_or_any.stride(0),
        C_IN=c_in, C_OUT=c_out, VOLUME=volume, MIRRORED=mirrored, PRECISION=_precision(features),
        HAS_BIAS=bias is not None, HAS_RESIDUAL=residual is not None, BLOCK_M=TILE,
    )  # fmt: skip
    return out


def weight_gradient(features: Tensor, grad: Tensor, pairs: Pairs, out_dtype: torch.dtype) -> Tensor:
    """Computes result[k] = sum over the pairs (i, o) of offset k: features[i]^T grad[o], without atomics.

    The order of the sums is fixed, so the result is the same every time.

    Args:
        features: (V_in, C_in) fp32, fp16 or bf16.
        grad: (V_out, C_out) in the same type.
        pairs: the pairs of the map.
        out_dtype: type of the result; sums are accumulated in fp32.

    Returns:
        (K, C_in, C_out), K the kernel volume.
    """
    features, grad = _rows_together(features), _rows_together(grad)
    volume, c_in, c_out = len(pairs.ends), features.shape[1], grad.shape[1]
    shares = min(max(_PARTIAL_SUMS // (c_in * c_out), 16), _MOST_SHARES)
    # The last share of each offset may be incomplete, so up to `volume` more shares are needed.
    partial = features.new_empty((shares + volume, c_in, c_out), dtype=torch.float32)
    result = features.new_empty((volume, c_in, c_out), dtype=out_dtype)

    def programs(config: dict[str, Any]) -> int:
        return (shares + volume) * blocks(c_in, config["BLOCK_IN"]) * blocks(c_out, config["BLOCK_OUT"])

    shared = {"VOLUME": volume, "SHARES": shares, "SHARE": _SHARE}
    launch(
        _weight_gradient_kernel, programs,
        features, grad, pairs.inputs, pairs.outputs, pairs.ends, partial, features.stride(0), grad.stride(0),
        C_IN=c_in, C_OUT=c_out, PRECISION=_precision(features), **shared,
    )  # fmt: skip
    numbers, block = c_in * c_out, 256
    launch(_sum_kernel, volume * blocks(numbers, block), partial, pairs.ends, result, numbers, BLOCK=block, **shared)
    return result


def _rows_together(tensor: Tensor) -> Tensor:
    """Returns the tensor with contiguous rows; a gradient that is one expanded number has strides of 0."""
    return tensor if tensor.stride(1) == 1 and tensor.stride(0) >= tensor.shape[1] else tensor.contiguous()


def _precision(features: Tensor) -> str:
    """Returns how products of fp32 are computed: "tf32" or "ieee"; other types always use "ieee"."""
    return "tf32" if features.dtype == torch.float32 and matmul_in_tf32() else "ieee"


def _fits(block: int, channels: int, least: int, most: int) -> bool:
    """Returns whether a block is neither wider than the channels nor much narrower."""
    width = min(max(1 << (channels - 1).bit_length(), least), most)
    return width // 4 <= block <= width


# These blocks compile with almost no spilled registers for compute capability 8.0 and 9.0 (`python -m
# tests.support.triton_compile --all`). They need less than 99 KB of shared memory, which every such GPU has; with TF32
# up to 144 KB, and the tuner skips what does not fit. Triton divides the stages of a pipeline between loads that depend
# on each other, here rows and then their features: with 3 stages the features of one product are loaded while another
# product is computed, with 5 stages those of two; 4 stages are no better than 3.
_CONVOLUTION_BLOCKS = [  # BLOCK_N, BLOCK_K, warps, stages
    (32, 16, 4, 5),
    (32, 32, 4, 5),
    (64, 16, 4, 5),
    (64, 32, 4, 5),
    (64, 64, 4, 3),
    (64, 64, 4, 5),
    (128, 32, 4, 5),
    (128, 64, 8, 3),
    (128, 64, 8, 5),
    (256, 32, 8, 5),
    (256, 64, 8, 3),
]
_GRADIENT_BLOCKS = [  # BLOCK_IN, BLOCK_OUT, BLOCK_P, warps, stages
    (16, 32, 64, 4, 3),
    (16, 64, 64, 4, 3),
    (32, 32, 64, 4, 3),
    (64, 32, 64, 4, 3),
    (32, 64, 64, 4, 3),
    (64, 64, 32, 4, 5),
    (64, 64, 64, 4, 5),
    (128, 64, 32, 4, 5),
    (64, 128, 32, 4, 5),
    (128, 128, 32, 8, 5),
]


def _convolution_configs() -> list[triton.Config]:
    blocks = [(32, 16, 4, 3)] if INTERPRETED else _CONVOLUTION_BLOCKS
    return [triton.Config({"BLOCK_N": n, "BLOCK_K": k}, num_warps=w, num_stages=s) for n, k, w, s in blocks]


def convolution_fits(block: tuple[int, ...], bytes_per_number: int, c_in: int, c_out: int) -> bool:
    """Returns whether an entry of `_CONVOLUTION_BLOCKS` suits the channels.

    Blocks of 256 output channels are not used in fp32: they would fill the registers.
    """
    return _fits(block[0], c_out, 32, 128 if bytes_per_number == 4 else 256) and _fits(block[1], c_in, 16, 64)


def _fitting_convolutions(configs: list[triton.Config], arguments: dict[str, Any], **more: Any) -> list[triton.Config]:
    size, channels = arguments["features"].element_size(), (more["C_IN"], more["C_OUT"])
    return [c for c in configs if convolution_fits((c.kwargs["BLOCK_N"], c.kwargs["BLOCK_K"]), size, *channels)]


# The number of voxels is not in the key: it differs from scan to scan. Triton adds the types of the tensors to the key.
@triton.autotune(
    _convolution_configs(),
    key=["C_IN", "C_OUT", "VOLUME", "MIRRORED", "PRECISION"],
    prune_configs_by={"early_config_prune": _fitting_convolutions},
    cache_results=True,
)
@triton.jit(do_not_specialize=["num_rows"])
def _convolution_kernel(
    features, weight, bias, residual, out,
    order, live, num_live, neighbours, num_rows, slope,
    features_row, weight_offset, weight_in, weight_out, residual_row,
    C_IN: tl.constexpr, C_OUT: tl.constexpr, VOLUME: tl.constexpr, MIRRORED: tl.constexpr, PRECISION: tl.constexpr,
    HAS_BIAS: tl.constexpr, HAS_RESIDUAL: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """Computes one tile of rows times BLOCK_N output channels.

    The loops over the live offsets of the tile and over the input channels are one loop, so that the data of the next
    offset are loaded while this one is multiplied.
    """
    # Programs of the same rows are neighbours, so the rows that one has gathered are in the cache for the next.
    BLOCKS: tl.constexpr = (C_OUT + BLOCK_N - 1) // BLOCK_N
    DEPTH: tl.constexpr = (C_IN + BLOCK_K - 1) // BLOCK_K
    tile = tl.program_id(0) // BLOCKS
    places = tile * BLOCK_M + tl.arange(0, BLOCK_M)
    n = (tl.program_id(0) % BLOCKS) * BLOCK_N + tl.arange(0, BLOCK_N)
    sums = tl.full([BLOCK_M, BLOCK_N], 0.0, tl.float32)
    for step in range(tl.load(num_live + tile) * DEPTH):
        entry = tile * VOLUME + step // DEPTH
        offset = tl.load(live + entry)
        neighbour = tl.load(neighbours + entry * BLOCK_M + tl.arange(0, BLOCK_M))[:, None]
        k = (step % DEPTH) * BLOCK_K + tl.arange(0, BLOCK_K)  # pyright: ignore[reportOperatorIssue]
        # Rows times channels can exceed 2^31.
        here = features + neighbour.to(tl.int64) * features_row + k[None, :]
        x = tl.load(here, mask=(neighbour >= 0) & (k < C_IN)[None, :], other=0.0)
        matrix = VOLUME - 1 - offset if MIRRORED else offset
        there = weight + matrix * weight_offset + k[:, None] * weight_in + n[None, :] * weight_out
        w = tl.load(there, mask=(k < C_IN)[:, None] & (n < C_OUT)[None, :], other=0.0)
        if _WIDEN:
            x, w = x.to(tl.float32), w.to(tl.float32)
        sums = tl.dot(x, w, sums, input_precision=PRECISION)
    rows = tl.load(order + places, mask=places < num_rows, other=0)[:, None]
    inside = (places < num_rows)[:, None] & (n < C_OUT)[None, :]
    if HAS_BIAS:
        sums += tl.load(bias + n, mask=n < C_OUT, other=0.0).to(tl.float32)[None, :]
    if HAS_RESIDUAL:
        sums += tl.load(residual + rows * residual_row + n[None, :], mask=inside, other=0.0).to(tl.float32)
    sums = tl.where(sums > 0, sums, sums * slope)
    tl.store(out + rows * C_OUT + n[None, :], sums.to(out.dtype.element_ty), mask=inside)


@triton.jit
def _shares(ends, VOLUME: tl.constexpr, SHARES: tl.constexpr, SHARE: tl.constexpr):
    """Divides the pairs into shares of equal length, each of one offset; a share is the work of one program.

    Returns:
        The length of a share, and for each offset, (32,) each: begin and end of its pairs, first and end of its
        programs. An end is exclusive.
    """
    offset = tl.arange(0, 32)
    end = tl.load(ends + offset, mask=offset < VOLUME, other=0)
    begin = tl.load(ends + offset - 1, mask=(offset > 0) & (offset < VOLUME), other=0)
    total = tl.max(end, axis=0)  # the ends ascend
    length = tl.maximum((total + SHARES * SHARE - 1) // (SHARES * SHARE) * SHARE, SHARE)
    programs = (end - begin + length - 1) // length
    last = tl.cumsum(programs, axis=0)
    return length, begin, end, last - programs, last


def _gradient_configs() -> list[triton.Config]:
    blocks = [(16, 32, 32, 4, 3)] if INTERPRETED else _GRADIENT_BLOCKS
    return [
        triton.Config({"BLOCK_IN": i, "BLOCK_OUT": o, "BLOCK_P": p}, num_warps=w, num_stages=s)
        for i, o, p, w, s in blocks
    ]


def gradient_fits(block: tuple[int, ...], c_in: int, c_out: int) -> bool:
    """Returns whether an entry of `_GRADIENT_BLOCKS` suits the channels."""
    return _fits(block[0], c_in, 16, 128) and _fits(block[1], c_out, 32, 128)


def _fitting_gradients(configs: list[triton.Config], arguments: dict[str, Any], **more: Any) -> list[triton.Config]:
    channels = more["C_IN"], more["C_OUT"]
    return [c for c in configs if gradient_fits((c.kwargs["BLOCK_IN"], c.kwargs["BLOCK_OUT"]), *channels)]


@triton.autotune(
    _gradient_configs(),
    key=["C_IN", "C_OUT", "VOLUME", "PRECISION"],
    prune_configs_by={"early_config_prune": _fitting_gradients},
    cache_results=True,
)
@triton.jit
def _weight_gradient_kernel(
    features, grad, inputs, outputs, ends, partial, features_row, grad_row,
    C_IN: tl.constexpr, C_OUT: tl.constexpr, VOLUME: tl.constexpr, SHARES: tl.constexpr, SHARE: tl.constexpr,
    PRECISION: tl.constexpr, BLOCK_IN: tl.constexpr, BLOCK_OUT: tl.constexpr, BLOCK_P: tl.constexpr,
):  # fmt: skip
    """Computes the sum over one share of the pairs, for BLOCK_IN x BLOCK_OUT numbers of the gradient of its offset."""
    WIDE: tl.constexpr = (C_OUT + BLOCK_OUT - 1) // BLOCK_OUT
    BLOCKS: tl.constexpr = (C_IN + BLOCK_IN - 1) // BLOCK_IN * WIDE
    program = tl.program_id(0) // BLOCKS
    length, begin, end, first, last = _shares(ends, VOLUME, SHARES, SHARE)  # pyright: ignore[reportGeneralTypeIssues]
    mine = (first <= program) & (program < last)  # true for one offset, or for none if this program has no share
    from_pair = tl.sum(tl.where(mine, begin + (program - first) * length, 0), axis=0)
    to_pair = tl.minimum(from_pair + length, tl.sum(tl.where(mine, end, 0), axis=0))
    if to_pair <= from_pair:
        return
    block = tl.program_id(0) % BLOCKS
    i = (block // WIDE) * BLOCK_IN + tl.arange(0, BLOCK_IN)
    o = (block % WIDE) * BLOCK_OUT + tl.arange(0, BLOCK_OUT)
    sums = tl.full([BLOCK_IN, BLOCK_OUT], 0.0, tl.float32)
    for start in range(from_pair, to_pair, BLOCK_P):
        pair = start + tl.arange(0, BLOCK_P)
        inside = pair < to_pair
        x_row = tl.load(inputs + pair, mask=inside, other=0)[:, None].to(tl.int64)
        g_row = tl.load(outputs + pair, mask=inside, other=0)[:, None].to(tl.int64)
        x = tl.load(features + x_row * features_row + i[None, :], mask=inside[:, None] & (i < C_IN)[None, :], other=0.0)
        g = tl.load(grad + g_row * grad_row + o[None, :], mask=inside[:, None] & (o < C_OUT)[None, :], other=0.0)
        if _WIDEN:
            x, g = x.to(tl.float32), g.to(tl.float32)
        sums = tl.dot(tl.trans(x), g, sums, input_precision=PRECISION)
    there = partial + program * C_IN * C_OUT + i[:, None] * C_OUT + o[None, :]
    tl.store(there, sums, mask=(i < C_IN)[:, None] & (o < C_OUT)[None, :])


@triton.jit
def _sum_kernel(
    partial, ends, result, numbers,
    VOLUME: tl.constexpr, SHARES: tl.constexpr, SHARE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Adds up the partial sums of one offset in a fixed order."""
    offset = tl.program_id(0) % VOLUME
    _, _, _, first, last = _shares(ends, VOLUME, SHARES, SHARE)  # pyright: ignore[reportGeneralTypeIssues]
    mine = tl.arange(0, 32) == offset
    begin = tl.sum(tl.where(mine, first, 0), axis=0)
    end = tl.sum(tl.where(mine, last, 0), axis=0)
    number = tl.program_id(0) // VOLUME * BLOCK + tl.arange(0, BLOCK)
    sums = tl.full([16, BLOCK], 0.0, tl.float32)
    for start in range(begin, end, 16):
        share = start + tl.arange(0, 16)[:, None]
        inside = (share < end) & (number < numbers)[None, :]
        sums += tl.load(partial + share * numbers + number[None, :], mask=inside, other=0.0)
    total = tl.sum(sums, axis=0).to(result.dtype.element_ty)
    tl.store(result + offset * numbers + number, total, mask=number < numbers)
