"""Whole networks on the Triton backend, in Triton's interpreter, compared with those on the torch backend."""

from __future__ import annotations

import copy

import pytest
import torch

from network.models.losses import SegmentationLoss
from network.models.segmentation_network import SegmentationNetwork
from network.models.spvcnn import SPVCNN
from network.sparse import torch_backend
from tests.support.networks import CLASSES, make_batch, make_network_3d, randomize_norms, relative_error, with_ages
from tests.support.triton import interpreted_library, interpreted_modules

BACKEND = interpreted_modules()["triton_backend"].BACKEND


@pytest.fixture(autouse=True)
def interpreter():
    with interpreted_library():
        yield


def make(name: str) -> SegmentationNetwork:
    input_dims = 5 if name.endswith("age") else 4
    if name.startswith("baseline"):
        return make_network_3d((2, 4), input_dims=input_dims)
    torch.manual_seed(0)
    network = SPVCNN([4] * 9, CLASSES, 0.1, torch_backend.BACKEND, SegmentationLoss(None), input_dims=input_dims)
    network.dropout.p = 0.0
    randomize_norms(network)
    return network


def pair(name: str) -> tuple[SegmentationNetwork, SegmentationNetwork]:
    """Builds the same network on both backends."""
    plain = make(name)
    network = copy.deepcopy(plain)
    network.backend = BACKEND
    return network, plain


@pytest.mark.parametrize(("name", "lengths"), [("baseline", (30, 20)), ("spvcnn", (9, 6)), ("spvcnn with age", (5, 4))])
def test_logits(name, lengths) -> None:
    network, plain = pair(name)
    batch = make_batch(lengths, spread=0.3)
    batch = with_ages(batch) if name.endswith("age") else batch
    with torch.no_grad():
        assert relative_error(network.eval().predict(batch), plain.eval().predict(batch)) < 1e-5


def test_gradients() -> None:
    network, plain = pair("baseline")
    batch = make_batch((30, 20), spread=0.3)
    for model in (network.train(), plain.train()):
        model.training_losses(batch)["loss"].backward()
    scale = torch.stack([p.grad.norm() for p in plain.parameters() if p.grad is not None]).max()
    for (key, found), expected in zip(network.named_parameters(), plain.parameters(), strict=True):
        assert found.grad is not None and expected.grad is not None, key
        assert (found.grad - expected.grad).norm() < 1e-4 * expected.grad.norm() + 1e-6 * scale, key
