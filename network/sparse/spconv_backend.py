"""The backend that uses spconv 2.x for submanifold layers on CUDA, with the interface and weights of `torch_backend`.

`model_params.sparse_backend` chooses it: `spconv`, whose wheels are named in requirements-cuda.txt, or `spconv-triton`,
a package with the same interface that does not depend on the CUDA version. spconv is used on CUDA only: the CPU wheel
of spconv 2.3.8 returns wrong rows at random on more than one thread and has no backward pass.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from network.sparse import torch_backend
from network.sparse.coordinates import unpack
from network.sparse.layers import KernelMap, SparseBackend, compute_dtype, finish
from utils.errors import UserError


@dataclass(frozen=True, eq=False)
class SpconvMap:
    """A kernel map that holds spconv's index pairs of one voxel set; the first layer builds them, all share them.

    Attributes:
        indices: (V, 4) int32 (batch, z, y, x), shifted to start at 0.
        spatial_shape: extent (z, y, x), voxels.
        batch_size: number of scans B.
        package: "spconv" or "spconv_triton".
        indice_dict: the dict in which spconv keeps the pairs.
    """

    indices: Tensor
    spatial_shape: list[int]
    batch_size: int
    package: str = "spconv"
    indice_dict: dict[str, Any] = field(default_factory=dict)

    def convolve(
        self,
        features: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        residual: Tensor | None = None,
        slope: float = 1.0,
    ) -> Tensor:
        """Computes what `PairMap.convolve` does, for 3x3x3 kernels."""
        dtype = wanted = compute_dtype(features)
        if dtype == torch.bfloat16 and self.package == "spconv":
            dtype = torch.float32  # spconv 2.3.8 has no kernels for bf16
        _, c_in, c_out = weight.shape
        # spconv 2.x stores [out, kz, ky, kx, in]
        spconv_weight = weight.to(dtype).view(3, 3, 3, c_in, c_out).permute(4, 0, 1, 2, 3).contiguous()
        sparse = _spconv(self.package).SparseConvTensor(
            features.to(dtype), self.indices, self.spatial_shape, self.batch_size, indice_dict=self.indice_dict
        )
        layer = _weightless_layer(self.package, c_in, c_out)
        out = torch.func.functional_call(layer, {"weight": spconv_weight}, (sparse,)).features.to(wanted)
        return finish(out if bias is None else out + bias.to(out.dtype), residual, slope)

    def transposed(self) -> SpconvMap:
        """Returns this map: a 3x3x3 submanifold convolution and its transpose have the same map."""
        return self


def submanifold_map(keys: Tensor, kernel_size: int, package: str = "spconv") -> KernelMap:
    """Builds the map of a submanifold convolution of kernel size 3 for keys (V,) on a CUDA device.

    Raises:
        UserError: the keys are not on a CUDA device.
        ValueError: another kernel size.
    """
    if not keys.is_cuda:
        raise UserError(
            f"model_params.sparse_backend: {_NAMES[package]} runs on CUDA only; set model_params.sparse_backend=torch"
        )
    if kernel_size != 3:
        raise ValueError(f"the spconv backend takes kernel size 3, got {kernel_size}")
    if not len(keys):
        return torch_backend.submanifold_map(keys, kernel_size)  # spconv needs at least one voxel
    return map_of(keys, package)


def map_of(keys: Tensor, package: str = "spconv") -> SpconvMap:
    """Builds the map of (V,) int64 sorted distinct keys, V > 0."""
    coordinates = torch.stack(unpack(keys), dim=1)
    lowest = coordinates.amin(0)
    lowest[0] = 0
    coordinates = coordinates - lowest
    batch, depth, height, width = (coordinates.amax(0) + 1).tolist()
    return SpconvMap(coordinates.int(), [depth, height, width], batch, package)


_NAMES = {"spconv": "spconv", "spconv_triton": "spconv-triton"}
_INSTALL = {
    "spconv": "install the line of requirements-cuda.txt that fits your CUDA version",
    "spconv_triton": "pip install spconv-triton==1.0.0",
}
_layers: dict[tuple[str, int, int], nn.Module] = {}


def _weightless_layer(package: str, c_in: int, c_out: int) -> nn.Module:
    """Returns a spconv layer without memory for a weight, which is passed at each call."""
    if (package, c_in, c_out) not in _layers:
        with torch.device("meta"):
            layer = _spconv(package).SubMConv3d(c_in, c_out, 3, bias=False, indice_key="3x3x3")
        _layers[package, c_in, c_out] = layer
    return _layers[package, c_in, c_out]


def _spconv(package: str) -> Any:
    try:
        return importlib.import_module(f"{package}.pytorch")
    except ImportError as error:
        raise UserError(
            f"model_params.sparse_backend: {_NAMES[package]} is not installed; {_INSTALL[package]}, or set "
            "model_params.sparse_backend=auto"
        ) from error


# The strided maps of the voxel models come from the torch backend.
_OF_TRITON = partial(submanifold_map, package="spconv_triton")
BACKEND = SparseBackend("spconv", submanifold_map, torch_backend.halving_map)
TRITON_PACKAGE = SparseBackend("spconv-triton", _OF_TRITON, torch_backend.halving_map)
