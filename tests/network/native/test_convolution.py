"""Convolutions in C++, compared with fp64 products of gathered rows and torch's dense convolution, for each level.

The fuzzed tests compare whole layers with the torch backend; these hold the parts of a call, and the instructions that
a CPU without AMX can only emulate.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from network.native.convolution import BLOCK_ROWS, Addend, Epilogue, Side, convolve
from network.native.library import library
from network.sparse.coordinates import pack, unpack
from network.sparse.native_backend import BACKEND, NativeMap, submanifold_map
from tests.support.native import machine
from tests.support.networks import relative_error
from tests.support.sparse import KINDS, make_map

NATIVE = library()
LEVELS = () if NATIVE is None else NATIVE.levels
pytestmark = pytest.mark.skipif(not LEVELS, reason="no native code on this machine")
EMULATED = "amx, emulated"
TOLERANCE = {torch.float32: 2e-6, torch.bfloat16: 4e-3}  # bf16 results are rounded once: by 2^-9 of a number


@contextmanager
def computing(level: str, threads: int = 1) -> Iterator[None]:
    """Computes with the instructions of a level, or with AMX's as emulated in C++."""
    assert NATIVE is not None
    emulate = NATIVE.function("native_emulate_amx", ctypes.c_int64)
    with machine(None if level == EMULATED else level, threads):
        emulate(level == EMULATED)
        try:
            yield
        finally:
            emulate(False)


def keys_of(count: int) -> Tensor:
    """Draws the keys of distinct voxels, crowded enough to have neighbours."""
    cells = torch.randperm(4 * count + 8, generator=torch.Generator().manual_seed(count))[:count]
    return pack(torch.zeros_like(cells), cells % 5, cells // 5 % 16, cells // 80).sort().values


def numbers(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape))).to(dtype)


def native_map(kind: str, keys: Tensor) -> tuple[NativeMap, Tensor, Tensor]:
    kernel_map, keys_in, keys_out = make_map(BACKEND, kind, keys)
    assert isinstance(kernel_map, NativeMap)
    return kernel_map, keys_in, keys_out


def slow(features: Tensor, weight: Tensor, pairs: NativeMap) -> Tensor:
    """Adds up the products offset by offset in fp64."""
    out = torch.zeros(pairs.num_outputs, weight.shape[2], dtype=torch.float64)
    for k, (begin, end) in enumerate(zip(pairs.ends[:-1].tolist(), pairs.ends[1:].tolist(), strict=True)):
        rows = pairs.inputs[begin:end].long(), pairs.outputs[begin:end].long()
        rows = (torch.arange(len(features)),) * 2 if k == pairs.identity else rows
        out.index_add_(0, rows[1], features.double()[rows[0]] @ weight.double()[k])
    return out


def assert_close(found: Tensor, wanted: Tensor, dtype: torch.dtype) -> None:
    assert found.dtype == dtype and found.shape == wanted.shape
    assert relative_error(found, wanted) < TOLERANCE[dtype]


# Tails of vectors, of panels of vectors, of tiles of rows, of blocks; odd numbers of input channels.
CHANNELS = [(1, 1), (4, 32), (5, 20), (33, 64), (64, 96), (70, 130)]


@pytest.mark.parametrize("count", [0, 1, 3, 50, BLOCK_ROWS + 7])
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("level", [*LEVELS, EMULATED])
def test_all_sizes(level, dtype, count) -> None:
    for kind in KINDS:
        pairs, keys_in, _ = native_map(kind, keys_of(count))
        for c_in, c_out in CHANNELS:
            features = numbers(len(keys_in), c_in, dtype=dtype)
            weight = numbers(len(pairs.ends) - 1, c_in, c_out, dtype=dtype)
            with computing(level):
                found, _ = convolve(features, weight, pairs.pairs)
            assert_close(found, slow(features, weight, pairs), dtype)


@pytest.mark.parametrize("level", [*LEVELS, EMULATED])
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_all_that_follows_the_sums(level, dtype) -> None:
    pairs, keys, _ = native_map("submanifold", keys_of(BLOCK_ROWS + 7))
    rows, c_out = len(keys), 37
    features, weight = numbers(rows, 6, dtype=dtype), numbers(27, 6, c_out, dtype=dtype)
    bias, same, few = numbers(c_out), numbers(rows, c_out, dtype=dtype), numbers(9, c_out, dtype=dtype)
    picks, other, matrix = (
        torch.arange(rows) * 5 % 9,
        numbers(rows, 11, dtype=dtype),
        numbers(1, 11, c_out, dtype=dtype),
    )
    sums = slow(features, weight, pairs) + bias + same + few[picks].double() + other.double() @ matrix[0].double()
    for slope in (1.0, 0.1, 0.0):
        wanted = F.leaky_relu(sums, slope)
        epilogue = Epilogue(bias, [Addend(same), Addend(few, picks)], slope, Addend(few, picks))
        with computing(level):
            found, more = convolve(features, weight, pairs.pairs, epilogue, Side(other, matrix))
        assert more is not None
        assert_close(found, wanted, dtype)
        assert_close(more, wanted + few[picks], dtype)


def test_equals_dense_convolution() -> None:
    keys = keys_of(200)
    _, z, y, x = unpack(keys)
    features, weight = numbers(len(keys), 20), numbers(27, 20, 33)
    grid = torch.zeros(1, 20, 8, 20, 20)
    grid[0, :, z + 1, y + 1, x + 1] = features.T
    dense = F.conv3d(grid, weight.view(3, 3, 3, 20, 33).permute(4, 3, 0, 1, 2), padding=1)[0, :, z + 1, y + 1, x + 1].T
    for level in LEVELS:
        with computing(level):
            found, _ = convolve(features, weight, submanifold_map(keys, 3).pairs)
        assert relative_error(found, dense) < 2e-6


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_a_result_depends_neither_on_threads_nor_on_the_other_rows(dtype) -> None:
    pairs, keys, _ = native_map("submanifold", keys_of(3 * BLOCK_ROWS + 100))
    features, weight = numbers(len(keys), 40, dtype=dtype), numbers(27, 40, 64, dtype=dtype)
    results = []
    for threads in (1, 2, 3):
        with machine(threads=threads):
            results += [convolve(features, weight, pairs.pairs)[0] for _ in range(2)]
    assert all(torch.equal(result, results[0]) for result in results)


def test_infinities_and_nan() -> None:
    """A ReLU of minus infinity is 0, and NaN stays NaN, as in PyTorch; rounded to bf16, too."""
    special = torch.tensor([float("-inf"), float("inf"), float("nan"), -2.0, -0.0, 3.0, 1e38, -1e38]).repeat(2)[:, None]
    pairs = submanifold_map(torch.arange(0, 32, 2), 1).pairs
    for dtype in TOLERANCE:
        for slope in (1.0, 0.1, 0.0):
            found, _ = convolve(special.to(dtype), torch.ones(1, 1, 1), pairs, Epilogue(slope=slope))
            exact = special.to(dtype).float()
            wanted = F.leaky_relu(exact, slope) if slope else F.relu(exact)
            assert torch.equal(found.nan_to_num(7), wanted.to(dtype).nan_to_num(7))


def test_tensors_that_are_not_contiguous_and_weights_of_another_type() -> None:
    pairs, keys, _ = native_map("submanifold", keys_of(60))
    features, weight = numbers(5, len(keys)).T, numbers(9, 5, 27).permute(2, 1, 0)
    found, _ = convolve(features, weight, pairs.pairs, Epilogue(residuals=[Addend(numbers(9, len(keys)).T)]))
    assert_close(found, slow(features, weight, pairs) + numbers(9, len(keys)).T, torch.float32)
    for other in (torch.bfloat16, torch.float64):
        assert_close(
            convolve(features, weight.to(other), pairs.pairs)[0], slow(features, weight.to(other), pairs), torch.float32
        )


def test_what_does_not_belong_together_is_refused() -> None:
    pairs = submanifold_map(keys_of(20), 3).pairs
    features, weight = numbers(20, 5), numbers(27, 5, 8)
    for wrong in (
        lambda: convolve(features[:19], weight, pairs),
        lambda: convolve(features[:, :4], weight, pairs),
        lambda: convolve(features, weight[:26], pairs),
        lambda: convolve(features, weight, pairs, Epilogue(bias=numbers(7))),
        lambda: convolve(features, weight, pairs, Epilogue(residuals=[Addend(numbers(19, 8))])),
        lambda: convolve(features, weight, pairs, Epilogue(addend=Addend(numbers(20, 7)))),
        lambda: convolve(features, weight, pairs, side=Side(numbers(20, 3), numbers(1, 4, 8))),
    ):
        with pytest.raises(ValueError):
            wrong()
