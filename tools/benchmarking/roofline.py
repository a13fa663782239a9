"""The roofline model: the time of a network if nothing but arithmetic, or nothing but memory, took time.

The work is counted from the voxels and their neighbours, so it belongs to one input. Bytes are a lower bound:
every layer reads its input, its weights and a list of neighbours once and writes its output once; activations, norms
and additions are taken to be part of the layer before them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from network.models.network_3d import EncoderBlock, Network3D
from network.ops.sums import RowSum
from network.sparse.layers import ResidualBlock, SparseConv3d
from network.sparse.torch_backend import submanifold_map
from network.voxels.voxelize import Voxels
from tools.benchmarking.report import milliseconds
from tools.benchmarking.timing import seconds

_INDEX = 4  # bytes of a row number
_FLOAT = 4  # bytes of an input feature
_CONVOLUTIONS, _LINEAR, _MEANS = "3x3x3 convolutions", "linear layers", "means and copies"


@dataclass(frozen=True)
class Work:
    """The operations and the bytes that a computation needs.

    Attributes:
        flops: multiplications and additions.
        bytes: least number of bytes read and written.
    """

    flops: int = 0
    bytes: int = 0

    def __add__(self, other: Work) -> Work:
        return Work(self.flops + other.flops, self.bytes + other.bytes)


def matrix_work(rows: int, c_in: int, c_out: int, size: int, read_size: int | None = None) -> Work:
    """Counts the work of (rows, c_in) times (c_in, c_out), in numbers of `size` bytes (input: `read_size`)."""
    read = rows * c_in * (read_size or size)
    return Work(2 * rows * c_in * c_out, read + size * (c_in * c_out + rows * c_out))


def convolution_work(rows: int, pairs: int, layer: SparseConv3d, size: int, residual: bool = False) -> Work:
    """Counts the work of a 3x3x3 convolution on `rows` voxels with `pairs` pairs of neighbours (a voxel is its own,
    too).

    Args:
        rows, pairs: numbers of voxels, and of pairs of neighbours.
        layer: the convolution.
        size: bytes of a number.
        residual: whether a tensor of the shape of the output is read and added to it.
    """
    volume, c_in, c_out = layer.weight.shape
    numbers = rows * c_in + volume * c_in * c_out + (2 if residual else 1) * rows * c_out
    return Work(2 * pairs * c_in * c_out, size * numbers + _INDEX * (pairs - rows))


def average_work(average: RowSum, channels: int, size: int) -> Work:
    """Counts the work of a weighted sum of rows; a selection of rows without weights has no arithmetic."""
    entries = len(average.source)
    flops = 0 if average.ends is None else 2 * entries * channels
    read = min(entries, average.num_sources)
    return Work(flops, size * (read + len(average)) * channels + _INDEX * entries)


def count_pairs(keys: torch.Tensor) -> int:
    """Counts the pairs of voxels (V,) that meet under a 3x3x3 kernel, those of a voxel with itself among them."""
    return len(keys) + sum(len(inputs) for inputs in submanifold_map(keys, 3).inputs)


def network_work(network: Network3D, voxels: Voxels, size: int) -> dict[str, Work]:
    """Counts the work of `network(voxels)` in evaluation by kind of layer, whatever the backend.

    Args:
        network: the 3D network.
        voxels: the voxels of a batch.
        size: bytes of a number: 4 in fp32, 2 in bf16.
    """
    points, channels = len(voxels.features), network.embed_points.out_features
    found = [
        (_LINEAR, matrix_work(points, network.embed_points.in_features, channels, size, _FLOAT)),
        (_MEANS, average_work(voxels.base.mean_of_points, channels, size)),
        (_LINEAR, matrix_work(len(voxels.base), channels, channels, size)),
    ]
    pairs = {of: count_pairs(of.keys) for of in {voxels.finer(i) for i in range(len(network.encoder))}}
    for number, block in enumerate(network.encoder):
        assert isinstance(block, EncoderBlock)
        found += _block_work(block, voxels, number, pairs[voxels.finer(number)], size)
    assert isinstance(network.classifier, torch.nn.Linear)
    hidden, classes = network.head.out_features, network.classifier.out_features
    for at, rows in zip(voxels.scales, voxels.signature_rows, strict=True):
        found += [
            (_LINEAR, matrix_work(len(at), channels, hidden, size)),
            (_MEANS, average_work(rows, hidden, size)),
        ]
    found += [
        (_LINEAR, matrix_work(len(voxels.signature), hidden, classes, size)),
        (_MEANS, average_work(voxels.signature_of_point, classes, size)),
    ]
    kinds = (_CONVOLUTIONS, _LINEAR, _MEANS)
    return {kind: sum((work for of, work in found if of == kind), Work()) for kind in kinds}


def _block_work(block: EncoderBlock, voxels: Voxels, number: int, pairs: int, size: int) -> list[tuple[str, Work]]:
    channels = block.identity.in_features
    fine, coarse = len(voxels.finer(number)), len(voxels.scales[number])
    pool, to_coarse = voxels.pools[number], voxels.means[number]
    found = []
    for residual in block.voxel_branch:
        assert isinstance(residual, ResidualBlock) and residual.shortcut is not None
        found += [
            (_CONVOLUTIONS, convolution_work(fine, pairs, residual.conv1, size)),
            (_LINEAR, matrix_work(fine, channels, channels, size)),
            (_CONVOLUTIONS, convolution_work(fine, pairs, residual.conv2, size, residual=True)),
        ]
    found.append((_MEANS, average_work(pool.mean, channels, size)))
    groups = len(pool.mean)
    for layer in (*block.pooled_mlp, block.identity, block.output):
        if isinstance(layer, torch.nn.Linear):
            rows = fine if layer is block.identity else coarse if layer is block.output else groups
            found.append((_LINEAR, matrix_work(rows, layer.in_features, layer.out_features, size)))
    found += [(_LINEAR, matrix_work(rows, channels, channels, size)) for rows in (fine, groups)]  # merge
    found.append((_MEANS, average_work(pool.back, channels, size)))
    last = number == len(voxels.scales) - 1  # after the last block nobody needs the mean of the voxel branch
    found += [(_MEANS, average_work(to_coarse, channels, size))] * (1 if last else 2)
    return found


@dataclass(frozen=True)
class Rates:
    """The speed of a machine.

    Attributes:
        flops: operations per second in a matrix product.
        bytes: bytes per second in a copy, read and written.
        matrix: the shape of that product (rows, inner, columns).
    """

    flops: float
    bytes: float
    matrix: tuple[int, int, int]

    def bounds(self, work: Work) -> tuple[float, float]:
        """Returns the seconds that the arithmetic alone, and that memory alone, would take."""
        return work.flops / self.flops, work.bytes / self.bytes


def matrix_rate(
    device: torch.device,
    dtype: torch.dtype,
    shape: tuple[int, int, int],
    repeat: int = 10,
    product: Callable[[torch.Tensor, torch.Tensor], object] | None = None,
) -> float:
    """Measures the operations per second of (rows, inner) times (inner, columns), the fastest of several tries.

    Args:
        device, dtype, shape: of the matrices.
        repeat: how many products are timed together.
        product: multiplies the first with the transpose of (columns, inner); None: `torch.mm`.
    """
    rows, inner, columns = shape
    left, right = (torch.ones(size, device=device, dtype=dtype) for size in ((rows, inner), (inner, columns)))
    out = torch.empty(rows, columns, device=device, dtype=dtype)
    weight = right.T.contiguous()
    call = (lambda: torch.mm(left, right, out=out)) if product is None else (lambda: product(left, weight))
    took = _fastest(call, device, repeat)
    return 2 * rows * inner * columns / took


def copy_rate(device: torch.device, size: int = 2**28, repeat: int = 3) -> float:
    """Measures the bytes per second of a copy of `size` bytes, read and written, the fastest of several tries."""
    source = torch.ones(size // 4, device=device)
    target = torch.ones_like(source)
    return 2 * size / _fastest(lambda: target.copy_(source), device, repeat)


def _fastest(call: Callable[[], object], device: torch.device, repeat: int, tries: int = 7) -> float:
    """Times a call, in seconds: the mean of `repeat` calls in a row, in the fastest of `tries` rows of them."""

    def row() -> None:
        for _ in range(repeat):
            call()

    return min([seconds(row, device) for _ in range(tries)][1:]) / repeat  # the first warms up


def roofline_lines(name: str, parts: dict[str, Work], rates: Rates, measured: Sequence[tuple[str, float]]) -> list[str]:
    """Describes the bounds of a network.

    Args:
        name: such as "3D network, fp32".
        parts: its work.
        rates: the speed of the machine in that precision.
        measured: (name, seconds) of each measurement.
    """
    work = sum(parts.values(), Work())
    arithmetic, memory = rates.bounds(work)
    shares = ", ".join(f"{kind} {part.flops / 1e9:.3g}" for kind, part in parts.items())
    return [
        f"{name}: {work.flops / 1e9:.3g} GFLOP ({shares}) and at least {work.bytes / 1e6:,.0f} MB.",
        f"Arithmetic bound: {milliseconds(arithmetic)} ms at {rates.flops / 1e9:,.0f} GFLOP/s "
        f"(measured: {rates.matrix[0]} x {rates.matrix[1]} times {rates.matrix[1]} x {rates.matrix[2]}). "
        f"Memory bound: {milliseconds(memory)} ms at {rates.bytes / 1e9:,.1f} GB/s (measured: a large copy).",
        *(
            f"Achieved: {100 * max(arithmetic, memory) / seconds:.0f} % of the greater bound ({what}: "
            f"{milliseconds(seconds)} ms)."
            for what, seconds in measured
        ),
    ]
