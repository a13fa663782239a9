"""A program that compiles the Triton kernels for GPUs, without one, and prints what they use of a multiprocessor.

    python -m tests.support.triton_compile          # what the tests look at
    python -m tests.support.triton_compile --all    # every block size that the tuner chooses from, some minutes
    python -m tests.support.triton_compile --launch # through Triton's own way to a launch, tuner included

A program of its own: the tests have Triton's interpreter in their process. One line of JSON per kernel.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from network.sparse import triton_backend, triton_geometry, triton_kernels
from network.sparse.backend_check import made_up_surface
from network.sparse.triton_geometry import TILE, significance

INTEGERS = {
    "keys": "*i64", "parent": "*i64", "order": "*i64",
    **dict.fromkeys(("table", "children", "parents", "codes", "live", "num_live", "neighbours", "hits"), "*i32"),
    **dict.fromkeys(("until", "inputs", "outputs", "ends"), "*i32"),
    "partial": "*fp32", "slope": "fp32",
}  # fmt: skip
FEATURES = ("features", "weight", "bias", "residual", "out", "grad", "result")


def compile_kernel(
    kernel: Any, dtype: str, capability: int, constants: dict[str, Any], options: dict[str, int]
) -> dict:
    """Compiles a kernel; returns its registers, bytes of spills, kilobytes of shared memory and matrix instructions.

    Args:
        kernel: a function of `triton.jit`, tuned or not.
        dtype: type of the features, by Triton's name.
        capability: compute capability, 80 or 90.
        constants: compile-time arguments.
        options: num_warps, num_stages.
    """
    function = getattr(kernel, "fn", kernel)
    function = function if isinstance(function, triton.JITFunction) else kernel
    types = INTEGERS | dict.fromkeys(FEATURES, f"*{dtype}")
    signature = {n: "constexpr" if n in constants else types.get(n, "i32") for n in function.arg_names}
    # As at run time, where the channels are multiples of 16: so are all addresses and strides.
    strides = [
        n for n in function.arg_names if signature[n] == "i32" and n.startswith(("weight_", "features_", "grad_"))
    ]
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


def convolution(c_in: int, c_out: int, block: tuple[int, ...], dtype: str, capability: int, backward: bool) -> dict:
    """Compiles the convolution, forward with its epilogue or backward with transposed weights."""
    n, k, warps, stages = block
    constants = {"C_IN": c_in, "C_OUT": c_out, "VOLUME": 27, "MIRRORED": backward, "PRECISION": "ieee"}
    constants |= {"HAS_BIAS": not backward, "HAS_RESIDUAL": not backward, "weight_in" if backward else "weight_out": 1}
    constants |= {"BLOCK_M": TILE, "BLOCK_N": n, "BLOCK_K": k}
    options = {"num_warps": warps, "num_stages": stages}
    return compile_kernel(triton_kernels._convolution_kernel, dtype, capability, constants, options)


def gradient(c_in: int, c_out: int, block: tuple[int, ...], dtype: str, capability: int) -> dict:
    """Compiles the gradient of the weights."""
    i, o, p, warps, stages = block
    constants = {"C_IN": c_in, "C_OUT": c_out, "VOLUME": 27, "SHARES": 512, "SHARE": 128, "PRECISION": "ieee"}
    constants |= {"BLOCK_IN": i, "BLOCK_OUT": o, "BLOCK_P": p}
    options = {"num_warps": warps, "num_stages": stages}
    return compile_kernel(triton_kernels._weight_gradient_kernel, dtype, capability, constants, options)


def others(capability: int) -> Iterator[dict]:
    """Compiles the kernels without block sizes to choose from."""
    volume, tile = {"VOLUME": 27}, {"VOLUME": 27, "TILE": TILE}
    geometry = triton_geometry
    for kernel, constants in (
        (geometry._neighbour_kernel, {"ROWS": 64}),
        (geometry._halving_kernel, {"ROWS": 256}),
        (geometry._code_kernel, {"BITS": significance(27), "ROWS": 256, **volume}),
        (geometry._tile_kernel, {**tile, "OFFSETS": 32}),
        (geometry._tile_kernel, {"VOLUME": 8, "OFFSETS": 8, "TILE": TILE}),
        (geometry._pair_kernel, tile),
        (triton_kernels._sum_kernel, {"SHARES": 512, "SHARE": 128, "BLOCK": 256, **volume}),
    ):
        yield compile_kernel(kernel, "fp32", capability, constants, {"num_warps": 4, "num_stages": 3})


def some() -> Iterator[dict]:
    """Compiles every kernel for each type of features and each generation of matrix units, with one block size."""
    yield from others(90)
    for dtype, capability in (("fp32", 80), ("fp16", 80), ("bf16", 90)):
        yield convolution(64, 64, (64, 64, 4, 5), dtype, capability, backward=False)
        yield gradient(64, 64, (64, 64, 64, 4, 5), dtype, capability)
    yield convolution(64, 64, (64, 64, 4, 5), "bf16", 90, backward=True)


def everything() -> Iterator[dict]:
    """Compiles every block size that the tuner may choose, for channels that suit it."""
    for capability in (80, 90):
        yield from others(capability)
        for dtype in ("fp32", "bf16"):
            for block in triton_kernels._CONVOLUTION_BLOCKS:
                for channels in ((4, 32), (64, 64), (128, 128), (256, 256), (384, 256)):
                    if triton_kernels.convolution_fits(block, 4 if dtype == "fp32" else 2, *channels):
                        yield convolution(*channels, block, dtype, capability, backward=False)
                        yield convolution(*channels, block, dtype, capability, backward=True)
            for block in triton_kernels._GRADIENT_BLOCKS:
                for channels in ((4, 32), (64, 64), (128, 128), (256, 256), (384, 256)):
                    if triton_kernels.gradient_fits(block, *channels):
                        yield gradient(*channels, block, dtype, capability)


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
    triton_backend._tune(keys, torch.bfloat16, [(27, 16, 16), (8, 16, 16)], training=True)
    for kernel in (triton_kernels._convolution_kernel, triton_kernels._weight_gradient_kernel):
        yield {"kernel": kernel.base_fn.__name__, "tuned": len(kernel.cache), "launched": 0}
    for name in sorted(set(names)):
        yield {"kernel": name, "launched": names.count(name)}


if __name__ == "__main__":
    wanted = {"--all": everything, "--launch": launches}.get(sys.argv[-1], some)
    for result in wanted():
        print(json.dumps(result), flush=True)
