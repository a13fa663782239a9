"""The losses, compared with published values, torch's losses and slow versions of their definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from network.models.losses import SegmentationLoss, class_weights, cross_entropy, distillation_loss, lovasz_softmax
from tests.support.golden import GOLDEN

CLASSES = 5


def rows(count: int, seed: int = 0, classes: int = CLASSES) -> tuple[Tensor, Tensor]:
    """Draws logits that require gradients, and labels."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(count, classes, generator=generator, dtype=torch.float64)
    return logits.requires_grad_(), torch.randint(classes, (count,), generator=generator)


def slow_lovasz(logits: Tensor, labels: Tensor) -> Tensor:
    """Computes the loss class by class and point by point, from the Jaccard loss of the set of mispredicted points."""
    kept = labels != 0
    probabilities, classes = logits[kept].softmax(1), labels[kept].tolist()
    losses = []
    for c in sorted(set(classes)):
        truth = {i for i, label in enumerate(classes) if label == c}
        errors = [(1 - p if i in truth else p) for i, p in enumerate(probabilities[:, c])]
        order = sorted(range(len(errors)), key=lambda i: -errors[i].item())
        loss, before = torch.zeros((), dtype=logits.dtype), 0.0
        for count in range(1, len(order) + 1):
            wrong = set(order[:count])
            jaccard_loss = 1 - len(truth - wrong) / len(truth | wrong)
            loss = loss + errors[order[count - 1]] * (jaccard_loss - before)
            before = jaccard_loss
        losses.append(loss)
    return torch.stack(losses).mean()


@pytest.mark.parametrize("case", [0, 1, 2])
def test_lovasz_against_published_values_and_gradients(case) -> None:
    with np.load(GOLDEN / "losses_schedule_metrics.npz") as file:
        logits, labels, loss, gradient = (file[f"lovasz{case}_{k}"] for k in ("logits", "labels", "loss", "grad"))
    leaf = torch.from_numpy(logits).requires_grad_()
    found = lovasz_softmax(leaf, torch.from_numpy(labels))
    found.backward()
    assert found.item() == pytest.approx(loss.item(), rel=1e-6)
    assert leaf.grad is not None
    assert np.abs(leaf.grad.numpy() - gradient).max() < 1e-5 * np.abs(gradient).max()


@pytest.mark.parametrize("count", [1, 2, 3, 40])
def test_lovasz_against_its_definition(count) -> None:
    logits, labels = rows(count, seed=count)
    labels[0] = 3
    found, expected = lovasz_softmax(logits, labels), slow_lovasz(logits, labels)
    assert found.item() == pytest.approx(expected.item(), rel=1e-12)
    (gradient,), (wanted,) = (torch.autograd.grad(loss, logits) for loss in (found, expected))
    assert torch.allclose(gradient, wanted, rtol=1e-10, atol=1e-14)


def test_lovasz_of_certain_predictions_is_one_minus_iou() -> None:
    """The Lovasz extension equals the Jaccard loss on its vertices."""
    _, labels = rows(200)
    predicted = rows(200, seed=1)[1]
    kept = labels != 0
    ious = []
    for c in labels[kept].unique():
        hit, said = (labels[kept] == c), (predicted[kept] == c)
        ious.append((hit & said).sum() / (hit | said).sum())
    loss = lovasz_softmax(1000.0 * F.one_hot(predicted, CLASSES), labels)
    assert loss.item() == pytest.approx(1 - torch.stack(ious).mean().item(), rel=1e-6)


def test_ignored_points_change_nothing() -> None:
    logits, labels = rows(60)
    kept = labels != 0
    assert 0 < kept.sum() < 60
    for loss in (lovasz_softmax, lambda x, y: cross_entropy(x, y, None)):
        whole, part = loss(logits, labels), loss(logits[kept], labels[kept])
        assert whole.item() == pytest.approx(part.item(), rel=1e-12)
        (gradient,) = torch.autograd.grad(whole, logits)
        assert (gradient[~kept] == 0).all() and (gradient[kept] != 0).any()


CORNERS = {
    "none": [],
    "one": [3],
    "one ignored": [0],
    "all ignored": [0, 0, 0],
    "one class": [2, 2, 2],
    "all but one ignored": [0, 4, 0],
    "a class that weighs nothing": [4, 4],
}


@pytest.mark.parametrize("corner", CORNERS)
@pytest.mark.parametrize("size", [0.0, 1.0, 1e4])
@pytest.mark.parametrize("weights", [None, class_weights([9, 1, 2, 3, 0])], ids=["plain", "weighted"])
def test_corner_cases_are_finite_forward_and_backward(corner, size, weights) -> None:
    labels = torch.tensor(CORNERS[corner], dtype=torch.int64)
    leaf = (size * torch.randn(len(labels), CLASSES, generator=torch.Generator().manual_seed(1))).requires_grad_()
    criterion = SegmentationLoss(weights)
    for loss in (*criterion.terms(leaf, labels), criterion(leaf, labels, 0.5), distillation_loss(leaf, leaf.flip(0))):
        assert loss.shape == () and loss.isfinite()
        (gradient,) = torch.autograd.grad(loss, leaf, retain_graph=True)
        assert gradient.isfinite().all()
    if not labels.any():
        loss = criterion(leaf, labels)
        assert loss.item() == 0
        assert (torch.autograd.grad(loss, leaf)[0] == 0).all()


def test_cross_entropy_against_torch() -> None:
    logits, labels = rows(80)
    weights = torch.tensor([0.0, 1.0, 2.5, 0.1, 3.0], dtype=torch.float64)
    for given in (None, weights):
        expected = F.cross_entropy(logits, labels, given, ignore_index=0)
        found = cross_entropy(logits, labels, given)
        assert found.item() == pytest.approx(expected.item(), rel=1e-12)
        (gradient,), (wanted,) = (torch.autograd.grad(loss, logits) for loss in (found, expected))
        assert torch.allclose(gradient, wanted)


def test_class_weights() -> None:
    counts = [7, 1000, 8, 0, 125]
    found = class_weights(counts)
    # (max / n)^(1/3); class 0 is ignored whatever its count, class 3 never occurs.
    assert found.tolist() == pytest.approx([0, 1, 5, 0, 2], rel=1e-6)
    assert found.dtype == torch.float32
    for extreme in ([0] * 4, [5, 0, 0, 0], [0, 1, 10**12, 3], [0, 1e-30, 1, 1]):
        assert class_weights(extreme).isfinite().all()


def test_segmentation_loss_adds_its_terms() -> None:
    logits, labels = rows(50)
    criterion = SegmentationLoss(None)
    expected = F.cross_entropy(logits, labels, ignore_index=0) + 0.3 * slow_lovasz(logits, labels)
    assert criterion(logits, labels, 0.3).item() == pytest.approx(expected.item(), rel=1e-10)
    ce, lovasz = criterion.terms(logits, labels, 0.3)
    assert (ce + lovasz).item() == pytest.approx(expected.item(), rel=1e-10)
    assert criterion(logits, labels).item() == pytest.approx((ce + lovasz / 0.3).item(), rel=1e-10)


def test_class_weights_are_no_part_of_a_checkpoint_but_move_along() -> None:
    criterion = SegmentationLoss(torch.ones(3))
    assert not criterion.state_dict()
    weights = criterion.to(torch.float64).weights
    assert weights is not None and weights.dtype == torch.float64


def test_losses_are_computed_in_float32_under_autocast() -> None:
    logits, labels = rows(300)
    narrow = logits.detach().bfloat16()
    criterion = SegmentationLoss(class_weights([0, 4, 3, 2, 1]))
    with torch.autocast("cpu", torch.bfloat16):
        found = criterion(narrow, labels), distillation_loss(narrow, narrow.flip(0))
    wide = narrow.float()
    for loss, expected in zip(found, (criterion(wide, labels), distillation_loss(wide, wide.flip(0))), strict=True):
        assert loss.dtype == torch.float32
        assert loss.item() == pytest.approx(expected.item(), rel=1e-6)


def test_distillation_is_the_mean_over_elements_and_teaches_one_way() -> None:
    student, _ = rows(7)
    teacher, _ = rows(7, seed=1)
    expected = 0.0
    for s, t in zip(student.softmax(1).tolist(), teacher.softmax(1).tolist(), strict=True):
        expected += sum(q * (math.log(q) - math.log(p)) for p, q in zip(s, t, strict=True))
    loss = distillation_loss(student, teacher)
    assert loss.item() == pytest.approx(expected / (7 * CLASSES), rel=1e-10)
    gradients = torch.autograd.grad(loss, [student, teacher], allow_unused=True)
    assert gradients[0] is not None and gradients[1] is None
    assert distillation_loss(student, student).item() == pytest.approx(0, abs=1e-15)


@pytest.mark.parametrize("weighted", [False, True])
def test_label_smoothing_is_that_of_torch_over_the_classes_that_count(weighted) -> None:
    """By targets in shares, and by torch's own key where the ignored class is ruled out."""
    torch.manual_seed(5)
    logits, labels = torch.randn(40, 6, dtype=torch.float64), torch.randint(0, 6, (40,))
    weights = torch.tensor([0.0, 1.0, 2.0, 0.5, 3.0, 1.5], dtype=torch.float64) if weighted else None
    counted = labels != 0
    shares = 0.8 * F.one_hot(labels, 6) + 0.2 / 5 * torch.tensor([0, 1, 1, 1, 1, 1])
    total = F.cross_entropy(logits[counted], shares[counted], weights, reduction="sum")
    mass = counted.sum() if weights is None else weights[labels[counted]].sum()
    torch.testing.assert_close(cross_entropy(logits, labels, weights, 0.2), total / mass)
    logits[:, 0] = -1e4
    own = F.cross_entropy(
        logits[:, 1:], labels - 1, None if weights is None else weights[1:], ignore_index=-1, label_smoothing=0.2
    )
    torch.testing.assert_close(cross_entropy(logits, labels, weights, 0.2), own)
    assert cross_entropy(logits, labels * 0, weights, 0.2) == 0
