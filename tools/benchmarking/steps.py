"""The calls that benchmarks time on whole networks, on any device: an evaluation and a step of training."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from network.evaluation.voting import segment
from network.models.segmentation_network import SegmentationNetwork
from network.training.gradient_guard import GradientGuard
from network.training.optimizers import build_optimizer
from utils.config.train import TrainParams
from utils.scan.records import Batch


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Makes the context of mixed precision if `precision` is "bf16", of none if it is "32"."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


def labels(network: SegmentationNetwork, batch: Batch, precision: str) -> list[Tensor]:
    """Computes the labels of all points of a batch, on its device: (N,) uint8 for each file."""
    with torch.no_grad(), autocast(batch.points.device, precision):
        return [segmentation.prediction for segmentation in segment(network, batch)]


class TrainingStep:
    """A step of training as `SegmentationTask` does it, without logging.

    Args:
        network: the network to train.
        params: the parameters of its training.
        precision: "32" or "bf16".
        losses: (batch) -> named losses; None: the network's own.
    """

    def __init__(
        self,
        network: SegmentationNetwork,
        params: TrainParams,
        precision: str,
        losses: Callable[[Batch], dict[str, Tensor]] | None = None,
    ) -> None:
        self.network, self.precision, self.clip_norm = network, precision, params.gradient_clip_norm
        self.losses = losses or network.training_losses
        self.guard = GradientGuard(network)
        self.optimizer = build_optimizer(network.parameters(), params.optimizer, params.learning_rate)

    def __call__(self, batch: Batch) -> dict[str, Tensor]:
        """Takes one step; returns the losses before it."""
        losses = self.differentiate(batch)
        self.update()
        return losses

    def differentiate(self, batch: Batch) -> dict[str, Tensor]:
        """Computes the gradients of all parameters; returns the losses, detached."""
        self.guard.remember()
        self.optimizer.zero_grad()
        with autocast(batch.points.device, self.precision):
            losses = self.losses(batch)
        losses["loss"].backward()
        return {name: loss.detach() for name, loss in losses.items()}

    def update(self) -> None:
        """Takes the optimiser's step."""
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), self.clip_norm)
        self.guard.judge(norm, self.optimizer)
        self.optimizer.step()
