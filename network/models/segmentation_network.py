"""What every model of the project offers; training and evaluation know no more of it than this."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from network.sparse.layers import SparseBackend, SparseConv3d
from utils.scan.records import Batch


class SegmentationNetwork(nn.Module):
    """A network that gives a class to every point of a batch.

    Attributes:
        backend: what computes its sparse convolutions.
    """

    backend: SparseBackend

    def geometry(self) -> dict[str, list[float]]:
        """What decides which voxel a point falls into: weights mean nothing with another geometry than their own."""
        raise NotImplementedError

    def predict(self, batch: Batch) -> Tensor:
        """(P, K) logits, from points alone."""
        raise NotImplementedError

    def training_losses(self, batch: Batch) -> dict[str, Tensor]:
        """Named scalar losses; "loss" is their total."""
        raise NotImplementedError

    def warm_up(self, device: torch.device, dtype: torch.dtype, training: bool) -> None:
        """Have the backend compile and tune what this network's convolutions need; it need not be on the device yet."""
        layers = [module for module in self.modules() if isinstance(module, SparseConv3d)]
        shapes = [(volume, c_in, c_out) for volume, c_in, c_out in (layer.weight.shape for layer in layers)]
        self.backend.warm_up(device, dtype, shapes, training)
