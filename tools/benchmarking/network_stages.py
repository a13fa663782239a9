"""Whole networks: evaluation, from points to labels, and a step of training."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cached_property

import torch
from torch import Tensor, nn

from network.arch_2dpass import Arch2DPASS
from network.voting import segment
from tools.benchmarking import plain_network
from tools.benchmarking.stage import Stage, count_different, largest_difference
from tools.benchmarking.subject import Subject
from utils.schedules import build_optimizer


def _autocast(precision: str) -> torch.autocast:
    return torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16")


def _evaluate(function: Callable[[], Tensor], precision: str) -> Callable[[], Tensor]:
    def run() -> Tensor:
        with torch.no_grad(), _autocast(precision):
            return function()

    return run


def network(s: Subject, name: str, precision: str) -> Stage:
    return Stage(
        name,
        _evaluate(lambda: s.network(s.voxels).logits, precision),
        "MLPs, head on points; unfused BatchNorm; plain convolution",
        _evaluate(lambda: plain_network.forward(s.network, s.geometry)[0], precision),
        lambda ours, plain: largest_difference([ours], [plain]),
    )


def points_to_labels(s: Subject, name: str, precision: str) -> Stage:
    return Stage(
        name,
        _evaluate(lambda: segment(s.network, s.batch)[0].prediction, precision),
        "plain voxels, kernel maps and network",
        _evaluate(lambda: plain_network.predict(s.network, s.batch), precision),
        lambda ours, plain: count_different([ours], [plain]),
    )


def training_step(s: Subject, name: str, precision: str) -> Stage:
    def plain_losses(network: Arch2DPASS) -> dict[str, Tensor]:
        return plain_network.training_losses(network, s.training_batch)

    return Stage(
        name,
        _TrainingStep(s, copy.deepcopy, lambda network: network.training_losses(s.training_batch), precision),
        "as above; autograd, full-size image features, Lovasz per class",
        _TrainingStep(s, plain_network.standard_layout, plain_losses, precision),
        largest_difference,
    )


class _TrainingStep:
    """A step of the optimiser on a copy of the network that is made at the first call.

    A call returns the losses in order of their names, and the norms of the gradients of all parameters as one tensor.
    """

    def __init__(
        self,
        subject: Subject,
        duplicate: Callable[[Arch2DPASS], Arch2DPASS],
        losses: Callable[[Arch2DPASS], dict[str, Tensor]],
        precision: str,
    ) -> None:
        self.subject, self.duplicate, self.losses, self.precision = subject, duplicate, losses, precision

    @cached_property
    def network(self) -> Arch2DPASS:
        return self.duplicate(self.subject.network_2dpass)

    @cached_property
    def optimizer(self) -> torch.optim.Optimizer:
        p = self.subject.config.train_params
        return build_optimizer(
            self.network.parameters(), p.optimizer, p.learning_rate, p.momentum, p.nesterov, p.weight_decay
        )

    def __call__(self) -> list[Tensor]:
        self.optimizer.zero_grad()
        with _autocast(self.precision):
            losses = self.losses(self.network)
        losses["loss"].backward()
        parameters = list(self.network.parameters())
        norms = torch.stack([p.grad.norm() for p in parameters if p.grad is not None])
        nn.utils.clip_grad_norm_(parameters, self.subject.config.train_params.gradient_clip_norm)
        self.optimizer.step()
        return [losses[name].detach() for name in sorted(losses)] + [norms]
