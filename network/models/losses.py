"""Cross-entropy with class weights, Lovasz-softmax, and their sum."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

IGNORED = 0


def class_weights(counts: Sequence[float]) -> Tensor:
    """Weights (max(f) / f_c)^(1/3) of the class frequencies f; the ignored class and empty classes weigh 0.

    Args:
        counts: points per class in the training set, K numbers; entry 0 is the ignored class.
    """
    frequency = torch.tensor(counts, dtype=torch.float64)
    frequency[IGNORED] = 0
    weights = (frequency.max() / frequency.clamp(min=1e-300)) ** (1 / 3)
    return torch.where(frequency > 0, weights, 0.0).float()


def cross_entropy(logits: Tensor, labels: Tensor, weights: Tensor | None) -> Tensor:
    """Weighted mean cross-entropy over the rows that are not ignored; 0 when all are.

    Args:
        logits: (R, K).
        labels: (R,) int64; 0 is ignored.
        weights: (K,) or None.
    """
    total = F.cross_entropy(logits, labels, weights, ignore_index=IGNORED, reduction="sum")
    counted = labels != IGNORED
    mass = counted.sum() if weights is None else (weights[labels] * counted).sum()
    return total / mass.to(total.dtype).clamp(min=torch.finfo(total.dtype).tiny)


def lovasz_softmax(logits: Tensor, labels: Tensor) -> Tensor:
    """Lovasz-softmax (Berman et al., CVPR 2018), mean over the classes present, all classes at once.

    Ignored rows get error 0 and no foreground: they sort to the end, where they change nothing.

    Args:
        logits: (R, K) fp32 or fp64; R may be 0 or 1.
        labels: (R,) int64; 0 is ignored.
    """
    classes = torch.arange(logits.shape[1], device=logits.device)[:, None]
    counted = labels != IGNORED
    foreground = ((labels == classes) & counted).to(logits.dtype)  # (K, R)
    present = foreground.any(1)
    probabilities = logits.softmax(1).T
    if logits.device.type == "cpu":
        # Absent classes do not count, so they need not be sorted either. A GPU would have to wait for their number.
        chosen = present.nonzero()[:, 0]
        foreground, probabilities, present = foreground[chosen], probabilities[chosen], present[chosen]
    errors = (foreground - probabilities).abs() * counted
    # Along the errors the loss is piecewise linear: its value is errors * gradient, and so is its derivative.
    per_class = (errors * _lovasz_gradient(errors.detach(), foreground)).sum(1)
    return (per_class * present).sum() / present.sum().clamp(min=1)


@torch.no_grad()
def _lovasz_gradient(errors: Tensor, foreground: Tensor) -> Tensor:
    """The derivative of the Lovasz extension by each error; both (K', R), `foreground` 0/1."""
    order = _descending(errors)
    gradient = _jaccard_gradient(foreground.gather(1, order))
    return torch.empty_like(gradient).scatter_(1, order, gradient)


def _descending(errors: Tensor) -> Tensor:
    """(K', R) the order of the non-negative errors (K', R) of each row, largest first."""
    if errors.device.type != "cpu" or not len(errors):
        return errors.argsort(dim=1, descending=True)
    # As integers the bits of non-negative numbers have the same order, and ascending integers, row by row, are sorted
    # eight times as fast.
    bits = errors.contiguous().view({4: torch.int32, 8: torch.int64}[errors.element_size()])
    return torch.stack([(torch.iinfo(bits.dtype).max - row).argsort() for row in bits])


@torch.no_grad()
def _jaccard_gradient(foreground: Tensor) -> Tensor:
    """Discrete derivative of the Jaccard loss along sorted errors; (K', R) 0/1 -> (K', R)."""
    total = foreground.sum(1, keepdim=True)
    intersection = total - foreground.cumsum(1)
    union = total + (1 - foreground).cumsum(1)
    jaccard = 1 - intersection / union
    jaccard[:, 1:] -= jaccard[:, :-1].clone()
    return jaccard


class SegmentationLoss(nn.Module):
    """Weighted cross-entropy + lambda_lovasz * Lovasz-softmax, both ignoring class 0."""

    weights: Tensor | None

    def __init__(self, weights: Tensor | None) -> None:
        super().__init__()
        # Not part of the state dict: the weights follow from the config.
        self.register_buffer("weights", weights, persistent=False)

    def forward(self, logits: Tensor, labels: Tensor, lambda_lovasz: float = 1.0) -> Tensor:
        """(R, K) logits and (R,) labels -> scalar; computed in fp32 or better."""
        return sum(self.terms(logits, labels, lambda_lovasz), logits.new_zeros(()))

    def terms(self, logits: Tensor, labels: Tensor, lambda_lovasz: float = 1.0) -> tuple[Tensor, Tensor]:
        """(cross-entropy, lambda_lovasz * Lovasz), scalars."""
        with torch.autocast(logits.device.type, enabled=False):
            logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
            return cross_entropy(logits, labels, self.weights), lambda_lovasz * lovasz_softmax(logits, labels)


def distillation_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """KL(teacher || student), the mean over all elements (not per row), the teacher detached; 0 without rows.

    Args:
        student, teacher: (R, K) logits.
    """
    with torch.autocast(student.device.type, enabled=False):
        wide = torch.promote_types(student.dtype, torch.float32)
        divergence = F.kl_div(
            F.log_softmax(student.to(wide), dim=1), F.softmax(teacher.detach().to(wide), dim=1), reduction="sum"
        )
    return divergence / max(student.numel(), 1)
