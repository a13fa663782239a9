"""The native geometry with numbers that are drawn: ranks, kernel maps and sums of rows.

`TWODPASS_FUZZ=2000 python -m pytest tests/network/native/test_fuzzed_geometry.py` draws more and others.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from network.native.library import library
from network.native.ranking import rank
from network.ops.sums import RowSum
from network.sparse import native_backend, torch_backend
from network.sparse.coordinates import LIMIT, halve, pack
from tests.support.fuzz import fuzzed
from tests.support.native import machine

FOUND = library()
pytestmark = pytest.mark.skipif(FOUND is None, reason="native code is switched off or cannot be compiled here")

seeds, threads = st.integers(0, 2**31), st.integers(1, 3)
levels = st.sampled_from(() if FOUND is None else FOUND.levels)
types = st.sampled_from([torch.float32, torch.bfloat16])
layouts = st.sampled_from(["contiguous", "every second", "expanded"])


def laid_out(values: Tensor, layout: str) -> Tensor:
    """Returns the same values in another layout of memory; expanded: the first of them for all."""
    if layout == "every second":
        return torch.stack([values, values], -1)[..., 1]
    return values[:1].expand_as(values) if layout == "expanded" and len(values) else values


@st.composite
def numbers(draw: st.DrawFn) -> Tensor:
    """Draws a list of int64 numbers of which some bits vary."""
    count = draw(st.integers(0, 5) | st.integers(0, 3000))
    mask = draw(st.integers(-(2**63), 2**63 - 1) | st.sampled_from([-1, 0, 1, 1 << 62, -(1 << 63), 0xFFFF << 11]))
    base = draw(st.sampled_from([0, -1, 2**63 - 1, -(2**63)]) | st.integers(-(2**63), 2**63 - 1))
    bits = np.random.default_rng(draw(seeds)).integers(-(2**63), 2**63 - 1, count, endpoint=True)
    return laid_out(torch.from_numpy((bits & np.int64(mask)) ^ np.int64(base)), draw(layouts))


@fuzzed(60)
@given(st.lists(numbers(), max_size=5), threads)
def test_ranks(lists: list[Tensor], threads: int) -> None:
    with machine(threads=threads):
        found = rank(lists)
    assert found is not None and len(found) == len(lists)
    for ranks, those in zip(found, lists, strict=True):
        values, inverse, counts = np.unique(those.numpy(), return_inverse=True, return_counts=True)
        assert np.array_equal(ranks.values.numpy(), values)
        assert np.array_equal(ranks.inverse.numpy(), inverse.reshape(-1))
        assert np.array_equal(ranks.ends.numpy(), [0, *np.cumsum(counts)])
        assert np.array_equal(ranks.order.numpy(), np.argsort(those.numpy(), kind="stable"))


@st.composite
def voxels(draw: st.DrawFn) -> Tensor:
    """Draws sorted distinct keys around a few places, some of which lie at the ends of an axis."""
    generator = torch.Generator().manual_seed(draw(seeds))
    count, edge = draw(st.integers(0, 4) | st.integers(0, 800)), draw(st.integers(1, 20))
    places = draw(st.lists(st.tuples(*[st.sampled_from([-LIMIT, -1, 0, LIMIT])] * 3), min_size=1, max_size=3))
    place = torch.tensor(places)[torch.randint(len(places), (count,), generator=generator)]
    z, y, x = (place + torch.randint(-edge, edge + 1, (count, 3), generator=generator)).T
    batch = torch.randint(3, (count,), generator=generator) * draw(st.sampled_from([0, 1, 16000]))
    return torch.unique(pack(batch, z, y, x))


@fuzzed(60)
@given(voxels(), threads, st.sampled_from([1, 2, 3]))
def test_kernel_maps(keys: Tensor, threads: int, kernel_size: int) -> None:
    coarse, parent = torch.unique(halve(keys), return_inverse=True)
    with machine(threads=threads):
        found = [
            native_backend.submanifold_map(laid_out(keys, "every second"), kernel_size),
            native_backend.halving_map(laid_out(keys, "every second"), laid_out(parent, "every second"), len(coarse)),
        ]
    expected = [
        torch_backend.submanifold_map(keys, kernel_size),
        torch_backend.halving_map(keys, parent, len(coarse)),
    ]
    for ours, plain in zip(found, expected, strict=True):
        assert (ours.num_inputs, ours.num_outputs) == (plain.num_inputs, plain.num_outputs)
        assert (ours.identity, ours.mirrored) == (plain.identity, plain.mirrored)
        assert ours.ends.tolist() == [0, *np.cumsum([len(rows) for rows in plain.inputs])]
        assert torch.equal(ours.inputs.long(), torch.cat(plain.inputs))
        assert torch.equal(ours.outputs.long(), torch.cat(plain.outputs))


@st.composite
def row_sums(draw: st.DrawFn) -> RowSum:
    """Draws a map from R to T rows, of any kind that `RowSum` knows."""
    generator = torch.Generator().manual_seed(draw(seeds))
    sources, entries = draw(st.integers(1, 300)), draw(st.integers(0, 400))
    source = laid_out(torch.randint(sources, (entries,), generator=generator), draw(layouts))
    kind = draw(st.sampled_from(["picks", "shares", "sums", "weighted", "means"]))
    if kind in ("picks", "shares"):
        shares = torch.randn(sources, generator=generator) if kind == "shares" else None
        return RowSum(source, None, None, sources, shares=shares)
    targets = draw(st.integers(1, 200))
    inner = torch.randint(entries + 1, (targets - 1,), generator=generator).sort().values
    ends = torch.cat([torch.zeros(1).long(), inner, torch.tensor([entries])])
    weight = torch.randn(entries, generator=generator) if kind == "weighted" else None
    return RowSum(source, ends, weight, sources, mean=kind == "means")


def matrix_of(sums: RowSum) -> Tensor:
    """Returns the map as a (T, R) matrix in fp64, from what its attributes mean."""
    counts = torch.ones(len(sums)).long() if sums.ends is None else sums.ends.diff()
    target = torch.arange(len(sums)).repeat_interleave(counts)
    weight = torch.ones(len(sums.source), dtype=torch.float64)
    if sums.mean:
        weight /= counts[target]
    for factor in (sums.weight, None if sums.shares is None else sums.shares[sums.source]):
        weight = weight if factor is None else weight * factor.double()
    matrix = torch.zeros(len(sums), sums.num_sources, dtype=torch.float64)
    return matrix.index_put((target, sums.source), weight, accumulate=True)


@fuzzed(60)
@given(row_sums(), st.integers(1, 130), types, layouts, threads, levels, seeds)
def test_sums_of_rows(sums, columns, dtype, layout, threads, level, seed) -> None:
    generator = torch.Generator().manual_seed(seed)
    features = laid_out(torch.randn(sums.num_sources, columns, generator=generator).to(dtype), layout)
    upstream = laid_out(torch.randn(len(sums), columns, generator=generator).to(dtype), layout)
    leaf, matrix = features.detach().requires_grad_(), matrix_of(sums)
    with machine(level, threads):
        out = sums(leaf)
        (gradient,) = torch.autograd.grad(out, leaf, upstream)
    rounding = 3e-5 if dtype == torch.float32 else 2**-8
    for found, linear, rows in ((out, matrix, features), (gradient, matrix.T, upstream)):
        expected, magnitude = linear @ rows.double(), linear.abs() @ rows.double().abs()
        assert found.dtype == dtype and found.shape == expected.shape
        assert ((found.double() - expected).abs() <= rounding * magnitude).all()
