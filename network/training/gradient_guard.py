"""A batch with NaN or inf in its gradients must leave no trace: decided on the device, without the host waiting."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.optim import Optimizer


class GradientGuard:
    """Undoes bad batches and counts them.

    Weights, momentum and decay are left alone by the optimiser itself: a fused one skips its step where its attribute
    `found_inf` is 1, which is how torch's GradScaler makes it skip. What BatchNorm has learnt from the batch is taken
    back here.

    Args:
        network: whose buffers to guard.
    """

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self._skipped = torch.zeros((), dtype=torch.int64)
        self._saved: dict[torch.dtype, Tensor] = {}

    @property
    def skipped(self) -> int:
        """Bad batches so far; the host waits for the device."""
        return int(self._skipped)

    @skipped.setter
    def skipped(self, count: int) -> None:
        self._skipped.fill_(count)

    def remember(self) -> None:
        """Before the forward pass: keep the buffers as they are."""
        self._saved = {dtype: _flat(buffers) for dtype, buffers in self._buffers().items()}

    def judge(self, gradient_norm: Tensor, optimizer: Optimizer) -> None:
        """After the backward pass: if the norm of all gradients is not finite, this batch has not happened.

        Args:
            gradient_norm: scalar.
            optimizer: a fused one; its next step is the one in question.
        """
        bad = ~torch.isfinite(gradient_norm)
        optimizer.found_inf = bad.float()  # type: ignore[attr-defined]
        self._skipped = self._skipped.to(bad.device) + bad
        for dtype, buffers in self._buffers().items():
            kept = torch.where(bad, self._saved[dtype], _flat(buffers))
            parts = kept.split([buffer.numel() for buffer in buffers])
            torch._foreach_copy_(buffers, [p.view_as(b) for p, b in zip(parts, buffers, strict=True)])

    def _buffers(self) -> dict[torch.dtype, list[Tensor]]:
        """By type, so that those of a type fit into one tensor: hundreds of launches become a few."""
        by_type: dict[torch.dtype, list[Tensor]] = {}
        for buffer in self.network.buffers():
            by_type.setdefault(buffer.dtype, []).append(buffer)
        return by_type


def _flat(tensors: Iterable[Tensor]) -> Tensor:
    return torch.cat([tensor.reshape(-1) for tensor in tensors])
