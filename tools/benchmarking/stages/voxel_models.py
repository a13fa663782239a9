"""The stages of the voxel models: from points to logits, and a step of training, beside plain convolutions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from network import assemble
from network.models.voxel_network import VoxelNetwork
from network.sparse.layers import BatchNorm, SparseBackend
from tools.benchmarking.plain.backend import PLAIN
from tools.benchmarking.stages.networks import CheckedStep
from tools.benchmarking.stages.stage import CPU, Stage, largest_difference
from tools.benchmarking.steps import autocast
from tools.benchmarking.subject import Subject
from utils.config.loading import load_config
from utils.config.model import VoxelModelParams
from utils.paths import REPOSITORY

CONFIGS = {"MinkowskiNet": "MinkowskiNet-semantickitti.yaml", "SPVCNN": "SPVCNN-semantickitti.yaml"}
_WAY = "27 searchsorted, loop over offsets, autograd; else as ours"


def _network(s: Subject, model: str, width: float, backend: SparseBackend, settle: bool) -> VoxelNetwork:
    """Makes a voxel model of random weights, always the same; settled: its BatchNorms have the batch's statistics."""
    params = load_config(REPOSITORY / "config" / CONFIGS[model], [f"model_params.cr={width}"])
    assert isinstance(params.model_params, VoxelModelParams)
    # With these weights no activation of a small input is so near to 0 that rounding would change its side.
    torch.manual_seed(3)
    network = assemble.build_voxel_network(params, backend)
    if settle:
        for module in network.modules():
            if isinstance(module, BatchNorm):
                module.momentum = 1.0
        with torch.no_grad():
            network.train().predict(s.batch)
        network.eval()
    return network


def _evaluation(s: Subject, model: str, width: float, backend: SparseBackend, precision: str) -> Callable[[], Tensor]:
    made: list[VoxelNetwork] = []

    def run() -> Tensor:
        made[:] = made or [_network(s, model, width, backend, settle=True)]
        with torch.no_grad(), autocast(CPU, precision):
            return made[0].predict(s.batch)

    return run


def _step(s: Subject, model: str, width: float, backend: SparseBackend, precision: str) -> Callable[[], list[Tensor]]:
    def make() -> VoxelNetwork:
        return _network(s, model, width, backend, settle=False).train()

    return CheckedStep(s, make, VoxelNetwork.training_losses, precision)


def _stage(name: str, ours: Callable[[], Any], plain: Callable[[], Any]) -> Stage:
    return Stage(name, ours, _WAY, plain, _compared)


def _compared(ours: Any, plain: Any) -> Any:
    as_lists = [[found] if isinstance(found, Tensor) else found for found in (ours, plain)]
    return largest_difference(*as_lists)


def evaluation(s: Subject, name: str, model: str, width: float, precision: str) -> Stage:
    """Makes the stage from points to the logits of all points."""
    ours, plain = (_evaluation(s, model, width, backend, precision) for backend in _backends(s))
    return _stage(name, ours, plain)


def training_step(s: Subject, name: str, model: str, width: float, precision: str) -> Stage:
    """Makes the stage of a training step, the optimiser's step included."""
    ours, plain = (_step(s, model, width, backend, precision) for backend in _backends(s))
    return _stage(name, ours, plain)


def _backends(s: Subject) -> tuple[SparseBackend, SparseBackend]:
    return assemble.sparse_backend(s.model.sparse_backend), PLAIN
