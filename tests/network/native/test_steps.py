"""Steps of an optimiser on layers that are computed in C++: each forward pass takes the weights of its own step."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from network.native.library import library, switched_off
from network.ops.linear import Linear
from network.sparse.coordinates import pack
from network.sparse.layers import SparseConv3d
from network.sparse.native_backend import BACKEND

pytestmark = pytest.mark.skipif(library() is None, reason="no native code on this machine")


class _Layers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.linear = SparseConv3d(16, 64, 3), Linear(64, 40)
        cells = torch.arange(400)
        keys = pack(torch.zeros_like(cells), cells % 4, cells // 4 % 10, cells // 40).sort().values
        self.kernel_map = BACKEND.submanifold_map(keys, 3)

    def forward(self, features: Tensor) -> Tensor:
        return self.linear(self.convolution(features, self.kernel_map))


def _losses(precision: torch.dtype, kind: type[torch.optim.Optimizer], rate: float) -> list[float]:
    torch.manual_seed(0)
    layers, features = _Layers(), torch.randn(400, 16)
    optimizer = kind(layers.parameters(), lr=rate, fused=True)  # type: ignore[call-arg]
    losses = []
    for _ in range(4):
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == torch.bfloat16):
            loss = (layers(features).float() - 1).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


@pytest.mark.parametrize(("kind", "rate"), [(torch.optim.SGD, 0.5), (torch.optim.Adam, 0.02)])
@pytest.mark.parametrize(("precision", "tolerance"), [(torch.float32, 1e-4), (torch.bfloat16, 0.02)])
def test_losses_over_steps_of_a_fused_optimiser(precision, tolerance, kind, rate) -> None:
    found = _losses(precision, kind, rate)
    with switched_off():
        wanted = _losses(precision, kind, rate)
    assert wanted[-1] < 0.9 * wanted[0]
    assert found == pytest.approx(wanted, rel=tolerance)
