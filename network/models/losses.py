"""The losses: cross-entropy with class weights, Lovasz-softmax, their sum, and the distillation loss.

R is the number of rows that are compared: points or voxels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from network.native.lovasz import lovasz_gradient as native_gradient

IGNORED = 0


def class_weights(counts: Sequence[float]) -> Tensor:
    """Computes the class weights (max(f) / f_c)^(1/3) from frequencies f; the ignored class and empty classes weigh 0.

    Args:
        counts: points per class in the training set, K numbers; entry 0 is the ignored class.

    Returns:
        (K,) float32.
    """
    frequency = torch.tensor(counts, dtype=torch.float64)
    frequency[IGNORED] = 0
    weights = (frequency.max() / frequency.clamp(min=1e-300)) ** (1 / 3)
    return torch.where(frequency > 0, weights, 0.0).float()


def cross_entropy(logits: Tensor, labels: Tensor, weights: Tensor | None, smoothing: float = 0.0) -> Tensor:
    """Computes the weighted mean cross-entropy over the rows that are not ignored; 0 if all rows are ignored.

    Label smoothing (Szegedy et al., CVPR 2016) spreads a share of each target evenly over the K - 1 classes that a
    point can have. The ignored class gets none of it: no point is ever to be segmented as that. With class weights, it
    is what torch's cross-entropy with `label_smoothing` computes over those classes.

    Args:
        logits: (R, K).
        labels: (R,) int64; 0 is ignored.
        weights: (K,) weight of each class, or None for equal weights.
        smoothing: the share of each target that is spread.
    """
    total = F.cross_entropy(logits, labels, weights, ignore_index=IGNORED, reduction="sum")
    counted = labels != IGNORED
    mass = counted.sum() if weights is None else (weights[labels] * counted).sum()
    if smoothing:
        per_class = -logits.log_softmax(1)[:, IGNORED + 1 :]
        if weights is not None:
            per_class = per_class * weights[IGNORED + 1 :]
        total = (1 - smoothing) * total + smoothing * (per_class.mean(1) * counted).sum()
    return total / mass.to(total.dtype).clamp(min=torch.finfo(total.dtype).tiny)


def lovasz_softmax(logits: Tensor, labels: Tensor) -> Tensor:
    """Computes the Lovasz-softmax loss (Berman et al., CVPR 2018), the mean over the classes that occur in `labels`.

    All classes are computed at once. Ignored rows get error 0 and no foreground: they are sorted to the end, where they
    change nothing.

    Args:
        logits: (R, K) float32 or float64; R may be 0 or 1.
        labels: (R,) int64; 0 is ignored.
    """
    classes = torch.arange(logits.shape[1], device=logits.device)[:, None]
    counted = labels != IGNORED
    foreground = ((labels == classes) & counted).to(logits.dtype)  # (K, R)
    present = foreground.any(1)
    probabilities = logits.softmax(1).T
    if logits.device.type == "cpu":
        # Absent classes do not count, so they need not be sorted either. On a GPU the host would wait for their number.
        chosen = present.nonzero()[:, 0]
        foreground, probabilities, present = foreground[chosen], probabilities[chosen], present[chosen]
    errors = (foreground - probabilities).abs() * counted
    # The loss is piecewise linear in the errors: its value is the sum of errors * gradient, with the same derivative.
    per_class = (errors * _lovasz_gradient(errors.detach(), foreground)).sum(1)
    return (per_class * present).sum() / present.sum().clamp(min=1)


@torch.no_grad()
def _lovasz_gradient(errors: Tensor, foreground: Tensor) -> Tensor:
    """Computes the (K', R) derivative of the Lovasz extension with respect to `errors` (K', R); `foreground` is 0/1."""
    if (found := native_gradient(errors, foreground)) is not None:
        return found
    order = _descending(errors)
    gradient = _jaccard_gradient(foreground.gather(1, order))
    return torch.empty_like(gradient).scatter_(1, order, gradient)


def _descending(errors: Tensor) -> Tensor:
    """Sorts each row of the non-negative errors (K', R) in descending order and returns the (K', R) indices.

    On a CPU equal errors keep their order, whatever the CPU.
    """
    if errors.device.type != "cpu" or not len(errors):
        return errors.argsort(dim=1, descending=True)
    # The bits of non-negative floats, read as integers, have the same order. Sorting the rows as integers in ascending
    # order, one by one, is eight times as fast.
    bits = errors.contiguous().view({4: torch.int32, 8: torch.int64}[errors.element_size()])
    return torch.stack([(torch.iinfo(bits.dtype).max - row).argsort(stable=True) for row in bits])


@torch.no_grad()
def _jaccard_gradient(foreground: Tensor) -> Tensor:
    """Computes the discrete derivative of the Jaccard loss along sorted errors: (K', R) 0/1 -> (K', R)."""
    total = foreground.sum(1, keepdim=True)
    intersection = total - foreground.cumsum(1)
    union = total + (1 - foreground).cumsum(1)
    jaccard = 1 - intersection / union
    jaccard[:, 1:] -= jaccard[:, :-1].clone()
    return jaccard


class SegmentationLoss(nn.Module):
    """The sum of the weighted cross-entropy and lambda_lovasz times Lovasz-softmax; both ignore class 0.

    Args:
        weights: (K,) float32 weight of each class, or None for equal weights.
        label_smoothing: see `cross_entropy`.
    """

    weights: Tensor | None

    def __init__(self, weights: Tensor | None, label_smoothing: float = 0.0) -> None:
        super().__init__()
        self.label_smoothing = label_smoothing
        # Not part of the state dict: the config defines the weights.
        self.register_buffer("weights", weights, persistent=False)

    def forward(self, logits: Tensor, labels: Tensor, lambda_lovasz: float = 1.0) -> Tensor:
        """Computes the loss, a scalar, of (R, K) logits and (R,) int64 labels in at least float32."""
        return sum(self.terms(logits, labels, lambda_lovasz), logits.new_zeros(()))

    def terms(self, logits: Tensor, labels: Tensor, lambda_lovasz: float = 1.0) -> tuple[Tensor, Tensor]:
        """Computes the two terms of the loss as scalars: (cross-entropy, lambda_lovasz * Lovasz-softmax).

        With lambda_lovasz 0 the second one is 0 and takes no time: sorting is a good part of a step.
        """
        with torch.autocast(logits.device.type, enabled=False):
            logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
            ce = cross_entropy(logits, labels, self.weights, self.label_smoothing)
            return ce, lambda_lovasz * lovasz_softmax(logits, labels) if lambda_lovasz else ce.new_zeros(())


def distillation_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Computes KL(teacher || student) as the mean over all R * K elements (not over rows); 0 if R is 0.

    Args:
        student, teacher: (R, K) logits; no gradient flows into the teacher.
    """
    with torch.autocast(student.device.type, enabled=False):
        wide = torch.promote_types(student.dtype, torch.float32)
        divergence = F.kl_div(
            F.log_softmax(student.to(wide), dim=1), F.softmax(teacher.detach().to(wide), dim=1), reduction="sum"
        )
    return divergence / max(student.numel(), 1)
