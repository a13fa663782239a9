"""The native derivative of the Lovasz extension is that of PyTorch, to the last bit."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from network.models.losses import lovasz_softmax
from network.native.library import library, switched_off
from network.native.lovasz import lovasz_gradient

pytestmark = pytest.mark.skipif(library() is None, reason="native code cannot be used here")


def gradient_of_loss(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    leaf = logits.clone().requires_grad_()
    loss = lovasz_softmax(leaf, labels)
    loss.backward()
    assert leaf.grad is not None
    return loss.detach(), leaf.grad


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("rows", [0, 1, 2, 50, 3000, 70_000])
@pytest.mark.parametrize("spread", [0.0, 1.0, 30.0], ids=["all equal", "various", "many certain"])
def test_loss_and_gradient_are_those_of_pytorch(rows, spread, threads) -> None:
    generator = torch.Generator().manual_seed(rows)
    logits = spread * torch.randn(rows, 7, generator=generator).round(decimals=1)  # so that errors are often equal
    labels = torch.randint(7, (rows,), generator=generator) // 2 * 2  # some are ignored, some classes do not occur
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        found = gradient_of_loss(logits, labels)
        with switched_off():
            expected = gradient_of_loss(logits, labels)
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


def test_each_row_adds_the_change_of_the_jaccard_loss() -> None:
    """Row by row, as sets; a NaN is the greatest error."""
    errors = torch.tensor([[0.2, 0.9, 0.2, 0.0, float("nan"), 1.0]])
    truth, joined, expected, before = {0, 1, 5}, set(), torch.zeros(1, 6), 0.0
    for row in (4, 5, 1, 0, 2, 3):
        joined.add(row)
        loss = 1 - len(truth - joined) / len(truth | joined)
        expected[0, row], before = loss - before, loss
    foreground = torch.tensor([[float(row in truth) for row in range(6)]])
    found = lovasz_gradient(errors.T.contiguous().T, foreground)
    assert found is not None and torch.allclose(found, expected, atol=1e-7)


def test_what_is_for_pytorch() -> None:
    assert lovasz_gradient(torch.zeros(2, 3).double(), torch.zeros(2, 3).double()) is None
    with switched_off():
        assert lovasz_gradient(torch.zeros(2, 3), torch.zeros(2, 3)) is None
