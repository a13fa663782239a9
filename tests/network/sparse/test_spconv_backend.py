"""The spconv backend's use of spconv, with a dense stand-in here and with spconv itself on CUDA."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch

from network.sparse import spconv_backend, torch_backend
from network.sparse.coordinates import pack
from utils.errors import UserError


class DenseSubMConv3d(torch.nn.Module):
    """A stand-in for SubMConv3d as documented, by a dense convolution: weight [out, kz, ky, kx, in]."""

    def __init__(self, c_in: int, c_out: int, kernel_size: int, bias: bool, indice_key: str) -> None:
        super().__init__()
        assert not bias and indice_key
        self.weight = torch.nn.Parameter(torch.empty(c_out, kernel_size, kernel_size, kernel_size, c_in))

    def forward(self, x):
        dense = x.features.new_zeros(x.batch_size, x.features.shape[1], *x.spatial_shape)
        b, z, y, i = x.indices.long().unbind(1)
        dense[b, :, z, y, i] = x.features
        out = torch.nn.functional.conv3d(dense, self.weight.permute(0, 4, 1, 2, 3), padding=1)
        return SimpleNamespace(features=out[b, :, z, y, i])


class StandInTensor(SimpleNamespace):
    def __init__(self, features, indices, spatial_shape, batch_size, indice_dict) -> None:
        assert indices.dtype == torch.int32 and indices.min() >= 0
        assert features.dtype != torch.bfloat16
        super().__init__(features=features, indices=indices, spatial_shape=spatial_shape, batch_size=batch_size)


def random_keys(count: int) -> torch.Tensor:
    axes = [torch.randint(-4, 5, (count,)) for _ in range(3)]
    return torch.unique(pack(torch.randint(0, 2, (count,)), *axes))


@pytest.fixture
def stand_in(monkeypatch) -> None:
    """Installs a dense stand-in for spconv, which refuses bf16 as spconv 2.3.8 does."""
    package = ModuleType("spconv.pytorch")
    package.SubMConv3d, package.SparseConvTensor = DenseSubMConv3d, StandInTensor  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "spconv", ModuleType("spconv"))
    monkeypatch.setitem(sys.modules, "spconv.pytorch", package)
    sys.modules["spconv"].pytorch = package  # type: ignore[attr-defined]
    monkeypatch.setattr(spconv_backend, "_layers", {})


def test_layout_shift_and_gradients_agree_with_the_reference(stand_in) -> None:
    keys = random_keys(200)
    results = []
    for kernel_map in (torch_backend.submanifold_map(keys, 3), spconv_backend.map_of(keys)):
        torch.manual_seed(0)
        features, weight, bias = torch.randn(len(keys), 5), torch.randn(27, 5, 7), torch.randn(7)
        leaves = [tensor.requires_grad_() for tensor in (features, weight, bias)]
        out = kernel_map.convolve(features, weight, bias)
        out.backward(torch.ones_like(out).cumsum(0))
        results.append([out, *(leaf.grad for leaf in leaves)])
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-3)


def test_bf16_is_computed_in_fp32(stand_in) -> None:
    keys = random_keys(200)
    features, weight = torch.randn(len(keys), 5).bfloat16(), torch.randn(27, 5, 7)
    exact = torch_backend.submanifold_map(keys, 3).convolve(features.float(), weight)
    found = spconv_backend.map_of(keys).convolve(features, weight)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found, exact.bfloat16(), rtol=1e-2, atol=1e-2)


def test_refused_on_the_cpu() -> None:
    with pytest.raises(UserError, match="CUDA only"):
        spconv_backend.submanifold_map(random_keys(10), 3)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="spconv runs on CUDA")
def test_spconv_itself_agrees_with_the_reference() -> None:
    pytest.importorskip("spconv.pytorch")
    keys = random_keys(500).cuda()
    features, weight = torch.randn(len(keys), 16, device="cuda"), torch.randn(27, 16, 32, device="cuda") / 20
    expected = torch_backend.submanifold_map(keys, 3).convolve(features, weight)
    found = spconv_backend.submanifold_map(keys, 3).convolve(features, weight)
    torch.testing.assert_close(found, expected, rtol=2e-3, atol=2e-3)
