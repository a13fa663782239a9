"""The Triton backend in Triton's interpreter, compared with torch's dense convolution and the torch backend.

The kernels are also compiled for GPUs; their speed is not tested.
"""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from network.sparse import torch_backend
from network.sparse.coordinates import halve, unpack
from tests.network.sparse.test_convolution import (
    VOXEL_SETS,
    dense_convolution,
    keys_of,
    random_keys,
)
from tests.support.networks import relative_error
from tests.support.sparse import KINDS, make_map
from tests.support.triton import interpreted_library, interpreted_modules, interpreter_asked_for
from utils.errors import UserError
from utils.fp32 import set_fp32_arithmetic

MODULES = interpreted_modules()
triton = MODULES["triton_backend"]
kernels, geometry, tuning = (MODULES[f"triton_{name}"] for name in ("kernels", "geometry", "tuning"))

CPU = torch.device("cpu")
REFUSED = {  # operations that wait for the device, or tell the host what is on it
    *("nonzero", "_local_scalar_dense", "item", "masked_select", "_unique2", "unique_dim", "unique_consecutive"),
    *("bincount", "equal", "repeat_interleave", "is_nonzero", "tolist", "histc", "argwhere"),
}


@pytest.fixture(autouse=True)
def interpreter():
    with interpreted_library():
        yield


WAYS = {"whole": (1, False), "two splits": (2, False), "four splits": (4, False), "levels": (1, True)}
"""Ways of a convolution -> number of programs that share a tile's offsets, and whether z levels are apart."""


def go(way: str, monkeypatch) -> None:
    """Makes convolutions go one way; small ones are split otherwise."""
    splits, by_level = WAYS[way]
    monkeypatch.setattr(kernels, "num_splits", lambda num_rows, c_out: splits)
    monkeypatch.setattr(kernels, "by_level_pays", lambda *layer: by_level)


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


@pytest.mark.parametrize("way", WAYS)
def test_every_way_equals_dense_convolution(way, monkeypatch) -> None:
    """The last tile is not filled, and rows have neighbours at one, two or three levels."""
    go(way, monkeypatch)
    kernel_map, keys, _ = make_map(triton, "submanifold", random_keys(4, count=90))
    assert kernel_map.num_outputs % geometry.TILE and kernel_map.num_outputs > geometry.TILE
    tensors = inputs_for(kernel_map, "submanifold", c_in=20, c_out=20)
    residual = torch.randn(kernel_map.num_outputs, 20)
    sums = dense_convolution("submanifold", 3, (keys, keys), *tensors)
    expected = torch.nn.functional.leaky_relu(sums + residual, 0.1)
    with torch.no_grad():
        assert relative_error(kernel_map.convolve(*tensors, residual, 0.1), expected) < 1e-5
        narrow = [t.bfloat16() for t in tensors]
        exact = kernel_map.convolve(*(t.float() for t in narrow), residual.bfloat16().float(), 0.1)
        found = kernel_map.convolve(*narrow, residual.bfloat16(), 0.1)
        # Rounded once at the end, though the interpreter cuts off: sums in between are of float32.
        assert ((found.float() - exact).abs() <= 1.01 * 2**-7 * exact.abs() + 1e-5).all()
    own = kernel_map.convolve(*tensors)
    assert relative_error(own, sums) < 1e-5
    found, wanted = (torch.autograd.grad(out, tensors, torch.ones_like(sums).cumsum(1)) for out in (own, sums))
    assert all(relative_error(f, w) < 1e-5 for f, w in zip(found, wanted, strict=True))
    if way == "levels":
        assert len(set(kernel_map.forward.tiles(True).groups_of.tolist())) == 4


def test_small_maps_are_split_and_wide_or_exact_layers_go_by_level() -> None:
    """An H100 has 132 multiprocessors; scale 16 of a scan has 30 tiles."""
    found = {tiles: kernels.num_splits(tiles * geometry.TILE, 64) for tiles in (1, 30, 66, 67, 1000)}
    assert found == {1: 4, 30: 4, 66: 4, 67: 1, 1000: 1}
    assert kernels.num_splits(30 * geometry.TILE, 128) == 4 and kernels.num_splits(30 * geometry.TILE, 256) == 1
    scan, batch = 58_000, 8 * 58_000
    assert kernels.by_level_pays("ieee", scan, 128, 256) and kernels.by_level_pays("tf32x3", batch, 64, 64)
    assert not kernels.by_level_pays("ieee", batch, 64, 256) and not kernels.by_level_pays("tf32x3", batch, 4, 64)
    assert not kernels.by_level_pays("tf32x3", scan, 64, 64) and not kernels.by_level_pays("ieee", 5_000, 256, 256)


@pytest.mark.parametrize("kind", KINDS)
def test_weight_gradient_in_many_shares(kind, monkeypatch) -> None:
    """The pairs of the centre go to several programs, those of rare offsets to one, and an empty offset has none."""
    kernel_map, keys_in, keys_out = make_map(triton, kind, random_keys(12, count=100))
    features, grad = torch.randn(len(keys_in), 5), torch.randn(len(keys_out), 7)
    table = kernel_map.forward.table
    expected = torch.zeros(len(table), 5, 7)
    for offset, neighbours in enumerate(table.long()):
        found = neighbours >= 0
        expected[offset] = features[neighbours[found]].T @ grad[found]
    monkeypatch.setattr(kernels, "_SHARE", 32)
    monkeypatch.setattr(kernels, "_MOST_SHARES", 16)
    found = kernels.weight_gradient(features, grad, kernel_map.forward.pairs, torch.float32)
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
    with pytest.raises(ValueError, match="up to 79536175 voxels at once, got 80000000"):
        geometry.find_neighbours(torch.empty(80_000_000, dtype=torch.int64, device="meta"))
    monkeypatch.setattr(triton, "INTERPRETED", False)
    for on_a_cpu in (lambda: triton.submanifold_map(keys, 3), lambda: triton.warm_up(CPU, torch.float32, [], False)):
        with pytest.raises(UserError, match=r"^model_params\.sparse_backend: triton runs on CUDA only"):
            on_a_cpu()


def test_devices_that_cannot_run_it_are_named(monkeypatch) -> None:
    """A GPU of NVIDIA that is too old, and one of AMD, which torch calls cuda, too."""
    assert triton.unsupported(CPU) == "runs on CUDA only"
    with interpreter_asked_for():
        assert triton.unsupported(CPU) is None
    monkeypatch.setattr(triton, "INTERPRETED", False)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Tesla T4")
    for capability, version, why in (
        ((7, 5), "12.8", "needs a GPU of compute capability 8.0 or later, and Tesla T4 has 7.5"),
        ((9, 4), None, "runs on NVIDIA devices only"),
        ((8, 0), "12.8", None),
        ((12, 0), "13.0", None),
    ):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device, found=capability: found)
        monkeypatch.setattr(torch.version, "cuda", version)
        found = triton.unsupported(torch.device("cuda", 0))
        assert found == why if why is None else found.startswith(why)
        if why is not None:
            with pytest.raises(
                UserError, match=rf"sparse_backend: triton {why}.*set model_params.sparse_backend=torch"
            ):
                triton.warm_up(torch.device("cuda", 0), torch.float32, [], False)


def test_the_check_runs_the_kernels(monkeypatch) -> None:
    """The check itself is tested in test_backend_check.py."""
    layers = [(8, 3, 5)]
    assert triton.why_not(CPU, torch.float16, layers, training=False) is None
    right = triton.convolve
    for wrong, found in (
        (lambda *a, **k: right(*a, **k) * 1.1, "wrong results: sums, 8 offsets, 3 -> 5 channels, float16"),
        (lambda *a, **k: 1 / 0, "ZeroDivisionError: division by zero"),
    ):
        monkeypatch.setattr(triton, "convolve", wrong)
        assert triton.why_not(CPU, torch.float16, layers, training=False) == found
        with pytest.raises(UserError, match=r"triton does not work on cpu .*set model_params.sparse_backend=torch"):
            triton.BACKEND.warm_up(CPU, torch.float16, layers, training=False)


@pytest.mark.parametrize("tf32", [False, True])
def test_fp32_is_computed_as_everywhere_in_the_process(tf32) -> None:
    try:
        set_fp32_arithmetic(tf32)
        assert kernels._precision(torch.zeros(1)) == ("tf32" if tf32 else "tf32x3")
        assert kernels._precision(torch.zeros(1).bfloat16()) == "ieee"
        # Changed by somebody else, after which asking the older switch would raise.
        torch.backends.cuda.matmul.fp32_precision = "ieee" if tf32 else "tf32"
        assert kernels._precision(torch.zeros(1)) == ("tf32x3" if tf32 else "tf32")
    finally:
        set_fp32_arithmetic(False)
