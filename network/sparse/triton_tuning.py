"""The block sizes of the Triton kernels: which of them suit a layer and a GPU, and the choice among these by time.

A choice belongs to a kind of layer (channels, kernel volume, types, precision) and to a size of map: with few tiles a
GPU is not filled, with many it is. `triton_backend.warm_up` makes all choices that a network needs; the first launch of
a kind makes it otherwise.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import triton
from torch import Tensor
from triton import knobs
from triton.runtime import driver

from network.sparse.triton_geometry import TILE, on_device_of

INTERPRETED: bool = knobs.runtime.interpret  # the kernels run in Triton's interpreter, on any device

SIZES = (128, 1024)
"""Tiles of `TILE` rows up to which a map is of the first and of the second size; the third has no end."""


class ConvolutionBlock(NamedTuple):
    """Rows, output channels and input channels of a program's block, its warps, and the stages of its pipeline."""

    m: int
    n: int
    k: int
    warps: int
    stages: int


class GradientBlock(NamedTuple):
    """Input channels, output channels and pairs of a program's block, its warps, and the stages of its pipeline."""

    i: int
    o: int
    p: int
    warps: int
    stages: int


# Triton divides the stages of a pipeline between loads that depend on each other, here rows and then their features:
# with 3 stages the features of one product are loaded while another product is computed, with 5 stages those of two; 4
# stages are no better than 3. What each entry uses of a GPU: `python -m tests.support.triton_compile --all`.
CONVOLUTION_BLOCKS = [
    ConvolutionBlock(64, 32, 16, 4, 5),
    ConvolutionBlock(64, 32, 32, 4, 5),
    ConvolutionBlock(64, 64, 16, 4, 5),
    ConvolutionBlock(64, 64, 32, 4, 5),
    ConvolutionBlock(64, 64, 64, 4, 3),
    ConvolutionBlock(64, 64, 64, 4, 5),
    ConvolutionBlock(64, 128, 16, 8, 5),
    ConvolutionBlock(64, 128, 32, 8, 5),
    ConvolutionBlock(64, 128, 64, 8, 3),
    ConvolutionBlock(64, 128, 64, 8, 5),
    ConvolutionBlock(128, 32, 32, 4, 5),
    ConvolutionBlock(128, 64, 16, 8, 5),
    ConvolutionBlock(128, 64, 32, 8, 5),
    ConvolutionBlock(128, 64, 64, 8, 3),
    ConvolutionBlock(128, 128, 32, 8, 5),
    ConvolutionBlock(128, 128, 64, 8, 3),
    ConvolutionBlock(256, 64, 32, 8, 3),
    ConvolutionBlock(256, 64, 64, 8, 3),
]
GRADIENT_BLOCKS = [
    GradientBlock(16, 32, 64, 4, 3),
    GradientBlock(16, 64, 64, 4, 3),
    GradientBlock(32, 32, 64, 4, 3),
    GradientBlock(32, 32, 32, 4, 3),
    GradientBlock(64, 32, 64, 4, 3),
    GradientBlock(32, 64, 64, 4, 3),
    GradientBlock(64, 64, 32, 4, 5),
    GradientBlock(64, 64, 64, 4, 5),
    GradientBlock(128, 64, 32, 8, 5),
    GradientBlock(64, 128, 32, 8, 5),
    GradientBlock(128, 128, 32, 8, 5),
]


def size_of(num_tiles: int) -> int:
    """Returns which of three sizes a map has, 0 to 2, by its number of tiles of `TILE` rows."""
    return sum(num_tiles > most for most in SIZES)


def _near(block: int, channels: int, least: int, most: int, parts: int) -> bool:
    """Returns whether a block is neither wider than the channels nor narrower than one of so many parts of them."""
    width = min(max(1 << (channels - 1).bit_length(), least), most)
    return width // parts <= block <= width


def convolution_fits(
    block: ConvolutionBlock, precision: str, capability: int, size: int, c_in: int, c_out: int
) -> bool:
    """Returns whether a block suits the channels and the map, and a GPU has the registers and shared memory for it.

    Args:
        block: an entry of `CONVOLUTION_BLOCKS`.
        precision: "half", or "tf32", "tf32x3" and "ieee" for fp32.
        capability: compute capability of the GPU: 90 stands for 9.0.
        size: that of the map; see `size_of`.
        c_in, c_out: numbers of channels.
    """
    suits = block.m <= (64, 128, 256)[size] and _near(block.n, c_out, 32, 128, 2) and _near(block.k, c_in, 16, 64, 4)
    return suits and _has_registers(block.m * block.n, block.k, block.warps, precision, capability)


def gradient_fits(block: GradientBlock, precision: str, capability: int, c_in: int, c_out: int) -> bool:
    """Returns whether an entry of `GRADIENT_BLOCKS` suits the channels and the GPU; see `convolution_fits`."""
    suits = _near(block.i, c_in, 16, 128, 4) and _near(block.o, c_out, 32, 128, 4)
    return suits and _has_registers(block.i * block.o, block.p // 2, block.warps, precision, capability)


def _has_registers(sums: int, depth: int, warps: int, precision: str, capability: int) -> bool:
    """Returns whether a thread's share of the sums and of the numbers that are multiplied fit into its registers.

    tf32x3 holds the two parts of each number there. All that is multiplied goes through registers but on Hopper and the
    Blackwell of data centres (9.0, 10.0), whose matrix units read from shared memory.
    """
    if precision != "tf32x3":
        return sums <= 64 * 32 * warps
    from_memory = 90 <= capability < 120
    return sums <= 32 * 32 * warps and depth <= (32 if from_memory or sums <= 16 * 32 * warps else 16)


def benchmark(call: Callable[[], None], quantiles: list[float]) -> Any:
    """Times a launch for the tuner: a fifth of Triton's usual time, because a network has many kinds of layers."""
    return driver.active.get_benchmarker()(call, warmup=5, rep=20, quantiles=quantiles)


def convolution_configs() -> list[triton.Config]:
    """Lists the blocks of the convolution for Triton's tuner."""
    found = [ConvolutionBlock(TILE, 32, 16, 4, 3)] if INTERPRETED else CONVOLUTION_BLOCKS
    return [
        triton.Config({"BLOCK_M": b.m, "BLOCK_N": b.n, "BLOCK_K": b.k}, num_warps=b.warps, num_stages=b.stages)
        for b in found
    ]


def gradient_configs() -> list[triton.Config]:
    """Lists the blocks of the gradient of the weights for Triton's tuner."""
    found = [GradientBlock(16, 32, 32, 4, 3)] if INTERPRETED else GRADIENT_BLOCKS
    return [
        triton.Config({"BLOCK_IN": b.i, "BLOCK_OUT": b.o, "BLOCK_P": b.p}, num_warps=b.warps, num_stages=b.stages)
        for b in found
    ]


def _block(kind: Any, config: triton.Config) -> Any:
    return kind(*config.kwargs.values(), config.num_warps, config.num_stages)


def _of(arguments: dict[str, Any], precision: str) -> tuple[str, int]:
    """Returns the precision by its name here, and the compute capability of the device."""
    target = driver.active.get_current_target()
    assert target is not None
    return precision if arguments["features"].dtype == torch.float32 else "half", target.arch


def fitting_convolutions(configs: list[triton.Config], arguments: dict[str, Any], **more: Any) -> list[triton.Config]:
    """Lists the configurations of the convolution among which its arguments leave a choice."""
    kind = (*_of(arguments, more["PRECISION"]), arguments["size"], more["C_IN"], more["C_OUT"])
    found = [config for config in configs if convolution_fits(_block(ConvolutionBlock, config), *kind)]
    # Maps that are split are small: their blocks differ little, and each would have to be compiled once more.
    return found[-2:] if more["SPLITS"] > 1 else found


def fitting_gradients(configs: list[triton.Config], arguments: dict[str, Any], **more: Any) -> list[triton.Config]:
    """Lists the configurations of the gradient of the weights among which its arguments leave a choice."""
    kind = (*_of(arguments, more["PRECISION"]), more["C_IN"], more["C_OUT"])
    return [config for config in configs if gradient_fits(_block(GradientBlock, config), *kind)]


_chosen: dict[tuple[Any, ...], dict[str, Any]] = {}


def launch_tuned(
    kernel: Any, key: tuple[Any, ...], programs: Callable[[dict[str, Any]], int], *arguments: Any, **constants: Any
) -> None:
    """Starts a kernel with the block sizes that the tuner chooses at the first launch of a kind.

    Later launches of this kind go past the tuner, which takes longer than a launch to find its choice again.

    Args:
        kernel: a tuned function.
        key: all that the choice depends on.
        programs: computes the number of programs from the chosen block sizes.
        arguments: arguments of the kernel; the first is a tensor on the device to run on.
        constants: compile-time arguments by name.
    """
    first: Tensor = arguments[0]
    key = (kernel.base_fn.__name__, first.device, *key)
    with on_device_of(first):
        if (chosen := _chosen.get(key)) is not None:
            kernel.fn[(programs(chosen),)](*arguments, **constants, **chosen)
            return
        kernel[lambda config: (programs(config),)](*arguments, **constants)
        _chosen[key] = kernel.best_config.all_kwargs()
