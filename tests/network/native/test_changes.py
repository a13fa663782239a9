"""What is made of weights and kept is made again after every change that a training or its validation can make."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from network.native.library import library, switched_off
from network.ops import linear as layers
from network.ops.linear import ConcatLinear, Linear
from network.ops.mlp import MLP
from network.sparse import native_backend
from network.sparse.layers import BatchNorm, ResidualBlock
from tests.support.networks import randomize_norms, relative_error

pytestmark = pytest.mark.skipif(library() is None, reason="no native code on this machine")


@pytest.fixture(autouse=True)
def native_always(monkeypatch) -> None:
    """Small products are computed in C++, too."""
    monkeypatch.setattr(layers, "LEAST_WORK", 0)


class Small(nn.Module):
    """Every layer that keeps something; the first linear layer of the chain has no norm to fold in."""

    def __init__(self) -> None:
        super().__init__()
        self.block = ResidualBlock(6, 9)
        self.mlp = MLP(nn.Linear(9, 12), nn.ReLU(), BatchNorm(12), nn.Linear(12, 7))
        self.linear, self.concat = Linear(7, 8), ConcatLinear(8 + 9, 5)

    def forward(self, features: Tensor) -> Tensor:
        middle = self.block(features, native_backend.submanifold_map(torch.arange(0, 60, 2), 3))
        return self.concat((self.linear(self.mlp(middle)), None), (middle, None))


def step(network: nn.Module, training: bool) -> None:
    """One step of a fused optimiser, which leaves the versions of the weights as they are."""
    network.train(training)
    network(torch.arange(180.0).sin().view(30, 6)).square().mean().backward()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.5, fused=True)
    torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    network.eval()


def scale_data(network: nn.Module) -> None:
    for parameter in network.parameters():
        parameter.data.mul_(2)
    network.eval()


def other_memory(network: nn.Module) -> None:
    """The second tensor tends to lie where the first one was."""
    for parameter in network.parameters():
        for _ in range(2):
            parameter.data = torch.full(parameter.shape, 0.3)


def in_inference_mode(network: nn.Module) -> None:
    with torch.inference_mode():
        for parameter in network.parameters():
            parameter.mul_(2)


CHANGES = {
    "a step in training": lambda network: step(network, training=True),
    "a step in evaluation": lambda network: step(network, training=False),
    "through .data, then eval()": scale_data,
    "other memory": other_memory,
    "in inference mode": in_inference_mode,
}


@pytest.mark.parametrize("change", CHANGES)
def test_an_evaluation_computes_with_the_weights_of_now(change) -> None:
    torch.manual_seed(0)
    network, features = Small(), torch.randn(30, 6)
    randomize_norms(network)
    network.eval()
    with torch.no_grad():
        before = network(features)
    CHANGES[change](network)
    with torch.no_grad():
        found = network(features)
        with switched_off():
            expected = copy.deepcopy(network)(features)  # a copy starts with nothing kept
    assert relative_error(expected, before) > 1e-2
    assert relative_error(found, expected) < 1e-5
