"""The tuner's choices, the check after them, and the compilation of the Triton kernels for GPUs, without one."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from tests.network.sparse.test_convolution import random_keys
from tests.support.sparse import make_map
from tests.support.triton import interpreted_library, interpreted_modules

MODULES = interpreted_modules()
triton = MODULES["triton_backend"]
kernels, geometry, tuning = (MODULES[f"triton_{name}"] for name in ("kernels", "geometry", "tuning"))

CPU = torch.device("cpu")
CHANNELS = (1, 4, 16, 20, 32, 48, 64, 96, 128, 192, 256, 384, 1000)
PRECISIONS = ("half", "tf32", "tf32x3", "ieee")


@pytest.fixture(autouse=True)
def interpreter():
    with interpreted_library():
        yield


def test_checked_on_maps_of_every_size(monkeypatch) -> None:
    """What runs is tuned for each size of a map, so each is compared; wide layers are not met on the largest one."""
    calls = []
    monkeypatch.setattr(triton, "first_wrong", lambda backend, keys, *rest: calls.append((len(keys), *rest)))
    monkeypatch.setattr(triton, "_SIDES", (8, 100))
    monkeypatch.setattr(triton, "_MOST_NUMBERS", 100 * 100 * 32)
    layers = ((27, 4, 32), (8, 4, 64))
    assert triton.why_not(CPU, torch.float16, iter(layers * 2), True) is None
    assert calls == [(64, torch.float16, [*layers], True), (10000, torch.float16, [layers[0]], True)]


def test_the_surfaces_have_every_size() -> None:
    """For 64 and 128 channels, on the finer and (with about a quarter of the voxels) on the coarser side of a map."""
    sides = (25, 50, 80, 160, 360, 720)
    for channels, share in itertools.product((64, 128), (1, 1 / 4)):
        fitting = [int(share * side**2) for side in sides if side**2 * channels <= triton._MOST_NUMBERS]
        kinds = {(tuning.size_of(-(-rows // 64)), kernels.num_splits(rows, channels)) for rows in fitting}
        wanted = {(0, 4), (0, 1), (1, 1), (2, 1)} - ({(2, 1)} if (channels, share) == (128, 1 / 4) else set())
        assert kinds == wanted, (channels, share)


@pytest.mark.parametrize("training", [False, True])
def test_warm_up_runs_every_kernel(training, monkeypatch) -> None:
    """Every kernel is run with all that the tuner's choice depends on, for each layer and its gradients in training."""
    seen = set()
    start = kernels.launch_tuned

    def launch(kernel, key, programs, *arguments, **constants) -> None:
        values = {**dict(zip(kernel.arg_names, arguments, strict=False)), **constants}
        seen.add((kernel.base_fn.__name__, *(values[key] for key in ("C_IN", "C_OUT", "VOLUME"))))
        assert {t.dtype for t in arguments[:2]} == {torch.bfloat16}
        start(kernel, key, programs, *arguments, **constants)

    monkeypatch.setattr(kernels, "launch_tuned", launch)
    layers = [(27, 4, 6), (8, 6, 5), (1, 6, 6), (27, 4, 6)]
    with torch.autocast("cpu", torch.float16):
        triton.BACKEND.warm_up(CPU, torch.bfloat16, layers, training)
    expected = {("_convolution_kernel", 4, 6, 27), ("_convolution_kernel", 6, 5, 8)}
    if training:
        expected |= {("_convolution_kernel", 6, 4, 27), ("_convolution_kernel", 5, 6, 8)}
        expected |= {("_weight_gradient_kernel", 4, 6, 27), ("_weight_gradient_kernel", 6, 5, 8)}
    assert seen == expected


def test_tuning_depends_on_the_size_of_the_map_but_not_on_its_voxels() -> None:
    allowed = {"C_IN", "C_OUT", "VOLUME", "MIRRORED", "PRECISION", "GROUPS", "SPLITS", "size"}
    for kernel in (kernels._convolution_kernel, kernels._weight_gradient_kernel):
        assert {"C_IN", "C_OUT", "size"} <= set(kernel.keys) <= allowed
    assert [tuning.size_of(tiles) for tiles in (1, 128, 129, 1024, 1025, 9999)] == [0, 0, 1, 1, 2, 2]


def test_the_tuner_is_passed_by_after_the_first_launch(monkeypatch) -> None:
    """For every kind of launch the tuner is asked once, and its choice is what runs afterwards."""

    class Kernel:
        class base_fn:
            __name__ = "kernel"

        class best_config:
            @staticmethod
            def all_kwargs() -> dict[str, int]:
                return {"BLOCK_M": 64, "num_warps": 8}

        def __init__(self) -> None:
            self.calls: list[Any] = []
            self.fn = {(7,): lambda *arguments, **constants: self.calls.append(("direct", arguments[1:], constants))}

        def __getitem__(self, grid):
            assert grid({"BLOCK_M": 64}) == (7,)
            return lambda *arguments, **constants: self.calls.append(("tuned", arguments[1:], constants))

    monkeypatch.setattr(tuning, "_chosen", {})
    kernel = Kernel()
    for key, number in (((1,), 1), ((1,), 2), ((2,), 3)):
        tuning.launch_tuned(kernel, key, lambda config: 7, torch.zeros(1), number, C_IN=4)
    first, second, third = kernel.calls
    assert first == ("tuned", (1,), {"C_IN": 4}) and third == ("tuned", (3,), {"C_IN": 4})
    assert second == ("direct", (2,), {"C_IN": 4, "BLOCK_M": 64, "num_warps": 8})


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("capability", [80, 86, 90, 120])
def test_some_block_suits_any_channels(precision, capability) -> None:
    for c_in, c_out in itertools.product(CHANNELS, repeat=2):
        for size in range(3):
            kind = (precision, capability, size, c_in, c_out)
            fitting = [b for b in tuning.CONVOLUTION_BLOCKS if tuning.convolution_fits(b, *kind)]
            assert 1 <= len(fitting) <= 15, kind
            assert {b.m for b in fitting} <= {64, 128, 256} and max(b.m for b in fitting) <= (64, 128, 256)[size]
        assert (
            1 <= sum(tuning.gradient_fits(b, precision, capability, c_in, c_out) for b in tuning.GRADIENT_BLOCKS) <= 9
        )
    assert all(kernels._SHARE % block.p == 0 for block in tuning.GRADIENT_BLOCKS)


class CountOperations(TorchDispatchMode):
    """A mode that counts the operations that launch something on a GPU: not views, and not allocations."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func._schema.name.split("::")[1]
        alias = any(r.alias_info is not None and not r.alias_info.is_write for r in func._schema.returns)
        if not alias and not name.startswith(("empty", "new_empty", "detach", "ones_like")):
            self.names.append(name)
        return func(*args, **(kwargs or {}))


@pytest.fixture
def count(monkeypatch):
    """Returns a function that lists the kernels and operations that a call launches, in order."""

    def counted(call) -> tuple[list[str], list[str]]:
        launched: list[str] = []

        def watch(start):
            def launch(kernel, *arguments, **constants) -> None:
                launched.append((kernel.base_fn if hasattr(kernel, "base_fn") else kernel.fn).__name__)
                with _disable_current_modes():
                    start(kernel, *arguments, **constants)

            return launch

        with monkeypatch.context() as patch, CountOperations() as mode:
            for module, name in ((geometry, "launch"), (kernels, "launch"), (kernels, "launch_tuned")):
                patch.setattr(module, name, watch(getattr(module, name)))
            call()
        return launched, mode.names

    return counted


TILES = ["_code_kernel", "_tile_kernel"]
PAIRS = ["_count_kernel", "_pair_kernel"]
GRADIENT = ["_weight_gradient_kernel", "_sum_kernel"]


@pytest.mark.parametrize(
    ("splits", "by_level", "forward"),
    [
        (1, False, ["_convolution_kernel"]),
        (1, True, 3 * ["_convolution_kernel"]),
        (4, False, ["_convolution_kernel", "_combine_kernel"]),
    ],
)
def test_launches_of_a_convolution_and_its_map(splits, by_level, forward, count, monkeypatch) -> None:
    monkeypatch.setattr(kernels, "num_splits", lambda num_rows, c_out: splits)
    monkeypatch.setattr(kernels, "by_level_pays", lambda *layer: by_level)
    keys, maps = random_keys(3, count=150), []  # more than one program
    assert count(lambda: maps.append(triton.submanifold_map(keys, 3))) == (["_neighbour_kernel"], [])
    (kernel_map,) = maps
    features, weight = torch.randn(kernel_map.num_inputs, 4), torch.randn(27, 4, 4)
    residual, bias = torch.randn(kernel_map.num_inputs, 4), torch.randn(4)

    with torch.no_grad():
        first = count(lambda: kernel_map.convolve(features, weight, bias, residual, 0.1))
        second = count(lambda: kernel_map.convolve(features, weight, bias, residual, 0.1))
    assert first == (TILES + forward, ["sort"])
    assert second == (forward, []), "nothing but the kernels: weights of the right type are not touched"

    leaves: list[Tensor] = [t.requires_grad_() for t in (features, weight)]
    outputs: list[Tensor] = []
    assert count(lambda: outputs.append(kernel_map.convolve(*leaves))) == (forward, [])
    upstream = torch.ones_like(outputs[0])
    backward = count(lambda: torch.autograd.grad(outputs[0], leaves, upstream, retain_graph=True))
    assert backward == (forward + PAIRS + GRADIENT, ["cumsum", "clone"])
    backward = count(lambda: torch.autograd.grad(outputs[0], leaves, upstream))
    assert backward == (forward + GRADIENT, []), "the lists of pairs are shared by the layers of a map"


def test_launches_of_a_strided_map(count) -> None:
    """The tiles of the direction that no layer needs are not made."""
    keys, maps = random_keys(3, count=30), []
    launched, _ = count(lambda: maps.append(make_map(triton, "strided", keys)[0]))
    assert launched == ["_halving_kernel"]
    features, weight = torch.randn(maps[0].num_inputs, 4), torch.randn(8, 4, 4)
    launched, operations = count(lambda: maps[0].convolve(features, weight))
    assert launched[:2] == TILES and operations == ["sort"] and set(launched[2:]) <= {
        "_convolution_kernel", "_combine_kernel",
    }  # fmt: skip


@pytest.fixture(scope="module")
def compiled(tmp_path_factory) -> tuple[list[dict], list[dict]]:
    """What `triton_compile` prints of kernels and of launches, in a process without the interpreter."""
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    cache = str(tmp_path_factory.mktemp("cache"))
    run = subprocess.run(
        [sys.executable, "-m", "tests.support.triton_compile"],
        env={**environment, "TRITON_CACHE_DIR": cache, "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    lines = [json.loads(line) for line in run.stdout.splitlines()]
    return [line for line in lines if "launched" not in line], [line for line in lines if "launched" in line]


def test_kernels_compile_for_gpus(compiled) -> None:
    """Triton's own assembler compiles them without a GPU."""
    results, _ = compiled
    assert len({result["kernel"] for result in results}) == 10
    for result in results:
        assert result["spilled"] == 0, result
        assert result["shared_kb"] <= 99, "more than an RTX 3090 has"
        if result["kernel"] in ("_convolution_kernel", "_weight_gradient_kernel"):
            matrix_unit = "wgmma" if result["capability"] == 90 else "mma"
            assert result[matrix_unit] > 0 and result["cp_async"] > 0, result


def test_launches_are_ready_and_tuned_once_per_layer(compiled) -> None:
    """A layer is tuned once, with or without bias and residual, and each gradient once; there are two volumes."""
    _, results = compiled
    assert len({result["kernel"] for result in results}) == 10
    tuned = {result["kernel"]: result["tuned"] for result in results if "tuned" in result}
    # A halving layer and its transpose, and the gradients of either, are of one shape here.
    assert tuned == {"_convolution_kernel": 3, "_weight_gradient_kernel": 2}


def in_tf32(numbers: Tensor) -> Tensor:
    """Rounds fp32 numbers to the 10 bits of TF32's mantissa, as `cvt.rna.tf32.f32` does: to nearest, ties away."""
    return ((numbers.view(torch.int32) + 0x1000) & ~0x1FFF).view(torch.float32)


def in_three_products(left: Tensor, right: Tensor) -> Tensor:
    """Emulates tf32x3: exact products of the parts of numbers, added up in fp32 by eights as a matrix unit does."""
    (a, a_rest), (b, b_rest) = ((in_tf32(t), in_tf32(t - in_tf32(t))) for t in (left, right))
    sums = torch.zeros(len(left), right.shape[1])
    for k in range(0, left.shape[1], 8):
        part = slice(k, k + 8)
        for x, w in ((a_rest, b), (a, b_rest), (a, b)):
            sums = (sums.double() + x[:, part].double() @ w[part].double()).float()
    return sums


@pytest.mark.parametrize("c_in", [64, 256])
def test_tf32x3_is_as_exact_as_fp32(c_in) -> None:
    """Emulated on sums as long as those of a layer with 10 neighbours; TF32 alone is 500 times as inexact."""
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(shape, generator=generator) for shape in ((64, 10 * c_in), (10 * c_in, 64)))
    exact = left.double() @ right.double()
    plain = sum((left[:, k, None] * right[k] for k in range(left.shape[1])), torch.zeros(64, 64))  # one by one, in fp32

    def error(found: Tensor) -> float:
        return float((found.double() - exact).abs().max() / exact.abs().max())

    assert error(in_three_products(left, right)) < 2 * error(plain) < 1e-5
    assert error(in_tf32(left) @ in_tf32(right)) > 1e-4
