"""The comparison of a backend with the torch backend, on the device and for the layers that will run.

Kernels are compiled for each number of channels and each type, and a tuner chooses among them. So a correct result of
one layer says nothing about another layer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from network.sparse import torch_backend
from network.sparse.coordinates import halve, pack
from network.sparse.layers import KernelMap, Layer, SparseBackend
from utils.fp32 import exact_matmul, matmul_in_tf32


@dataclass(frozen=True, eq=False)
class Case:
    """A kernel map to be checked, and its reference.

    Attributes:
        volume: number of kernel offsets.
        num_inputs, num_outputs: number of input and output rows.
        kernel_map: map of the backend that is checked.
        reference: makes the map of the torch backend.
    """

    volume: int
    num_inputs: int
    num_outputs: int
    kernel_map: KernelMap
    reference: Callable[[], KernelMap]


def made_up_surface(device: torch.device, side: int) -> Tensor:
    """Makes the sorted keys, (side * side,) int64, of voxels on a rough slope: always the same ones.

    A voxel has about as many neighbours as in a scan.
    """
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    z = (x + 2 * y) // 4 + x * y % 3 // 2
    return pack(torch.zeros_like(x), z, y, x).view(-1).sort().values.to(device)


def cases(backend: SparseBackend, keys: Tensor) -> list[Case]:
    """Makes three maps on the voxels `keys` (V,): submanifold of size 3, of size and stride 2, and its transpose."""
    coarse, parent = torch.unique(halve(keys), return_inverse=True)
    fine, few = len(keys), len(coarse)
    halving = backend.halving_map(keys, parent, few)

    def reference() -> torch_backend.PairMap:
        return torch_backend.halving_map(keys, parent, few)

    return [
        Case(27, fine, fine, backend.submanifold_map(keys, 3), lambda: torch_backend.submanifold_map(keys, 3)),
        Case(8, fine, few, halving, reference),
        Case(8, few, fine, halving.transposed(), lambda: reference().transposed()),
    ]


def first_wrong(
    backend: SparseBackend, keys: Tensor, dtype: torch.dtype, layers: Iterable[Layer], training: bool
) -> str | None:
    """Finds the first layer for which the backend's results differ from those of the torch backend in fp32.

    Args:
        backend: the backend that is checked.
        keys: (V,) int64 sorted distinct keys of voxels, on the device.
        dtype: type in which the layers compute.
        layers: kernel volume, C_in and C_out of each layer; only volumes 27 and 8 are checked.
        training: whether gradients are checked too.

    Returns:
        What is wrong, in words; None if nothing is.
    """
    layers = tuple(layers)
    for case in cases(backend, keys):
        reference = case.reference()
        for volume, c_in, c_out in layers:
            if volume != case.volume:
                continue
            inputs = _inputs(case, c_in, c_out, dtype, keys.device)
            narrow = dtype != torch.float32
            with torch.autocast(keys.device.type, dtype if narrow else None, enabled=narrow):
                found = _results(case.kernel_map, inputs, training)
            with torch.autocast(keys.device.type, enabled=False), exact_matmul():
                expected = _results(reference, inputs, training)
            for name, tensor in found.items():
                if not _close(tensor, expected[name], dtype):
                    kind = f"{volume} offsets, {c_in} -> {c_out} channels, {dtype}".replace("torch.", "")
                    return f"wrong results: {name}, {kind}"
    return None


def _inputs(case: Case, c_in: int, c_out: int, dtype: torch.dtype, device: torch.device) -> list[Tensor]:
    """Draws features, weight, bias and residual: fp32 numbers that `dtype` can represent, so no input is rounded."""
    generator = torch.Generator().manual_seed(case.volume)
    shapes = [(case.num_inputs, c_in), (case.volume, c_in, c_out), (c_out,), (case.num_outputs, c_out)]
    return [torch.randn(shape, generator=generator).to(dtype).float().to(device) for shape in shapes]


def _results(kernel_map: KernelMap, inputs: list[Tensor], training: bool) -> dict[str, Tensor]:
    """Computes the results of a layer by name: those of evaluation and, with `training`, outputs and gradients."""
    features, weight, bias, residual = inputs
    with torch.no_grad():
        results = {
            "sums": kernel_map.convolve(features, weight),
            "sums with bias": kernel_map.convolve(features, weight, bias, slope=0.1),
            "sums with bias and residual": kernel_map.convolve(features, weight, bias, residual, 0.1),
        }
    if training:
        leaves = features, weight, bias = [t.detach().requires_grad_() for t in (features, weight, bias)]
        with torch.enable_grad():
            out = kernel_map.convolve(features, weight, bias)
            gradients = torch.autograd.grad(out, leaves, residual.to(out.dtype))
        names = ("gradient of the features", "gradient of the weights", "gradient of the bias")
        results |= {"sums in training": out.detach(), **dict(zip(names, gradients, strict=True))}
    return results


def _close(found: Tensor, expected: Tensor, dtype: torch.dtype) -> bool:
    """Compares relative to the largest number, because the products may be summed in any order."""
    tolerance = 2 * torch.finfo(dtype).eps  # a result in a narrow type is rounded or truncated once
    if dtype == torch.float32:
        tolerance = 4e-3 if matmul_in_tf32() else 1e-4
    difference = (found.float() - expected).abs().max()
    return found.shape == expected.shape and bool(difference <= tolerance * expected.abs().max())
