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

from network.sparse.triton_geometry import TILE, Neighbours, Pairs, blocks, launch
from network.sparse.triton_tuning import (
    INTERPRETED,
    benchmark,
    convolution_configs,
    fitting_convolutions,
    fitting_gradients,
    gradient_configs,
    launch_tuned,
    size_of,
)
from utils.fp32 import matmul_in_tf32

_WIDEN = tl.constexpr(INTERPRETED)  # the interpreter would multiply the bits of bf16 as if they were integers
_TILE = tl.constexpr(TILE)

# The pairs of an offset are divided among programs in multiples of this, whatever the tuner chooses: so the order of
# the sums, and with it the result, depends on the map alone.
_SHARE = 128
_PARTIAL_SUMS = 1 << 21  # numbers in the partial sums of a weight gradient: 8 MiB, a fraction of the L2 cache
_MOST_SHARES = 4 if INTERPRETED else 512  # the interpreter runs programs one after another
_SPLITS = 4  # programs that share the offsets of a tile, where tiles are few
_WIDE = 128  # channels of a layer that computes longer than it loads
_COMBINED = 1024  # numbers per program that adds up the splits
_LEVELS = (1, 0, 2)  # the order in which the z levels of a kernel are added up
_PROGRAMS = 264  # that a large GPU runs at once, two on each of 132 multiprocessors (H100)


def interpreting() -> bool:
    """Returns whether the kernels run in Triton's interpreter, and the environment still asks for it."""
    return INTERPRETED and knobs.runtime.interpret


def convolve(
    features: Tensor,
    weight: Tensor,
    neighbours: Neighbours,
    mirrored: bool = False,
    bias: Tensor | None = None,
    residual: Tensor | None = None,
    slope: float = 1.0,
) -> Tensor:
    """Computes out[o] = LeakyReLU(bias + residual[o] + sum over offsets k: features[neighbours[k, o]] @ weight[k]).

    Args:
        features: (V_in, C_in) fp32, fp16 or bf16.
        weight: (K, C_in, C_out) in the same type, K the kernel volume, any strides.
        neighbours: neighbours of the output rows.
        mirrored: whether to use weight[K - 1 - k] in place of weight[k].
        bias: (C_out,) or None.
        residual: (V_out, C_out) or None.
        slope: slope of the LeakyReLU; 1 for no activation, 0 for a ReLU.

    Returns:
        (V_out, C_out) in the type of the features; sums are accumulated in fp32 and rounded once.
    """
    volume, c_in, c_out = weight.shape
    num_rows, features = len(neighbours), _rows_together(features)
    out = features.new_empty(num_rows, c_out)
    if not num_rows:
        return out
    splits = num_splits(num_rows, c_out)
    tiles = neighbours.tiles(splits == 1 and by_level_pays(_precision(features), num_rows, c_in, c_out))
    # A missing bias or residual is replaced by a tensor of the same type: the types are part of the tuner's key.
    bias_or_any = weight if bias is None else bias.to(weight.dtype).contiguous()
    residual_or_any = out if residual is None else _rows_together(residual.to(out.dtype))
    # Sums that are not complete: of a row's levels so far, or of each share of a tile's offsets.
    partial = out
    if splits > 1 or (tiles.num_groups > 1 and out.dtype != torch.float32):
        partial = torch.empty((splits, num_rows, c_out), dtype=torch.float32, device=out.device)
    epilogue = {"HAS_BIAS": bias is not None, "HAS_RESIDUAL": residual is not None}
    kind = {"C_IN": c_in, "C_OUT": c_out, "VOLUME": volume, "MIRRORED": mirrored, "PRECISION": _precision(features)}
    kind |= {"GROUPS": tiles.num_groups, "SPLITS": splits}
    size = size_of(blocks(num_rows, TILE))

    def programs(config: dict[str, Any]) -> int:
        return blocks(num_rows, config["BLOCK_M"]) * blocks(c_out, config["BLOCK_N"]) * splits

    # Each group adds to what the one before has written. Every row is in the level of the centre, which comes first:
    # it replaces what is there, so the tuner may run it several times.
    for group in (0,) if tiles.num_groups == 1 else _LEVELS:
        launch_tuned(
            _convolution_kernel, (features.dtype, size, *kind.values()), programs,
            features, weight, bias_or_any, residual_or_any, out, partial,
            tiles.order, tiles.masks, tiles.neighbours, tiles.groups_of, num_rows, tiles.neighbours.shape[1],
            float(slope), group, size, features.stride(0), *weight.stride(), residual_or_any.stride(0),
            **kind, **epilogue,
        )  # fmt: skip
    if splits > 1:
        launch(
            _combine_kernel, blocks(num_rows * c_out, _COMBINED),
            partial, bias_or_any, residual_or_any, out, num_rows * c_out, float(slope), residual_or_any.stride(0),
            C_OUT=c_out, SPLITS=splits, BLOCK=_COMBINED, **epilogue,
        )  # fmt: skip
    return out


def by_level_pays(precision: str, num_rows: int, c_in: int, c_out: int) -> bool:
    """Returns whether to compute a 3x3x3 kernel level by level: fewer products are wasted, but sums are read again.

    That pays where the matrix units are the limit: in wide layers, and with the three products of tf32x3 from 64
    channels on if there is enough to do beside the two more launches. Other layers wait for their rows.
    """
    channels, size = min(c_in, c_out), size_of(blocks(num_rows, TILE))
    return (channels >= _WIDE and size > 0) or (precision == "tf32x3" and channels >= 64 and size > 1)


def num_splits(num_rows: int, c_out: int) -> int:
    """Returns how many programs share the offsets of a tile: several if a GPU would be idle otherwise.

    It follows from the size alone, so that the order of the sums does not depend on the tuner.
    """
    programs = blocks(num_rows, TILE) * blocks(c_out, 64)
    return _SPLITS if programs * _SPLITS <= _PROGRAMS else 1


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
    volume, c_in, c_out = pairs.volume, features.shape[1], grad.shape[1]
    shares = min(max(_PARTIAL_SUMS // (c_in * c_out), 16), _MOST_SHARES)
    # The last share of each offset may be incomplete, so up to `volume` more shares are needed.
    partial = features.new_empty((shares + volume, c_in, c_out), dtype=torch.float32)
    result = features.new_empty((volume, c_in, c_out), dtype=out_dtype)
    shared = {"VOLUME": volume, "MIRRORED": pairs.mirrored, "SHARES": shares, "SHARE": _SHARE}
    kind = {"C_IN": c_in, "C_OUT": c_out, "PRECISION": _precision(features)}
    size, capacity = size_of(blocks(pairs.num_rows, TILE)), pairs.rows.shape[1]

    def programs(config: dict[str, Any]) -> int:
        return (shares + volume) * blocks(c_in, config["BLOCK_IN"]) * blocks(c_out, config["BLOCK_OUT"])

    launch_tuned(
        _weight_gradient_kernel, (features.dtype, size, *kind.values(), volume), programs,
        features, grad, pairs.rows, pairs.ends, partial, pairs.num_rows, capacity, size,
        features.stride(0), grad.stride(0), **kind, **shared,
    )  # fmt: skip
    numbers, block = c_in * c_out, 256
    programs_of_sum = volume * blocks(numbers, block)
    launch(_sum_kernel, programs_of_sum, partial, pairs.ends, result, pairs.num_rows, numbers, BLOCK=block, **shared)
    return result


def _rows_together(tensor: Tensor) -> Tensor:
    """Returns the tensor with contiguous rows; a gradient that is one expanded number has strides of 0."""
    return tensor if tensor.stride(1) == 1 and tensor.stride(0) >= tensor.shape[1] else tensor.contiguous()


def _precision(features: Tensor) -> str:
    """Returns how products of fp32 are computed: "tf32", or "tf32x3" in full precision; other types have one way only.

    tf32x3 splits every number into two of TF32 and adds up three products: as exact as fp32 within a factor of two, on
    the matrix units.
    """
    if features.dtype != torch.float32:
        return "ieee"
    return "tf32" if matmul_in_tf32() else "tf32x3"


@triton.jit
def _lowest_bit(mask):
    """Returns the number of the lowest bit that is set: a power of two is its own exponent as a float."""
    return ((mask & -mask).to(tl.float32).to(tl.int32, bitcast=True) >> 23) - 127


@triton.jit
def _count_bits(mask):
    """Counts the bits that are set, of up to 31, in parallel."""
    mask -= (mask >> 1) & 0x55555555
    mask = (mask & 0x33333333) + ((mask >> 2) & 0x33333333)
    mask = (mask + (mask >> 4)) & 0x0F0F0F0F
    mask += mask >> 8
    return (mask + (mask >> 16)) & 0x3F


# Triton adds the types of the tensors to the key. `size` stands for the number of voxels, which differs from scan to
# scan.
@triton.autotune(
    convolution_configs(),
    key=["C_IN", "C_OUT", "VOLUME", "MIRRORED", "PRECISION", "GROUPS", "SPLITS", "size"],
    prune_configs_by={"early_config_prune": fitting_convolutions},
    do_bench=benchmark,
    cache_results=True,
)
@triton.jit(do_not_specialize=["num_rows", "group", "size"])
def _convolution_kernel(
    features, weight, bias, residual, out, partial,
    order, masks, neighbours, groups_of, num_rows, places, slope, group, size,
    features_row, weight_offset, weight_in, weight_out, residual_row,
    C_IN: tl.constexpr, C_OUT: tl.constexpr, VOLUME: tl.constexpr, MIRRORED: tl.constexpr, PRECISION: tl.constexpr,
    GROUPS: tl.constexpr, SPLITS: tl.constexpr, HAS_BIAS: tl.constexpr, HAS_RESIDUAL: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """Computes one tile of rows times BLOCK_N output channels, at the offsets of one group or one share of them.

    The loops over the live offsets of the tile and over the input channels are one loop, so that the data of the next
    offset are loaded while this one is multiplied. Which offsets are live is in a register: nothing waits for it.
    """
    # Programs of the same rows are neighbours, so the rows that one has gathered are in the cache for the next.
    BLOCKS: tl.constexpr = (C_OUT + BLOCK_N - 1) // BLOCK_N
    DEPTH: tl.constexpr = (C_IN + BLOCK_K - 1) // BLOCK_K
    split = tl.program_id(0) % SPLITS
    tile = tl.program_id(0) // (BLOCKS * SPLITS)
    place = tile * BLOCK_M + tl.arange(0, BLOCK_M)
    n = (tl.program_id(0) // SPLITS % BLOCKS) * BLOCK_N + tl.arange(0, BLOCK_N)
    first_offset = group * (VOLUME // GROUPS)
    live = 0
    for part in tl.static_range(BLOCK_M // _TILE):  # pyright: ignore[reportGeneralTypeIssues]
        live |= tl.load(masks + group * (places // _TILE) + tile * (BLOCK_M // _TILE) + part)
    steps = (_count_bits(live) - split + SPLITS - 1) // SPLITS * DEPTH
    for number in tl.static_range(SPLITS - 1):  # pyright: ignore[reportGeneralTypeIssues]
        live = tl.where(number < split, live & (live - 1), live)
    inside = place < num_rows
    first_row = group.to(tl.int64) * num_rows
    rows = tl.load(order + first_row + place, mask=inside, other=first_row) - first_row
    at = rows[:, None] * C_OUT + n[None, :]
    used = (n < C_OUT)[None, :]
    done = inside
    sums = tl.full([BLOCK_M, BLOCK_N], 0.0, tl.float32)
    if GROUPS > 1:
        levels = tl.load(groups_of + rows, mask=inside, other=0)
        begun = group == 1  # the level of the centre
        inside = inside & (begun | ((levels >> group) & 1 == 1))
        later = tl.where(begun, 5, tl.where(group == 0, 4, 0))  # the levels to come, as bits
        done = inside & (levels & later == 0)
        earlier = inside & (group != 1)
        sums = tl.load(partial + at, mask=earlier[:, None] & used, other=0.0).to(tl.float32)
    for step in range(steps):
        offset = first_offset + _lowest_bit(live)
        neighbour = tl.load(neighbours + offset * places + place)[:, None]
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
        rest = live
        for _ in tl.static_range(SPLITS):  # pyright: ignore[reportGeneralTypeIssues]
            rest &= rest - 1
        live = tl.where(step % DEPTH == DEPTH - 1, rest, live)
    if SPLITS > 1:
        tl.store(partial + split.to(tl.int64) * num_rows * C_OUT + at, sums, mask=inside[:, None] & used)
    else:
        if GROUPS > 1:
            unfinished = inside & (done == 0)
            tl.store(partial + at, sums.to(partial.dtype.element_ty), mask=unfinished[:, None] & used)
        row = rows[:, None] * residual_row
        sums = _finished(
            sums, bias, residual, row, n[None, :], slope, done[:, None] & used, used, HAS_BIAS, HAS_RESIDUAL
        )
        tl.store(out + at, sums.to(out.dtype.element_ty), mask=done[:, None] & used)


@triton.jit
def _finished(
    sums, bias, residual, residual_row, n, slope, inside, used, HAS_BIAS: tl.constexpr, HAS_RESIDUAL: tl.constexpr
):  # fmt: skip
    """Computes LeakyReLU(sums + bias + residual); `n` are the output channels, `residual_row` where its rows begin."""
    if HAS_BIAS:
        sums += tl.load(bias + n, mask=used, other=0.0).to(tl.float32)
    if HAS_RESIDUAL:
        sums += tl.load(residual + residual_row + n, mask=inside, other=0.0).to(tl.float32)
    return tl.where(sums > 0, sums, sums * slope)


@triton.jit(do_not_specialize=["numbers"])
def _combine_kernel(
    partial, bias, residual, out, numbers, slope, residual_row,
    C_OUT: tl.constexpr, SPLITS: tl.constexpr, HAS_BIAS: tl.constexpr, HAS_RESIDUAL: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Adds up the shares of each sum in their order, and finishes it."""
    number = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = number < numbers
    sums = tl.load(partial + number, mask=inside, other=0.0)
    for split in tl.static_range(1, SPLITS):  # pyright: ignore[reportGeneralTypeIssues]
        sums += tl.load(partial + split * tl.cast(numbers, tl.int64) + number, mask=inside, other=0.0)
    row, n = number // C_OUT, number % C_OUT
    sums = _finished(sums, bias, residual, row * residual_row, n, slope, inside, inside, HAS_BIAS, HAS_RESIDUAL)
    tl.store(out + number, sums.to(out.dtype.element_ty), mask=inside)


@triton.jit
def _shares(
    ends, num_rows, VOLUME: tl.constexpr, MIRRORED: tl.constexpr, SHARES: tl.constexpr, SHARE: tl.constexpr
):  # fmt: skip
    """Divides the pairs into shares of equal length, each of one offset; a share is the work of one program.

    Returns:
        The length of a share, and for each offset, (32,) each: begin and end of its pairs, first and end of its
        programs. An end is exclusive.
    """
    offset = tl.arange(0, 32)
    listed, used = offset, offset < VOLUME
    if MIRRORED:  # offset K - 1 - k has the pairs of offset k; the centre has none in the lists
        listed = tl.minimum(offset, VOLUME - 1 - offset)
        used = used & (offset != VOLUME // 2)
    end = tl.load(ends + listed, mask=used, other=0)
    begin = tl.load(ends + listed - 1, mask=used & (listed > 0), other=0)
    if MIRRORED:
        end = tl.where(offset == VOLUME // 2, num_rows, end)
    total = tl.sum(end - begin, axis=0)
    length = tl.maximum((total + SHARES * SHARE - 1) // (SHARES * SHARE) * SHARE, SHARE)
    programs = (end - begin + length - 1) // length
    last = tl.cumsum(programs, axis=0)
    return length, begin, end, last - programs, last


@triton.autotune(
    gradient_configs(),
    key=["C_IN", "C_OUT", "VOLUME", "PRECISION", "size"],
    prune_configs_by={"early_config_prune": fitting_gradients},
    do_bench=benchmark,
    cache_results=True,
)
@triton.jit(do_not_specialize=["num_rows", "capacity", "size"])
def _weight_gradient_kernel(
    features, grad, pair_rows, ends, partial, num_rows, capacity, size, features_row, grad_row,
    C_IN: tl.constexpr, C_OUT: tl.constexpr, PRECISION: tl.constexpr,
    VOLUME: tl.constexpr, MIRRORED: tl.constexpr, SHARES: tl.constexpr, SHARE: tl.constexpr,
    BLOCK_IN: tl.constexpr, BLOCK_OUT: tl.constexpr, BLOCK_P: tl.constexpr,
):  # fmt: skip
    """Computes the sum over one share of the pairs, for BLOCK_IN x BLOCK_OUT numbers of the gradient of its offset."""
    WIDE: tl.constexpr = (C_OUT + BLOCK_OUT - 1) // BLOCK_OUT
    BLOCKS: tl.constexpr = (C_IN + BLOCK_IN - 1) // BLOCK_IN * WIDE
    program = tl.program_id(0) // BLOCKS
    length, begin, end, first, last = _shares(  # pyright: ignore[reportGeneralTypeIssues]
        ends, num_rows, VOLUME, MIRRORED, SHARES, SHARE
    )
    mine = (first <= program) & (program < last)  # true for one offset, or for none if this program has no share
    from_pair = tl.sum(tl.where(mine, begin + (program - first) * length, 0), axis=0)
    to_pair = tl.minimum(from_pair + length, tl.sum(tl.where(mine, end, 0), axis=0))
    if to_pair <= from_pair:
        return
    offset = tl.sum(tl.where(mine, tl.arange(0, 32), 0), axis=0)
    swapped = MIRRORED & (offset > VOLUME // 2)
    centre = MIRRORED & (offset == VOLUME // 2)
    inputs = pair_rows + tl.where(swapped, capacity, 0)
    outputs = pair_rows + tl.where(swapped, 0, capacity)
    block = tl.program_id(0) % BLOCKS
    i = (block // WIDE) * BLOCK_IN + tl.arange(0, BLOCK_IN)
    o = (block % WIDE) * BLOCK_OUT + tl.arange(0, BLOCK_OUT)
    sums = tl.full([BLOCK_IN, BLOCK_OUT], 0.0, tl.float32)
    for start in range(from_pair, to_pair, BLOCK_P):
        pair = start + tl.arange(0, BLOCK_P)
        inside = pair < to_pair
        own = tl.where(inside & centre, pair, 0)  # a row that is paired with itself
        listed = inside & (centre == 0)
        x_row = (own + tl.load(inputs + pair, mask=listed, other=0))[:, None].to(tl.int64)
        g_row = (own + tl.load(outputs + pair, mask=listed, other=0))[:, None].to(tl.int64)
        x = tl.load(features + x_row * features_row + i[None, :], mask=inside[:, None] & (i < C_IN)[None, :], other=0.0)
        g = tl.load(grad + g_row * grad_row + o[None, :], mask=inside[:, None] & (o < C_OUT)[None, :], other=0.0)
        if _WIDEN:
            x, g = x.to(tl.float32), g.to(tl.float32)
        sums = tl.dot(tl.trans(x), g, sums, input_precision=PRECISION)
    there = partial + program * C_IN * C_OUT + i[:, None] * C_OUT + o[None, :]
    tl.store(there, sums, mask=(i < C_IN)[:, None] & (o < C_OUT)[None, :])


@triton.jit(do_not_specialize=["num_rows"])
def _sum_kernel(
    partial, ends, result, num_rows, numbers,
    VOLUME: tl.constexpr, MIRRORED: tl.constexpr, SHARES: tl.constexpr, SHARE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Adds up the partial sums of one offset in a fixed order."""
    offset = tl.program_id(0) % VOLUME
    _, _, _, first, last = _shares(  # pyright: ignore[reportGeneralTypeIssues]
        ends, num_rows, VOLUME, MIRRORED, SHARES, SHARE
    )
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
