"""The native choice of classes is that of PyTorch."""

from __future__ import annotations

import pytest
import torch

from network.native.classes import best_classes
from network.native.library import library, switched_off

pytestmark = pytest.mark.skipif(library() is None, reason="native code cannot be used here")


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("points", [0, 1, 700])
@pytest.mark.parametrize("classes", [2, 3, 9, 10, 17, 20, 256])
def test_classes_of_argmax(classes, points, threads) -> None:
    generator = torch.Generator().manual_seed(classes)
    # Few different numbers: often several classes are equally good.
    logits = torch.randint(-6, 7, (points, classes), generator=generator) / 2
    logits[::3] = torch.randn(len(logits[::3]), classes, generator=generator)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        found = best_classes(logits.T.contiguous().T)
    finally:
        torch.set_num_threads(before)
    assert found is not None
    assert found[0].dtype == torch.uint8 and found[1].dtype == torch.bool and found[1]
    rows = logits[:, 1:].tolist()
    assert found[0].tolist() == [row.index(max(row)) + 1 for row in rows]


@pytest.mark.parametrize("odd", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("place", [(0, 0), (0, 4), (63, 19), (64, 7), (101, 0), (101, 19)])
def test_one_odd_logit_is_found_and_disturbs_no_other_point(place, odd) -> None:
    logits = torch.randn(102, 20, generator=torch.Generator().manual_seed(0))
    expected = logits[:, 1:].argmax(1) + 1
    logits[place] = odd
    best, finite = best_classes(logits) or pytest.fail("not native")
    assert not finite and (best >= 1).all() and (best < 20).all()
    others = torch.arange(102) != place[0]
    assert torch.equal(best[others].long(), expected[others])
    if odd == odd and place[1]:
        assert best[place[0]] == logits[place[0], 1:].argmax() + 1


@pytest.mark.parametrize("classes", [2, 4, 9, 20])
@pytest.mark.parametrize("odd", [float("nan"), -float("inf")])
def test_without_any_number_the_class_is_one_that_exists(classes, odd) -> None:
    logits = torch.full((3, classes), odd)
    logits[1, 1:] = torch.tensor([odd, -float("inf")] * classes)[: classes - 1]
    best, finite = best_classes(logits) or pytest.fail("not native")
    assert not finite and ((best >= 1) & (best < classes)).all()


def test_what_is_for_pytorch() -> None:
    assert best_classes(torch.zeros(3, 4).double()) is None
    assert best_classes(torch.zeros(3, 1)) is None
    assert best_classes(torch.zeros(3, 4, device="meta")) is None
    with switched_off():
        assert best_classes(torch.zeros(3, 4)) is None
