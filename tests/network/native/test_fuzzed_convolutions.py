"""The native convolution with shapes, layouts, types and instructions that are drawn, against the torch one in fp64.

`TWODPASS_FUZZ=2000 python -m pytest tests/network/native/test_fuzzed_convolutions.py` draws more and others.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from network.native.library import library
from network.sparse import native_backend, torch_backend
from network.sparse.coordinates import pack
from tests.support.fuzz import fuzzed
from tests.support.native import machine
from tests.support.sparse import KINDS, make_map

FOUND = library()
pytestmark = pytest.mark.skipif(FOUND is None, reason="native code is switched off or cannot be compiled here")

LAYOUTS = ("contiguous", "transposed", "every second", "a part", "expanded")
ROUNDING = {torch.float32: 2e-5, torch.bfloat16: 3 * 2**-8}
"""Error of a result, relative to the sum of the magnitudes of its terms: of the order of the sums, and of one rounding
of each of a few factors and of the result."""


@dataclass(frozen=True)
class Draw:
    """A convolution; the numbers in it follow from the seed."""

    seed: int
    kind: str
    voxels: int
    scans: int
    channels: tuple[int, int]
    dtype: torch.dtype
    autocast: bool
    layouts: tuple[str, str, str]
    with_bias: bool
    with_residual: bool
    slope: float
    threads: int
    level: str


# Mostly around the edges of registers and vectors.
channels = st.integers(1, 130) | st.sampled_from([1, 4, 8, 15, 16, 17, 31, 32, 33, 48, 63, 64, 65, 96, 127, 128, 129])
draws = st.builds(
    Draw,
    seed=st.integers(0, 2**31),
    kind=st.sampled_from([*KINDS]),
    voxels=st.integers(0, 3) | st.integers(0, 150) | st.sampled_from([511, 512, 513, 1030]),
    scans=st.integers(1, 3),
    channels=st.tuples(channels, channels),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
    autocast=st.booleans(),
    layouts=st.tuples(*[st.sampled_from(LAYOUTS)] * 3),
    with_bias=st.booleans(),
    with_residual=st.booleans(),
    slope=st.sampled_from([1.0, 0.1, 0.0, 2.0]),
    threads=st.integers(1, 3),
    level=st.sampled_from(() if FOUND is None else FOUND.levels),
)


def keys_of(draw: Draw, generator: torch.Generator) -> Tensor:
    """Draws sorted distinct voxels, close enough for neighbours."""
    edge = max(2, round((draw.voxels / draw.scans) ** (1 / 3) * 1.3))
    batch = torch.randint(draw.scans, (draw.voxels,), generator=generator)
    z, y, x = torch.randint(-edge // 2, edge // 2 + 1, (3, draw.voxels), generator=generator)
    return torch.unique(pack(batch, z, y, x))


def numbers(draw: Draw, layout: str, generator: torch.Generator, *shape: int) -> Tensor:
    """Draws numbers that the type can represent, in a layout of memory; with autocast they are fp32."""
    dtype = torch.float32 if draw.autocast else draw.dtype
    values = torch.randn(shape, generator=generator).to(draw.dtype).to(dtype)
    if layout == "transposed":
        return values.transpose(-1, -2).contiguous().transpose(-1, -2)
    if layout == "every second":
        return torch.stack([values, values + 1], -1)[..., 0]
    if layout == "a part":
        return torch.nn.functional.pad(values, (3, 5, 1, 2), value=float("nan"))[..., 1:-2, 3:-5]
    if layout == "expanded":
        return values[..., :1, :].expand(shape) if shape[-2] else values
    return values


def masked(upstream: Tensor, out: Tensor, slope: float) -> Tensor:
    """Passes a gradient back through the activation, by the signs of what was found: near 0 there are two answers."""
    return upstream * torch.where(out > 0, 1.0, slope)


Found = dict[str, Tensor]


def in_fp64(kernel_map: Any, tensors: dict[str, Tensor], upstream: Tensor) -> Found:
    """Convolves in fp64; returns the sums and their gradients."""
    leaves = {name: tensor.detach().double().requires_grad_() for name, tensor in tensors.items()}
    sums = kernel_map.convolve(leaves["features"], leaves["weight"], leaves.get("bias"), leaves.get("residual"))
    gradients = torch.autograd.grad(sums, list(leaves.values()), upstream, materialize_grads=True)
    return {"sums": sums.detach(), **dict(zip(leaves, gradients, strict=True))}


def assert_close(found: Tensor, expected: Tensor, magnitude: Tensor, rounding: float, what: str) -> None:
    assert found.shape == expected.shape
    error = (found.detach().double() - expected).abs()
    assert (error <= rounding * magnitude + 1e-30).all(), (what, error.max(), magnitude.max())


@fuzzed(80)
@given(draws)
def test_any_convolution(draw: Draw) -> None:
    generator = torch.Generator().manual_seed(draw.seed)
    keys = keys_of(draw, generator)
    kernel_map, keys_in, keys_out = make_map(native_backend.BACKEND, draw.kind, keys)
    reference, *_ = make_map(torch_backend.BACKEND, draw.kind, keys)
    (c_in, c_out), volume = draw.channels, KINDS[draw.kind] ** 3
    shapes = {"features": (len(keys_in), c_in), "weight": (volume, c_in, c_out), "residual": (len(keys_out), c_out)}
    tensors = {
        name: numbers(draw, layout, generator, *shape)
        for layout, (name, shape) in zip(draw.layouts, shapes.items(), strict=True)
    }
    if draw.with_bias:
        tensors["bias"] = numbers(draw, draw.layouts[2], generator, 1, c_out)[0]
    if not draw.with_residual:
        del tensors["residual"]
    leaves = {name: tensor.detach().requires_grad_() for name, tensor in tensors.items()}
    autocast = torch.autocast("cpu", draw.dtype) if draw.autocast and draw.dtype != torch.float32 else nullcontext()

    def convolve(found: dict[str, Tensor]) -> Tensor:
        with autocast:
            arguments = found["features"], found["weight"], found.get("bias"), found.get("residual"), draw.slope
            return kernel_map.convolve(*arguments)

    with machine(draw.level, draw.threads):
        with torch.no_grad():
            evaluated = convolve(tensors)
            again = convolve(tensors)
        out = convolve(leaves)
        upstream = numbers(draw, draw.layouts[0], generator, *out.shape).to(out.dtype)
        gradients = torch.autograd.grad(out, list(leaves.values()), upstream)
    assert evaluated.dtype == out.dtype == draw.dtype and torch.equal(evaluated, again)

    rounding = ROUNDING[draw.dtype]
    back = masked(upstream, out, draw.slope).double()
    expected = in_fp64(reference, tensors, back)
    magnitudes = in_fp64(reference, {name: t.abs() for name, t in tensors.items()}, back.abs())
    sums, steepest = expected["sums"], max(1.0, abs(draw.slope))
    wanted = torch.where(sums > 0, sums, draw.slope * sums)
    for name, found in (("in evaluation", evaluated), ("in training", out)):
        assert_close(found, wanted, steepest * magnitudes["sums"], rounding, name)
    for name, found in zip(leaves, gradients, strict=True):
        assert found.dtype == leaves[name].dtype
        assert_close(found, expected[name], magnitudes[name], rounding, f"gradient of the {name}")
