"""The means of the losses over an epoch, which go on where a training was interrupted in the middle of one."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


class EpochMeans:
    """Sums of named numbers over the batches of an epoch, on their device; Lightning's own cannot be restored."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._weights: dict[str, int] = {}

    def add(self, values: Mapping[str, Tensor], weight: int) -> None:
        """Adds the numbers of a batch, scalar tensors, `weight` times each."""
        for name, value in values.items():
            before = self._sums.get(name)
            added = value.float() * weight
            self._sums[name] = added if before is None else before.to(added.device) + added
            self._weights[name] = self._weights.get(name, 0) + weight

    def take(self) -> dict[str, Tensor]:
        """Returns the means by name, and forgets the sums."""
        means = {name: total / self._weights[name] for name, total in self._sums.items()}
        self.restore({})
        return means

    def state(self) -> dict[str, list[float]]:
        """Returns sum and weight by name."""
        return {name: [float(total), float(self._weights[name])] for name, total in self._sums.items()}

    def restore(self, state: Mapping[str, list[float]]) -> None:
        """Goes on from a state."""
        self._sums = {name: torch.tensor(total) for name, (total, _) in state.items()}
        self._weights = {name: int(weight) for name, (_, weight) in state.items()}
