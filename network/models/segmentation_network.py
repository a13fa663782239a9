"""The interface of all models: training and evaluation use nothing else of a model."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from network.ops.together import Finish
from network.sparse.layers import SparseBackend, SparseConv3d
from utils.scan.records import Batch


class SegmentationNetwork(nn.Module):
    """The base class of networks that predict a class for every point of a batch.

    Attributes:
        backend: the implementation of its sparse convolutions.
        takes_age: whether the points have a fifth column, their age.
    """

    backend: SparseBackend
    takes_age: bool

    def geometry(self) -> dict[str, list[float]]:
        """Returns the numbers that decide which voxel a point falls into.

        Weights are only useful with the geometry that they were trained with.
        """
        raise NotImplementedError

    def input_weights(self) -> dict[str, int]:
        """Returns the names of the weights that are multiplied with the columns of the points, with the axis of these.

        The last entry on that axis is that of the age, if the network takes it.
        """
        raise NotImplementedError

    def output_weights(self) -> list[str]:
        """Returns the names of the weights that have an entry for each class, on their first axis."""
        raise NotImplementedError

    def teacher_weights(self) -> str | None:
        """Returns which weights its teacher has that are not trained, as a short text; None: there are none."""
        return None

    def predict(self, batch: Batch) -> Tensor:
        """Computes (P, K) logits from the points alone."""
        raise NotImplementedError

    def evaluated(self) -> SegmentationNetwork:
        """Returns the part of the network that `predict` uses."""
        return self

    def padding(self, count: int, columns: int) -> Tensor | None:
        """Makes points to pad a batch with, for `predict_padded`.

        Args:
            count: number of points.
            columns: numbers per point.

        Returns:
            (count, columns) float32, on the CPU; None if this network has no `predict_padded` for such batches.
        """
        return None

    def predict_padded(self, points: Tensor, scan_ids: Tensor, num_scans: int, finish: Finish) -> Tensor:
        """Computes logits as `predict` does, of a batch that is padded to a fixed number of points.

        Args:
            points: (P, 4) or (P, 5) float32, of which the last ones, at least one, are those of `padding`.
            scan_ids: (P,) int64; the padding is a scan of its own, the last one.
            num_scans: number of scans, with that of the padding.
            finish: how the numbers of voxels become known; with `Filling`, the host waits for nothing.

        Returns:
            (P, K) logits; those of the padding mean nothing, but are finite if the others are.
        """
        raise NotImplementedError

    def training_losses(self, batch: Batch) -> dict[str, Tensor]:
        """Computes named scalar losses; "loss" is their total."""
        raise NotImplementedError

    def warm_up(self, device: torch.device, dtype: torch.dtype, training: bool) -> None:
        """Compiles and tunes the kernels that the convolutions of this network need on a device.

        The network itself need not be on the device yet.

        Args:
            device: where the network will run.
            dtype: type in which the convolutions will compute.
            training: whether gradients will be needed.
        """
        layers = [module for module in self.modules() if isinstance(module, SparseConv3d)]
        shapes = [(volume, c_in, c_out) for volume, c_in, c_out in (layer.weight.shape for layer in layers)]
        self.backend.warm_up(device, dtype, shapes, training)
