"""BatchNorm folded into convolutions: the results are the same, also after the weights have changed."""

from __future__ import annotations

import copy

import pytest
import torch

from network.sparse.layers import SparseConvNorm
from network.sparse.torch_backend import submanifold_map
from tests.network.sparse.test_convolution import VOXEL_SETS
from tests.support.networks import randomize_norms

KEYS = VOXEL_SETS["random"]
MAP = submanifold_map(KEYS, 3)
FEATURES = torch.randn(len(KEYS), 5, generator=torch.Generator().manual_seed(0))


def make_layer(kernel_size: int = 3) -> SparseConvNorm:
    torch.manual_seed(0)
    layer = SparseConvNorm(5, 7, kernel_size)
    randomize_norms(layer)
    return layer.eval()


def folded(layer: SparseConvNorm) -> torch.Tensor:
    with torch.no_grad():
        return layer(FEATURES, MAP if layer.kernel_size == 3 else None)


def one_after_the_other(layer: SparseConvNorm) -> torch.Tensor:
    with torch.no_grad():
        if layer.kernel_size == 1:
            return layer.norm(FEATURES @ layer.weight[0])
        return layer.norm(MAP.convolve(FEATURES, layer.weight))


@pytest.mark.parametrize("kernel_size", [1, 3])
def test_folded_is_the_same(kernel_size) -> None:
    layer = make_layer(kernel_size)
    assert torch.allclose(folded(layer), one_after_the_other(layer), atol=1e-5)
    with torch.enable_grad():
        assert torch.allclose(layer(FEATURES, MAP if kernel_size == 3 else None), folded(layer), atol=1e-5)


def step(layer: SparseConvNorm) -> None:
    optimizer = torch.optim.SGD(layer.parameters(), lr=1.0)
    layer(FEATURES, MAP).square().sum().backward()
    optimizer.step()


def train_batch(layer: SparseConvNorm) -> None:
    layer.train()(FEATURES, MAP)
    layer.eval()


def swap_data(layer: SparseConvNorm) -> None:
    layer.norm.weight.data = layer.norm.weight.data * 2


CHANGES = {
    "a step in evaluation mode": step,
    "statistics of a batch": train_batch,
    "other weights loaded": lambda layer: layer.load_state_dict(
        {name: tensor + 1 if tensor.is_floating_point() else tensor for name, tensor in layer.state_dict().items()}
    ),
    "data swapped": swap_data,
    "statistics set": lambda layer: layer.norm.running_var.mul_(3),
    "another type": lambda layer: layer.bfloat16().float(),
}


@pytest.mark.parametrize("change", CHANGES)
def test_folded_weights_follow_every_change(change) -> None:
    layer = make_layer()
    before = folded(layer)
    CHANGES[change](layer)
    after = folded(layer)
    assert torch.allclose(after, one_after_the_other(layer), atol=1e-4)
    assert not torch.equal(after, before)


def test_a_copy_folds_its_own_weights() -> None:
    layer = make_layer()
    before = folded(layer)
    other = copy.deepcopy(layer)
    assert not other._folded
    with torch.no_grad():
        other.weight.mul_(2)
    assert torch.allclose(folded(other), one_after_the_other(other), atol=1e-5)
    assert torch.equal(folded(layer), before)


def test_folded_once_for_many_scans_in_each_type() -> None:
    """Evaluations that alternate between bf16 and fp32 keep each other's folded weights."""
    layer = make_layer()

    def run() -> list[tuple[torch.dtype | int, ...]]:
        folded(layer)
        with torch.autocast("cpu", torch.bfloat16):
            assert folded(layer).dtype == torch.bfloat16
        return [(dtype, made.tensors[0].dtype, *map(id, made.tensors)) for dtype, made in layer._folded.items()]

    first = run()
    assert [entry[:2] for entry in first] == [(t, t) for t in (torch.float32, torch.bfloat16)]
    assert run() == first
    with torch.no_grad():
        layer.norm.weight.mul_(3)
    folded(layer)
    assert list(layer._folded) == [torch.float32], "those of another type are out of date, too"


def test_no_second_copy_of_the_weights_in_a_training() -> None:
    layer = make_layer()
    folded(layer)
    layer.training = layer.norm.training = True  # as Lightning goes back to training, without `train()`
    layer(FEATURES, MAP)
    assert not layer._folded


def test_weights_made_in_inference_mode() -> None:
    with torch.inference_mode():
        layer = make_layer()
        assert torch.allclose(layer(FEATURES, MAP), one_after_the_other(layer), atol=1e-5)
