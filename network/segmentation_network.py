"""What every model of the project offers; training and evaluation know no more of it than this."""

from __future__ import annotations

from torch import Tensor, nn

from utils.structures import Batch


class SegmentationNetwork(nn.Module):
    """A network that gives a class to every point of a batch."""

    def geometry(self) -> dict[str, list[float]]:
        """What decides which voxel a point falls into: weights mean nothing with another geometry than their own."""
        raise NotImplementedError

    def predict(self, batch: Batch) -> Tensor:
        """(P, K) logits, from points alone."""
        raise NotImplementedError

    def training_losses(self, batch: Batch) -> dict[str, Tensor]:
        """Named scalar losses; "loss" is their total."""
        raise NotImplementedError
