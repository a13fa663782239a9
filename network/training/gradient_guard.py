"""A guard that undoes steps with NaN or inf in their gradients; it works on the device, and the host never waits."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.optim import Optimizer


class GradientGuard:
    """A guard that undoes and counts optimiser steps whose gradients are not finite.

    A step is a batch, or several whose gradients are accumulated; it is undone as a whole.

    The optimiser itself leaves weights and moments as they are: a fused optimiser skips its step where its attribute
    `found_inf` is 1, as torch's GradScaler uses it. The guard restores the statistics that BatchNorm has updated in the
    forward passes.

    Args:
        network: the network whose buffers are guarded.
    """

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self._skipped = torch.zeros((), dtype=torch.int64)
        self._saved: dict[torch.dtype, Tensor] = {}

    @property
    def skipped(self) -> int:
        """The number of steps undone so far; reading it makes the host wait for the device."""
        return int(self._skipped)

    @skipped.setter
    def skipped(self, count: int) -> None:
        self._skipped.fill_(count)

    def remember(self) -> None:
        """Keeps a copy of the buffers; to be called before the first forward pass of a step."""
        self._saved = {dtype: _flat(buffers) for dtype, buffers in self._buffers().items()}

    def judge(self, gradient_norm: Tensor, optimizer: Optimizer) -> None:
        """Undoes the step if the norm of all gradients is not finite; to be called after the last backward pass.

        Args:
            gradient_norm: scalar tensor.
            optimizer: a fused optimiser, whose next step is skipped if the norm is not finite.
        """
        bad = ~torch.isfinite(gradient_norm)
        optimizer.found_inf = bad.float()  # type: ignore[attr-defined]
        self._skipped = self._skipped.to(bad.device) + bad
        for dtype, buffers in self._buffers().items():
            kept = torch.where(bad, self._saved[dtype], _flat(buffers))
            parts = kept.split([buffer.numel() for buffer in buffers])
            torch._foreach_copy_(buffers, [p.view_as(b) for p, b in zip(parts, buffers, strict=True)])

    def _buffers(self) -> dict[torch.dtype, list[Tensor]]:
        """Groups the buffers by dtype: each group is handled as one tensor, by a few kernels instead of hundreds."""
        by_type: dict[torch.dtype, list[Tensor]] = {}
        for buffer in self.network.buffers():
            by_type.setdefault(buffer.dtype, []).append(buffer)
        return by_type


def _flat(tensors: Iterable[Tensor]) -> Tensor:
    return torch.cat([tensor.reshape(-1) for tensor in tensors])
