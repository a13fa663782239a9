"""A program that compiles the Triton kernels for GPUs, without one, and prints what they use of a multiprocessor.

    python -m tests.support.triton_compile          # what the tests look at, and Triton's own way to launches with it
    python -m tests.support.triton_compile --all    # every block size that the tuner chooses from, some minutes

A program of its own: the tests have Triton's interpreter in their process. One line of JSON per kernel.
"""

from __future__ import annotations

import itertools
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from network.sparse import triton_backend, triton_geometry, triton_kernels
from network.sparse.backend_check import cases, made_up_surface
from network.sparse.triton_geometry import TILE, significance
from network.sparse.triton_tuning import (
    CONVOLUTION_BLOCKS,
    GRADIENT_BLOCKS,
    ConvolutionBlock,
    GradientBlock,
    convolution_fits,
    gradient_fits,
)

INTEGERS = {
    "keys": "*i64", "parent": "*i64", "order": "*i64", "codes": "*i32",
    **dict.fromkeys(("table", "children", "parents", "masks", "neighbours", "groups_of", "counts"), "*i32"),
    **dict.fromkeys(("until", "rows", "pair_rows", "ends"), "*i32"),
    "partial": "*fp32", "slope": "fp32",
}  # fmt: skip
FEATURES = ("features", "weight", "bias", "residual", "out", "grad", "result")
CAPABILITIES = (80, 86, 89, 90, 100, 120)
SHARED_KB = {80: 163, 86: 99, 89: 99, 90: 227, 100: 227, 120: 99}
"""Compute capability -> kilobytes of shared memory that a program may use there."""
WAYS = {"whole": (1, 1), "levels": (3, 1), "splits": (1, 4)}
"""Ways of a convolution -> groups of offsets, programs that share a tile's offsets."""


def compile_kernel(
    kernel: Any, dtype: str, capability: int, constants: dict[str, Any], options: dict[str, int]
) -> dict:
    """Compiles a kernel; returns its registers, bytes of spills, kilobytes of shared memory and matrix instructions.

    Args:
        kernel: a function of `triton.jit`, tuned or not.
        dtype: type of the features, by Triton's name.
        capability: compute capability, such as 90.
        constants: compile-time arguments.
        options: num_warps, num_stages.
    """
    function = getattr(kernel, "fn", kernel)
    function = function if isinstance(function, triton.JITFunction) else kernel
    types = INTEGERS | dict.fromkeys(FEATURES, f"*{dtype}")
    signature = {n: "constexpr" if n in constants else types.get(n, "i32") for n in function.arg_names}
    # As at run time, where the channels are multiples of 16: so are all addresses and strides.
    multiples = ("weight_", "features_", "grad_", "residual_", "places")
    strides = [n for n in function.arg_names if signature[n] == "i32" and n.startswith(multiples)]
    aligned = [i for i, n in enumerate(function.arg_names) if signature[n].startswith("*") or n in strides]
    source = ASTSource(
        function,
        signature,
        {(function.arg_names.index(name),): value for name, value in constants.items()},
        {(i,): [["tt.divisibility", 16]] for i in aligned},
    )
    compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
    ptx = compiled.asm["ptx"]
    return {
        "kernel": function.__name__, "dtype": dtype, "capability": capability, **constants, **options,
        **_resources(compiled.asm["cubin"]),
        "shared_kb": compiled.metadata.shared / 1024,
        "wgmma": ptx.count("wgmma.mma_async"), "mma": ptx.count("mma.sync"), "cp_async": ptx.count("cp.async.c"),
    }  # fmt: skip


def _resources(cubin: bytes) -> dict[str, int]:
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        text = subprocess.run([tool, "-res-usage", file.name], capture_output=True, text=True, check=True).stdout
    found = re.search(r"REG:(\d+) STACK:(\d+)", text)
    assert found, text
    return {"registers": int(found[1]), "spilled": int(found[2])}


def convolution(
    channels: tuple[int, int], block: ConvolutionBlock, precision: str, capability: int, way: str, backward: bool
) -> dict:
    """Compiles the convolution, forward with its epilogue or backward with transposed weights.

    Args:
        channels: input and output channels.
        block: block sizes.
        precision: "half" for bf16, or "tf32", "tf32x3" and "ieee" for fp32.
        capability: compute capability.
        way: a key of `WAYS`.
        backward: whether it is the gradient of the features.
    """
    groups, splits = WAYS[way]
    constants = {"C_IN": channels[0], "C_OUT": channels[1], "VOLUME": 27, "MIRRORED": backward, **_precision(precision)}
    constants |= {"HAS_BIAS": not backward, "HAS_RESIDUAL": not backward, "weight_in" if backward else "weight_out": 1}
    constants |= {"GROUPS": groups, "SPLITS": splits, "BLOCK_M": block.m, "BLOCK_N": block.n, "BLOCK_K": block.k}
    options = {"num_warps": block.warps, "num_stages": block.stages}
    return compile_kernel(triton_kernels._convolution_kernel, _dtype(precision), capability, constants, options)


def gradient(channels: tuple[int, int], block: GradientBlock, precision: str, capability: int) -> dict:
    """Compiles the gradient of the weights; arguments: see `convolution`."""
    constants = {"C_IN": channels[0], "C_OUT": channels[1], "VOLUME": 27, "SHARES": 512, "SHARE": 128}
    constants |= {"MIRRORED": True, **_precision(precision)}
    constants |= {"BLOCK_IN": block.i, "BLOCK_OUT": block.o, "BLOCK_P": block.p}
    options = {"num_warps": block.warps, "num_stages": block.stages}
    return compile_kernel(triton_kernels._weight_gradient_kernel, _dtype(precision), capability, constants, options)


def _precision(precision: str) -> dict[str, str]:
    return {"PRECISION": "ieee" if precision == "half" else precision}


def _dtype(precision: str) -> str:
    return "bf16" if precision == "half" else "fp32"


def others(capability: int) -> Iterator[dict]:
    """Compiles the kernels without block sizes to choose from."""
    geometry = triton_geometry
    listed = {"LISTED": 13, "OFFSETS": 16, "ROWS": 128}
    sums = {"SHARES": 512, "SHARE": 128, "BLOCK": 256, "VOLUME": 27, "MIRRORED": True}
    epilogue = {"HAS_BIAS": True, "HAS_RESIDUAL": True}
    for kernel, constants in (
        (geometry._neighbour_kernel, {"ROWS": 64}),
        (geometry._halving_kernel, {"ROWS": 256}),
        (geometry._code_kernel, {"BITS": significance(27), "GROUPS": 1, "PART": 27, "ROWS": 256}),
        (geometry._code_kernel, {"BITS": significance(27, 3), "GROUPS": 3, "PART": 9, "ROWS": 256}),
        (geometry._tile_kernel, {"GROUPS": 1, "PART": 27, "OFFSETS": 32, "TILE": TILE}),
        (geometry._tile_kernel, {"GROUPS": 3, "PART": 9, "OFFSETS": 16, "TILE": TILE}),
        (geometry._tile_kernel, {"GROUPS": 1, "PART": 8, "OFFSETS": 8, "TILE": TILE}),
        (geometry._count_kernel, listed),
        (geometry._pair_kernel, listed),
        (triton_kernels._sum_kernel, sums),
        (triton_kernels._combine_kernel, {"C_OUT": 64, "SPLITS": 4, "BLOCK": 1024, **epilogue}),
    ):
        yield compile_kernel(kernel, "fp32", capability, constants, {"num_warps": 4, "num_stages": 3})


def some() -> Iterator[dict]:
    """Compiles every kernel, for each precision and generation of matrix units, with one block size."""
    yield from others(90)
    channels = (64, 64)
    for precision, capability in (("tf32x3", 80), ("half", 80), ("tf32x3", 90), ("half", 90)):
        block = next(
            b for b in CONVOLUTION_BLOCKS[::-1] if b.n == 64 and convolution_fits(b, precision, capability, 2, 64, 64)
        )
        yield convolution(channels, block, precision, capability, "whole", backward=False)
        block = next(b for b in GRADIENT_BLOCKS[::-1] if gradient_fits(b, precision, capability, 64, 64))
        yield gradient(channels, block, precision, capability)
    for way in WAYS:
        yield convolution(channels, ConvolutionBlock(64, 64, 64, 4, 5), "half", 90, way, backward=True)


def everything(capabilities: Sequence[int] = CAPABILITIES) -> Iterator[dict]:
    """Compiles every block size that the tuner may choose, for channels that suit it."""
    several = ((4, 32), (64, 64), (128, 128), (256, 256))
    for capability, precision in itertools.product(capabilities, ("half", "tf32", "tf32x3")):
        if precision == "half":
            yield from others(capability)
        for block in CONVOLUTION_BLOCKS:
            suited = [c for c in several if convolution_fits(block, precision, capability, 2, *c)]
            for channels in suited[-1:]:  # the wider the channels, the more a program does
                for way in WAYS:
                    if way != "splits" or block.m == TILE:  # only small maps are split
                        yield convolution(channels, block, precision, capability, way, backward=False)
                yield convolution(channels, block, precision, capability, "whole", backward=True)
        for block in GRADIENT_BLOCKS:
            suited = [c for c in several if gradient_fits(block, precision, capability, *c)]
            for channels in suited[-1:]:
                yield gradient(channels, block, precision, capability)


def fits(result: dict) -> bool:
    """Returns whether a kernel spills nothing and has room in the shared memory of its GPU."""
    return result["spilled"] == 0 and result["shared_kb"] <= SHARED_KB[result["capability"]]


class NoDriver:
    """A stand-in for what Triton asks a driver before it launches, with the answers of an H100."""

    utils = SimpleNamespace(get_device_properties=lambda device: {"max_shared_mem": 227 * 1024})

    def get_current_target(self) -> GPUTarget:
        """Returns an H100 as the target."""
        return GPUTarget("cuda", 90, 32)

    def get_current_device(self) -> int:
        """Returns the number of the only device."""
        return 0

    def get_current_stream(self, device: int) -> int:
        """Returns the default stream."""
        return 0

    def get_benchmarker(self) -> Any:
        """Returns a benchmark that calls the function once and reports equal times."""

        def run_once(function: Any, **options: Any) -> list[float]:
            function()
            return [1.0, 1.0, 1.0]

        return run_once


def launches() -> Iterator[dict]:
    """Runs forward and backward of each kind of map, without the launches themselves; results stay empty."""
    names: list[str] = []
    run = triton.JITFunction.run

    def all_but_launch(self: Any, *arguments: Any, grid: Any, warmup: bool, **constants: Any) -> Any:
        names.append(self.__name__)
        return run(self, *arguments, grid=grid, warmup=True, **constants)

    triton.JITFunction.run = all_but_launch
    triton.runtime.driver.set_active(NoDriver())  # pyright: ignore[reportAttributeAccessIssue, reportArgumentType]
    triton_backend.INTERPRETED = True  # or tensors of the CPU would be refused
    keys = made_up_surface(torch.device("cpu"), 20)
    for case in cases(triton_backend.BACKEND, keys):
        features = torch.ones(case.num_inputs, 16, dtype=torch.bfloat16)
        weight = torch.ones(case.volume, 16, 16, dtype=torch.bfloat16)
        with torch.no_grad():
            out = case.kernel_map.convolve(features, weight)
            case.kernel_map.convolve(features, weight, out[0])
            case.kernel_map.convolve(features, weight, out[0], out)
        case.kernel_map.convolve(features.requires_grad_(), weight.requires_grad_()).sum().backward()
    for kernel in (triton_kernels._convolution_kernel, triton_kernels._weight_gradient_kernel):
        yield {"kernel": kernel.base_fn.__name__, "tuned": len(kernel.cache), "launched": 0}
    for name in sorted(set(names)):
        yield {"kernel": name, "launched": names.count(name)}


if __name__ == "__main__":
    for result in everything() if sys.argv[-1] == "--all" else itertools.chain(some(), launches()):
        print(json.dumps(result), flush=True)
