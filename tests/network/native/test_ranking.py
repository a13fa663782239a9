"""The native ranks of numbers are those of NumPy and PyTorch, to the last bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from network.native.library import library, switched_off
from network.native.ranking import rank
from network.ops.distinct import Distinct, Ranking, collect, rank_each

pytestmark = pytest.mark.skipif(library() is None, reason="native code cannot be used here")

HIGHEST, LOWEST = torch.iinfo(torch.int64).max, torch.iinfo(torch.int64).min
GENERATOR = torch.Generator().manual_seed(0)


def drawn(low: int, high: int, count: int) -> Tensor:
    return torch.randint(low, high, (count,), generator=GENERATOR)


LISTS = {
    "none": drawn(0, 1, 0),
    "one": torch.tensor([LOWEST]),
    "two equal": torch.tensor([HIGHEST, HIGHEST]),
    "two": torch.tensor([HIGHEST, LOWEST]),
    "all equal": torch.full((5000,), -7),
    "two values": drawn(0, 2, 5000),
    "around zero": drawn(-40, 40, 3000),
    "any": drawn(LOWEST, HIGHEST, 4000),
    "all different": torch.randperm(3000, generator=GENERATOR) - 1500,
    "descending": torch.arange(3000, 0, -1),
    "extremes": torch.tensor([0, HIGHEST, LOWEST, -1, 1, HIGHEST, 0, LOWEST]),
    "only high bits": drawn(0, 50, 2000) << 57,
    "the lowest and the highest bit": drawn(0, 2, 1500) + (drawn(-1, 1, 1500) << 63),
    "keys of a batch": sum((drawn(0, 90, 20000) << bit for bit in (0, 16, 32, 48)), torch.zeros(20000).long()),
    "every second bit": sum((drawn(0, 2, 3000) << bit for bit in range(0, 64, 2)), torch.zeros(3000).long()),
    "few bits far apart": sum((drawn(0, 2, 3000) << bit for bit in (0, 3, 9, 33, 41, 62)), torch.zeros(3000).long()),
    "strided": drawn(0, 99, 4000)[::3],
}


@pytest.mark.parametrize("name", LISTS)
def test_ranks_of_numpy(name) -> None:
    numbers = LISTS[name]
    values, inverse, counts = np.unique(numbers.numpy(), return_inverse=True, return_counts=True)
    (found,) = rank([numbers]) or []
    assert found.values.numpy().tolist() == values.tolist()
    assert found.inverse.numpy().tolist() == inverse.reshape(-1).tolist()
    assert found.ends.diff().numpy().tolist() == counts.tolist() and found.ends[0] == 0
    assert found.order.numpy().tolist() == np.argsort(numbers.numpy(), kind="stable").tolist()


def columns(distinct: Distinct) -> tuple[Tensor, ...]:
    return distinct.values, distinct.inverse, distinct.order, distinct.ends


@pytest.mark.parametrize("threads", [1, 2])
def test_all_lists_at_once_as_pytorch_ranks_them(threads) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        found = collect(rank_each(LISTS.values()))
    finally:
        torch.set_num_threads(before)
    with switched_off():
        expected = collect(map(Ranking, LISTS.values()))
    for ours, plain in zip(found, expected, strict=True):
        for mine, theirs in zip(columns(ours), columns(plain), strict=True):
            assert mine.dtype == theirs.dtype == torch.int64
            assert torch.equal(mine, theirs)
    assert rank([]) == []


def test_switched_off_nothing_is_ranked_natively() -> None:
    with switched_off():
        assert rank([LISTS["any"]]) is None
