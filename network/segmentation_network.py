"""What every model of the project offers; training and evaluation know no more of it than this."""

from __future__ import annotations

from torch import Tensor, nn

from utils.structures import Batch


class SegmentationNetwork(nn.Module):
    """A network that gives a class to every point of a batch."""

    def predict(self, batch: Batch) -> Tensor:
        """(P, K) logits, from points alone."""
        raise NotImplementedError

    def training_losses(self, batch: Batch) -> dict[str, Tensor]:
        """Named scalar losses; "loss" is their total."""
        raise NotImplementedError
