"""The Triton backend in Triton's interpreter, compared with torch's dense convolution and the torch backend.

The kernels are also compiled for GPUs; their speed is not tested.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from collections import Counter
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from network.sparse import torch_backend
from network.sparse.coordinates import halve, pack, unpack
from tests.network.sparse.test_convolution import (
    SEARCHED,
    VOXEL_SETS,
    dense_convolution,
    keys_of,
    pairs_by_dictionary,
    random_keys,
)
from tests.support.networks import relative_error
from tests.support.sparse import KINDS, make_map
from tests.support.triton import interpreted_library, interpreted_modules, interpreter_asked_for
from utils.errors import UserError
from utils.fp32 import set_fp32_arithmetic

MODULES = interpreted_modules()
triton = MODULES["triton_backend"]
kernels, geometry = MODULES["triton_kernels"], MODULES["triton_geometry"]

CPU = torch.device("cpu")
REFUSED = {  # operations that wait for the device, or tell the host what is on it
    *("nonzero", "_local_scalar_dense", "item", "masked_select", "_unique2", "unique_dim", "unique_consecutive"),
    *("bincount", "equal", "repeat_interleave", "is_nonzero", "tolist", "histc", "argwhere"),
}


@pytest.fixture(autouse=True)
def interpreter():
    with interpreted_library():
        yield


def inputs_for(kernel_map, kind: str, dtype=torch.float32, c_in: int = 5, c_out: int = 7) -> list[Tensor]:
    """Draws features, weight and bias that require gradients."""
    generator = torch.Generator().manual_seed(3)
    shapes = [(kernel_map.num_inputs, c_in), (KINDS[kind] ** 3, c_in, c_out), (c_out,)]
    return [torch.randn(shape, generator=generator).to(dtype).requires_grad_() for shape in shapes]


@pytest.mark.parametrize("voxels", VOXEL_SETS)
@pytest.mark.parametrize("kind", KINDS)
def test_equals_dense_convolution_forward_and_backward(kind, voxels) -> None:
    kernel_map, keys_in, keys_out = make_map(triton, kind, VOXEL_SETS[voxels])
    tensors = inputs_for(kernel_map, kind)
    sparse = kernel_map.convolve(*tensors)
    dense = dense_convolution(kind, KINDS[kind], (keys_in, keys_out), *tensors)
    upstream = torch.randn_like(dense)
    assert (kernel_map.num_inputs, kernel_map.num_outputs) == (len(keys_in), len(keys_out))
    assert relative_error(sparse, dense) < 1e-5
    gradients = torch.autograd.grad(sparse, tensors, upstream), torch.autograd.grad(dense, tensors, upstream)
    for name, found, expected in zip(("features", "weight", "bias"), *gradients, strict=True):
        assert relative_error(found, expected) < 1e-5, name


@pytest.mark.parametrize(("c_in", "c_out"), [(4, 33), (1, 1), (17, 40)])
def test_channels_of_any_number(c_in, c_out) -> None:
    """Blocks of the interpreter have 16 or 32 channels: the layers need one or several, completely filled or not."""
    keys = random_keys(4, count=20)
    found, expected = (make_map(backend, "submanifold", keys)[0] for backend in (triton, torch_backend))
    tensors = inputs_for(expected, "submanifold", c_in=c_in, c_out=c_out)
    outputs = [kernel_map.convolve(*tensors) for kernel_map in (found, expected)]
    gradients = [torch.autograd.grad(out, tensors, torch.ones_like(out).cumsum(1)) for out in outputs]
    assert relative_error(*outputs) < 1e-5
    assert all(relative_error(f, e) < 1e-5 for f, e in zip(*gradients, strict=True))


def test_weight_gradient_in_many_shares(monkeypatch) -> None:
    """The pairs of the centre go to several programs, those of rare offsets to one, and an empty offset has none."""
    kernel_map = triton.submanifold_map(random_keys(12, count=100), 3)
    features, grad = torch.randn(kernel_map.num_inputs, 5), torch.randn(kernel_map.num_outputs, 7)
    expected = torch.zeros(27, 5, 7)
    begins = [0, *kernel_map.pairs.ends.tolist()[:-1]]
    for offset, (begin, end) in enumerate(zip(begins, kernel_map.pairs.ends.tolist(), strict=True)):
        rows, places = kernel_map.pairs.inputs[begin:end].long(), kernel_map.pairs.outputs[begin:end].long()
        expected[offset] = features[rows].T @ grad[places]
    assert kernel_map.pairs.ends[13] - kernel_map.pairs.ends[12] > 3 * 32
    monkeypatch.setattr(kernels, "_SHARE", 32)
    monkeypatch.setattr(kernels, "_MOST_SHARES", 16)
    found = kernels.weight_gradient(features, grad, kernel_map.pairs, torch.float32)
    assert relative_error(found, expected) < 1e-5


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [("submanifold", torch.float16), *((kind, torch.bfloat16) for kind in KINDS)],
)
def test_narrow_types_within_their_rounding(kind, dtype) -> None:
    kernel_map, *_ = make_map(triton, kind, random_keys(5, count=40))
    narrow = [t.detach().requires_grad_() for t in inputs_for(kernel_map, kind, dtype)]
    wide = [t.detach().float().requires_grad_() for t in narrow]
    exact, rough = kernel_map.convolve(*wide), kernel_map.convolve(*narrow)
    assert rough.dtype == dtype
    # Sums are of float32: only the result is rounded, to half a unit in its last place; the interpreter cuts bfloat16
    # off, to a whole one.
    unit = torch.finfo(dtype).eps / (1 if dtype == torch.bfloat16 else 2)
    assert ((rough.float() - exact).abs() <= 1.01 * unit * exact.abs() + 1e-5).all()
    upstream = torch.randn_like(exact).to(dtype)
    expected = torch.autograd.grad(exact, wide, upstream.float())
    for name, found, wanted in zip("fwb", torch.autograd.grad(rough, narrow, upstream), expected, strict=True):
        assert found.dtype == dtype
        assert relative_error(found, wanted) < torch.finfo(dtype).eps, name


def test_autocast_is_followed() -> None:
    kernel_map, *_ = make_map(triton, "submanifold", random_keys(5, count=40))
    wide = [t.detach().bfloat16().float().requires_grad_() for t in inputs_for(kernel_map, "submanifold")]
    expected = kernel_map.convolve(*(t.detach().bfloat16() for t in wide))
    with torch.autocast("cpu", torch.bfloat16):
        found = kernel_map.convolve(*wide)
        with torch.no_grad():
            assert torch.equal(kernel_map.convolve(*wide), expected)
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, expected)
    upstream = torch.randn_like(found)
    exact = torch.autograd.grad(kernel_map.convolve(*wide), wide, upstream.float())
    features, weight, bias = torch.autograd.grad(found, wide, upstream)
    assert features.dtype == weight.dtype == bias.dtype == torch.float32
    assert relative_error(features, exact[0]) < 2**-7
    assert relative_error(weight, exact[1]) < 1e-5, "the gradient of a float32 weight is not rounded to bfloat16"


def test_bfloat16_sums_are_kept_in_float32() -> None:
    """The products are 256 and 26 times 1: a bfloat16 sum would stay at 256, because its next number is 258."""
    keys = keys_of(*itertools.product((0,), (-1, 0, 1), (-1, 0, 1), (-1, 0, 1)))
    weight = torch.ones(27, 1, 1, dtype=torch.bfloat16)
    weight[13] = 256
    assert triton.submanifold_map(keys, 3).convolve(torch.ones(27, 1, dtype=torch.bfloat16), weight)[13].item() == 282


@pytest.mark.parametrize(
    ("with_bias", "with_residual", "slope"),
    [(True, True, 1.0), (True, True, 0.1), (False, True, 0.0), (True, False, 0.1), (False, False, 0.0)],
)
def test_epilogue_equals_its_steps(with_bias, with_residual, slope) -> None:
    kernel_map, *_ = make_map(triton, "strided", random_keys(6, count=30))
    features, weight, bias = inputs_for(kernel_map, "strided")
    residual = torch.randn(kernel_map.num_outputs, 9)[:, :7].requires_grad_()  # rows further apart than they are long
    arguments = (bias if with_bias else None, residual if with_residual else None, slope)
    expected = kernel_map.convolve(features, weight) + (bias if with_bias else 0) + (residual if with_residual else 0)
    expected = torch.where(expected > 0, expected, expected * slope)
    assert (expected < 0).any() or slope == 0
    with torch.no_grad():
        assert relative_error(kernel_map.convolve(features, weight, *arguments), expected) < 1e-6
    trained = kernel_map.convolve(features, weight, *arguments)
    assert relative_error(trained, expected) < 1e-6
    leaves = [features, weight, *(t for t in arguments[:2] if t is not None)]
    upstream = torch.randn_like(expected)
    gradients = torch.autograd.grad(trained, leaves, upstream), torch.autograd.grad(expected, leaves, upstream)
    assert all(relative_error(f, e) < 1e-5 for f, e in zip(*gradients, strict=True))


def test_residual_alone_can_require_a_gradient() -> None:
    kernel_map, *_ = make_map(triton, "strided", random_keys(6, count=20))
    features, weight, _ = (t.detach() for t in inputs_for(kernel_map, "strided"))
    residual = torch.zeros(kernel_map.num_outputs, 7, requires_grad=True)
    out = kernel_map.convolve(features, weight, None, residual, 0.5)
    (found,) = torch.autograd.grad(out.sum(), [residual])
    assert torch.equal(found, torch.where(out > 0, 1.0, 0.5))


@pytest.mark.parametrize("kind", KINDS)
def test_memory_layout_does_not_matter(kind) -> None:
    kernel_map, *_ = make_map(triton, kind, random_keys(7, count=20))
    tensors = inputs_for(kernel_map, kind)
    features, weight, bias = tensors
    expected = kernel_map.convolve(*tensors)
    upstream = torch.randn_like(expected)
    wide = torch.cat([features, features], dim=1)[:, :5]  # rows further apart than they are long
    for other in (features.T.contiguous().T, wide):
        found = kernel_map.convolve(other, weight.transpose(1, 2).contiguous().transpose(1, 2), bias)
        assert torch.equal(found, expected)
    wanted = torch.autograd.grad(expected, tensors, upstream, retain_graph=True)
    for got, want in zip(torch.autograd.grad(found, tensors, upstream.T.contiguous().T), wanted, strict=True):
        assert torch.allclose(got, want)
    # The gradient of a sum is one number, expanded with strides of 0.
    wanted = torch.autograd.grad(expected, tensors, torch.ones_like(expected), retain_graph=True)
    for got, want in zip(torch.autograd.grad(expected.sum(), tensors), wanted, strict=True):
        assert torch.equal(got, want)


@pytest.mark.parametrize("needed", [0, 1, 2])
def test_gradient_of_one_input_alone(needed) -> None:
    kernel_map = triton.submanifold_map(random_keys(8, count=20), 3)
    tensors = inputs_for(kernel_map, "submanifold")
    out = kernel_map.convolve(*(t if i == needed else t.detach() for i, t in enumerate(tensors)))
    (found,) = torch.autograd.grad(out.sum(), [tensors[needed]])
    assert torch.equal(found, torch.autograd.grad(kernel_map.convolve(*tensors).sum(), [tensors[needed]])[0])


@pytest.mark.parametrize("kind", KINDS)
def test_scans_of_a_batch_do_not_meet(kind) -> None:
    keys = random_keys(2, count=120)
    kernel_map, keys_in, keys_out = make_map(triton, kind, keys)
    features, weight, bias = (t.detach() for t in inputs_for(kernel_map, kind))
    together = kernel_map.convolve(features, weight, bias)
    for scan in (0, 2):
        alone, *_ = make_map(triton, kind, keys[unpack(keys)[0] == scan])
        of_scan = alone.convolve(features[unpack(keys_in)[0] == scan], weight, bias)
        assert torch.allclose(of_scan, together[unpack(keys_out)[0] == scan], atol=1e-5)


def pairs_of_tiles(tiles) -> list[set[tuple[int, int]]]:
    """Lists for each offset the (input row, output row) pairs in the tiles."""
    volume = tiles.live.shape[1]
    found: list[list[tuple[int, int]]] = [[] for _ in range(volume)]
    for place, row in enumerate(tiles.order.tolist()):
        tile, within = divmod(place, geometry.TILE)
        for entry in range(int(tiles.num_live[tile])):
            neighbour = int(tiles.neighbours[tile, entry, within])
            if neighbour >= 0:
                found[int(tiles.live[tile, entry])].append((neighbour, row))
    assert all(len(pairs) == len(set(pairs)) for pairs in found)
    return [set(pairs) for pairs in found]


@pytest.mark.parametrize("voxels", SEARCHED)
@pytest.mark.parametrize("kind", ["submanifold", "strided"])
def test_neighbour_search_against_a_dictionary(voxels, kind) -> None:
    kernel_map, keys, coarse = make_map(triton, kind, SEARCHED[voxels])
    expected = pairs_by_dictionary(keys, coarse, KINDS[kind], 1 if kind == "submanifold" else 2)
    assert pairs_of_tiles(kernel_map.forward) == expected
    backward = pairs_of_tiles(kernel_map.backward)[:: -1 if kernel_map.mirrored else 1]
    assert [{(i, o) for o, i in pairs} for pairs in backward] == expected

    pairs = kernel_map.pairs
    begins = [0, *pairs.ends.tolist()[:-1]]
    for begin, end, wanted in zip(begins, pairs.ends.tolist(), expected, strict=True):
        found = list(zip(pairs.inputs[begin:end].tolist(), pairs.outputs[begin:end].tolist(), strict=True))
        assert len(found) == len(wanted)
        assert set(found) == wanted
    assert pairs.ends[-1] <= len(pairs.inputs)


def test_pairs_of_the_transposed_map() -> None:
    kernel_map, *_ = make_map(triton, "strided", random_keys(9))
    pairs, swapped = kernel_map.pairs, kernel_map.transposed().pairs
    assert torch.equal(pairs.ends, swapped.ends)
    there, back = (Counter(zip(i.tolist(), o.tolist(), strict=True)) for i, o in (
        (pairs.inputs, pairs.outputs), (swapped.outputs, swapped.inputs)
    ))  # fmt: skip
    assert there == back


def test_tiles_are_the_rows_sorted_and_their_live_offsets_the_union() -> None:
    keys = random_keys(10, count=300)
    table = geometry.find_neighbours(keys)
    tiles = geometry.make_tiles(table)
    assert sorted(tiles.order.tolist()) == list(range(len(keys)))
    assert len(tiles.num_live) == -(-len(keys) // geometry.TILE)
    for tile, rows in enumerate(tiles.order.split(geometry.TILE)):
        hits = (table[:, rows] >= 0).sum(1)
        union = hits.nonzero()[:, 0].tolist()
        assert int(tiles.num_live[tile]) == len(union)
        assert tiles.live[tile, : len(union)].tolist() == union
        assert tiles.hits[:, tile].tolist() == hits.tolist()


def test_rows_follow_a_gray_code() -> None:
    """Along the code one bit changes at a time: 0, 1, 11, 10, 110 and so on."""
    table = geometry.find_neighbours(random_keys(10, count=80))
    bits = geometry.significance(27)
    masks = [sum(1 << bits[k] for k in range(27) if table[k, row] >= 0) for row in range(table.shape[1])]
    place = [sum(((mask >> bit).bit_count() & 1) << bit for bit in range(27)) for mask in masks]
    assert all(code ^ (code >> 1) == mask for code, mask in zip(place, masks, strict=True))
    expected = sorted(range(len(place)), key=lambda row: -place[row])
    assert geometry.make_tiles(table).order.tolist() == expected


def test_sorting_saves_products() -> None:
    """On a rough surface, tiles of sorted rows have fewer live offsets than tiles of unsorted rows."""
    y, x = torch.meshgrid(torch.arange(40), torch.arange(40), indexing="ij")
    height = (x * 7 + y * 3) % 11 // 4 + (x + 2 * y) // 4
    keys = torch.unique(pack(torch.zeros_like(x), height, y, x))
    table = geometry.find_neighbours(keys)
    unsorted = sum(int((rows >= 0).any(1).sum()) for rows in table.split(geometry.TILE, dim=1))
    assert geometry.make_tiles(table).num_live.sum() < 0.75 * unsorted


def test_bits_of_offsets_are_distinct_and_rare_ones_high() -> None:
    bits = geometry.significance(27)
    assert sorted(bits) == list(range(27))
    assert bits[13] == 0, "every row has the centre"
    assert min(bits[:9] + bits[18:]) > max(bits[9:18]), "level surfaces have few voxels above each other"
    assert all(bits[corner] > bits[4] for corner in (0, 2, 6, 8))
    assert geometry.significance(8) == tuple(range(8))


class RefuseToWait(TorchDispatchMode):
    """A mode that raises an error at any operation for which the host would wait."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func._schema.name.split("::")[1]
        self.seen.add(name)
        assert name not in REFUSED, name
        masks = [i for arg in args if isinstance(arg, list | tuple) for i in arg if isinstance(i, Tensor)]
        assert not (name.startswith("index") and any(i.dtype in (torch.bool, torch.uint8) for i in masks)), name
        device = (kwargs or {}).get("device")
        assert name != "_to_copy" or device is None, "a copy from device to device"
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_waits_for_the_device(kind, monkeypatch) -> None:
    """Kernels are not watched: on a GPU they are only launched, but the interpreter copies to the host."""
    keys = random_keys(11, count=80)
    coarse, parent = torch.unique(halve(keys), return_inverse=True)
    start = geometry.launch

    def launch(*arguments, **constants) -> None:
        with _disable_current_modes():
            start(*arguments, **constants)

    monkeypatch.setattr(geometry, "launch", launch)
    monkeypatch.setattr(kernels, "launch", launch)
    shape = SimpleNamespace(num_inputs=len(coarse if kind == "transposed" else keys))
    tensors = inputs_for(shape, kind)
    with RefuseToWait() as watch:
        if kind == "submanifold":
            kernel_map = triton.submanifold_map(keys, 3)
        else:
            kernel_map = triton.halving_map(keys, parent, len(coarse))
            kernel_map = kernel_map if kind == "strided" else kernel_map.transposed()
        kernel_map.convolve(*tensors).sum().backward()
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            kernel_map.convolve(*tensors, torch.zeros(kernel_map.num_outputs, 7), 0.1)
    assert "sort" in watch.seen and "cumsum" in watch.seen, "the watch saw nothing"


@pytest.mark.parametrize(
    "wait",
    [
        lambda t: t.nonzero(),
        lambda t: t[t > 0],
        lambda t: t.unique(),
        lambda t: t.sum().item(),
        lambda t: t.repeat_interleave(t),
        lambda t: t.bincount(),
        lambda t: bool(t.any()),
        lambda t: t.to("meta"),
    ],
)
def test_the_watch_sees_what_waits(wait) -> None:
    with pytest.raises(AssertionError), RefuseToWait():
        wait(torch.arange(4))


def test_rows_times_channels_past_32_bits() -> None:
    """The last row begins beyond element 2^31 of its memory; almost none of that memory is used."""
    far = (1 << 31) // 2
    keys = keys_of((0, 0, 0, 0), (0, 0, 0, 1), (0, 0, 0, 2))
    memory = torch.empty(2 * far + 4, dtype=torch.float16)
    features = memory.as_strided((3, 4), (far, 1))
    features.copy_(torch.arange(12).view(3, 4))
    weight = torch.randn(27, 4, 3).half()
    found = triton.submanifold_map(keys, 3).convolve(features, weight)
    assert torch.equal(found, triton.submanifold_map(keys, 3).convolve(features.clone(), weight))


def test_what_is_not_supported_is_refused(monkeypatch) -> None:
    keys = random_keys(0)
    kernel_map = triton.submanifold_map(keys, 3)
    features, weight, _ = inputs_for(kernel_map, "submanifold")
    with pytest.raises(ValueError, match="takes kernel size 3, got 2"):
        triton.submanifold_map(keys, 2)
    with pytest.raises(ValueError, match=r"fp32, fp16 or bf16, got torch\.float64"):
        kernel_map.convolve(features.double(), weight.double())
    for wrong in ((features[1:], weight), (features, weight[:8]), (features[:, 1:], weight)):
        with pytest.raises(ValueError, match="does not fit features"):
            kernel_map.convolve(*wrong)
    with pytest.raises(ValueError, match="strided maps only"):
        kernel_map.transposed()
    with pytest.raises(ValueError, match="up to 79536367 voxels at once, got 80000000"):
        geometry.find_neighbours(torch.empty(80_000_000, dtype=torch.int64, device="meta"))
    monkeypatch.setattr(triton, "INTERPRETED", False)
    for on_a_cpu in (lambda: triton.submanifold_map(keys, 3), lambda: triton.warm_up(CPU, torch.float32, [], False)):
        with pytest.raises(UserError, match=r"^model_params\.sparse_backend: triton runs on CUDA only"):
            on_a_cpu()


def test_availability(monkeypatch) -> None:
    assert not triton.is_available(CPU)
    with interpreter_asked_for():
        assert triton.is_available(CPU)
    cuda = torch.device("cuda", 0)
    for capability, cuda_version, expected in (((7, 5), "12", False), ((8, 0), "12", True), ((9, 0), None, False)):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device, found=capability: found)
        monkeypatch.setattr(torch.version, "cuda", cuda_version)
        assert triton.is_available(cuda) == expected


def test_the_check_runs_the_kernels(monkeypatch) -> None:
    """The check itself is tested in test_backend_check.py."""
    layers = [(8, 3, 5)]
    assert triton.why_not(CPU, torch.float16, layers, training=False) is None
    right = triton.convolve_tiles
    for wrong, found in (
        (lambda *a, **k: right(*a, **k) * 1.1, "wrong results: sums, 8 offsets, 3 -> 5 channels, float16"),
        (lambda *a, **k: 1 / 0, "ZeroDivisionError: division by zero"),
    ):
        monkeypatch.setattr(triton, "convolve_tiles", wrong)
        assert triton.why_not(CPU, torch.float16, layers, training=False) == found
        with pytest.raises(UserError, match=r"triton does not work on cpu .*set model_params.sparse_backend=torch"):
            triton.BACKEND.warm_up(CPU, torch.float16, layers, training=False)


@pytest.mark.parametrize("tf32", [False, True])
def test_fp32_is_computed_as_everywhere_in_the_process(tf32) -> None:
    try:
        set_fp32_arithmetic(tf32)
        assert kernels._precision(torch.zeros(1)) == ("tf32" if tf32 else "ieee")
        assert kernels._precision(torch.zeros(1).bfloat16()) == "ieee"
        # Changed by somebody else, after which asking the older switch would raise.
        torch.backends.cuda.matmul.fp32_precision = "ieee" if tf32 else "tf32"
        assert kernels._precision(torch.zeros(1)) == ("ieee" if tf32 else "tf32")
    finally:
        set_fp32_arithmetic(False)


def test_tuned_before_checked(monkeypatch) -> None:
    """The tuner must not choose on the few voxels of the check, and the check must use the kernels that will run."""
    calls = []
    monkeypatch.setattr(triton, "_tune", lambda keys, *rest: calls.append((len(keys), *rest)))
    monkeypatch.setattr(triton, "first_wrong", lambda backend, keys, *rest: calls.append((len(keys), *rest)))
    layers = ((27, 4, 32), (8, 4, 4))
    assert triton.why_not(CPU, torch.float16, iter(layers * 2), True) is None
    assert calls == [(64, torch.float16, layers, True), (25, torch.float16, layers, True)]


@pytest.mark.parametrize("training", [False, True])
def test_warm_up_runs_every_kernel(training, monkeypatch) -> None:
    """Every kernel is run with all that the tuner's choice depends on, for each layer and its gradients in training."""
    seen = set()
    start = kernels.launch

    def launch(kernel, programs, *arguments, **constants) -> None:
        if hasattr(kernel, "keys"):
            values = {**dict(zip(kernel.arg_names, arguments, strict=False)), **constants}
            seen.add((kernel.base_fn.__name__, *(values[key] for key in ("C_IN", "C_OUT", "VOLUME"))))
            assert {t.dtype for t in arguments[:2]} == {torch.bfloat16}
        start(kernel, programs, *arguments, **constants)

    monkeypatch.setattr(kernels, "launch", launch)
    layers = [(27, 4, 6), (8, 6, 5), (1, 6, 6), (27, 4, 6)]
    with torch.autocast("cpu", torch.float16):
        triton.BACKEND.warm_up(CPU, torch.bfloat16, layers, training)
    expected = {("_convolution_kernel", 4, 6, 27), ("_convolution_kernel", 6, 5, 8)}
    if training:
        expected |= {("_convolution_kernel", 6, 4, 27), ("_convolution_kernel", 5, 6, 8)}
        expected |= {("_weight_gradient_kernel", 4, 6, 27), ("_weight_gradient_kernel", 6, 5, 8)}
    assert seen == expected


def test_tuning_does_not_depend_on_the_voxels() -> None:
    allowed = {"C_IN", "C_OUT", "VOLUME", "MIRRORED", "PRECISION"}
    for kernel in (kernels._convolution_kernel, kernels._weight_gradient_kernel):
        assert {"C_IN", "C_OUT"} <= set(kernel.keys) <= allowed


def test_some_block_suits_any_channels() -> None:
    for c_in, c_out in itertools.product((1, 4, 16, 20, 32, 48, 64, 96, 128, 192, 256, 384, 1000), repeat=2):
        for size in (2, 4):
            fitting = [b for b in kernels._CONVOLUTION_BLOCKS if kernels.convolution_fits(b, size, c_in, c_out)]
            assert 1 <= len(fitting) <= 9
        assert 1 <= len([b for b in kernels._GRADIENT_BLOCKS if kernels.gradient_fits(b, c_in, c_out)]) <= 9
    assert all(kernels._SHARE % block[2] == 0 for block in kernels._GRADIENT_BLOCKS)


def compiled(tmp_path, *arguments: str) -> list[dict]:
    """Provides what `triton_compile` prints, in a process without the interpreter."""
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    run = subprocess.run(
        [sys.executable, "-m", "tests.support.triton_compile", *arguments],
        env={**environment, "TRITON_CACHE_DIR": str(tmp_path), "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    return [json.loads(line) for line in run.stdout.splitlines()]


def test_kernels_compile_for_gpus(tmp_path) -> None:
    """Triton's own assembler compiles them without a GPU."""
    results = compiled(tmp_path)
    assert len({result["kernel"] for result in results}) == 8
    for result in results:
        assert result["spilled"] == 0, result
        assert result["shared_kb"] <= 99, "more than an RTX 3090 has"
        if result["kernel"] in ("_convolution_kernel", "_weight_gradient_kernel"):
            matrix_unit = {"fp32": "registers", "fp16": "mma", "bf16": "wgmma"}[result["dtype"]]
            assert result[matrix_unit] > 0 and result["cp_async"] > 0, result


def test_launches_are_ready_and_tuned_once_per_layer(tmp_path) -> None:
    """A layer is tuned once, with or without bias and residual, and each gradient once; there are two volumes."""
    results = compiled(tmp_path, "--launch")
    assert len({result["kernel"] for result in results}) == 8
    tuned = {result["kernel"]: result["tuned"] for result in results if "tuned" in result}
    # A halving layer and its transpose, and the gradients of either, are of one shape here.
    assert tuned == {"_convolution_kernel": 3, "_weight_gradient_kernel": 2}
