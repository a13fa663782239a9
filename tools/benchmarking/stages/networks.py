"""The stages of whole networks: evaluation, from points to labels, and a step of training."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cached_property, partial
from typing import Generic, TypeVar

import torch
from torch import Tensor

from network.models.arch_2dpass import Arch2DPASS
from network.models.network_3d import Network3D
from network.models.segmentation_network import SegmentationNetwork
from tools.benchmarking.plain import network as plain_network
from tools.benchmarking.stages.stage import CPU, Stage, count_different, largest_difference
from tools.benchmarking.steps import TrainingStep, autocast, labels
from tools.benchmarking.subject import Subject
from utils.scan.records import Batch


def _evaluate(function: Callable[[], Tensor], precision: str) -> Callable[[], Tensor]:
    def run() -> Tensor:
        with torch.no_grad(), autocast(CPU, precision):
            return function()

    return run


def network(s: Subject, name: str, precision: str) -> Stage:
    """Makes the stage of the 3D network, from voxels to logits."""
    return Stage(
        name,
        _evaluate(lambda: s.network(s.voxels).logits, precision),
        "MLPs, head on points; unfused BatchNorm; plain convolution",
        _evaluate(lambda: plain_network.forward(s.network, s.geometry)[0], precision),
        lambda ours, plain: largest_difference([ours], [plain]),
    )


def points_to_labels(s: Subject, name: str, precision: str) -> Stage:
    """Makes the stage of the whole prediction, from points to labels."""
    return Stage(
        name,
        lambda: labels(s.network, s.batch, precision)[0],
        "plain voxels, kernel maps and network",
        _evaluate(lambda: plain_network.predict(s.network, s.batch), precision),
        lambda ours, plain: count_different([ours], [plain]),
    )


def training_step(s: Subject, name: str, precision: str) -> Stage:
    """Makes the stage of a training step of 2DPASS, the optimiser's step included."""

    def step(
        duplicate: Callable[[Arch2DPASS], Arch2DPASS], losses: Callable[[Arch2DPASS, Batch], dict[str, Tensor]]
    ) -> CheckedStep[Arch2DPASS]:
        return CheckedStep(s, lambda: duplicate(s.network_2dpass), losses, precision)

    return Stage(
        name,
        step(copy.deepcopy, Arch2DPASS.training_losses),
        "as above; autograd, full-size image features, Lovasz per class",
        step(plain_network.standard_layout, plain_network.training_losses),
        largest_difference,
    )


def baseline_step(s: Subject, name: str, precision: str) -> Stage:
    """Makes the stage of a training step of the 3D network alone (--baseline_only), the optimiser's step included."""

    def step(losses: Callable[[Network3D, Batch], dict[str, Tensor]]) -> CheckedStep[Network3D]:
        return CheckedStep(s, lambda: copy.deepcopy(s.network_2dpass.network_3d), losses, precision)

    return Stage(
        name,
        step(Network3D.training_losses),
        "as above, without images",
        step(plain_network.baseline_losses),
        largest_difference,
    )


_Network = TypeVar("_Network", bound=SegmentationNetwork)


class CheckedStep(Generic[_Network]):
    """A step of the optimiser on a network of its own, which is made at the first call.

    A call returns the losses in order of their names, and the norms of the gradients of all parameters as one tensor.
    """

    def __init__(
        self,
        subject: Subject,
        make: Callable[[], _Network],
        losses: Callable[[_Network, Batch], dict[str, Tensor]],
        precision: str,
    ) -> None:
        self.subject, self.make, self.losses, self.precision = subject, make, losses, precision

    @cached_property
    def step(self) -> TrainingStep:
        """The step, on a copy of the network that is made at first."""
        network = self.make()
        losses = partial(self.losses, network)
        return TrainingStep(network, self.subject.config.train_params, self.precision, losses)

    def differentiate(self) -> tuple[list[Tensor], list[Tensor]]:
        """Computes the losses in order of their names, and the gradients of all parameters."""
        losses = self.step.differentiate(self.subject.training_batch)
        gradients = [p.grad for p in self.step.network.parameters() if p.grad is not None]
        return [losses[name] for name in sorted(losses)], gradients

    def __call__(self) -> list[Tensor]:
        losses, gradients = self.differentiate()
        norms = torch.stack([gradient.norm() for gradient in gradients])
        self.step.update()
        return [*losses, norms]
