"""MinkowskiNet and SPVCNN, compared with the published ones: names, layouts, voxels, logits and losses."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from network.models.losses import SegmentationLoss, class_weights
from network.models.minkowskinet import MinkowskiNet
from network.models.spvcnn import SPVCNN
from network.models.voxel_network import VoxelNetwork
from network.sparse import native_backend, torch_backend
from network.sparse.layers import SparseBackend
from network.weights.loading import load_weights
from tests.support.golden import GOLDEN, released_state
from tests.support.networks import golden_config, relative_error
from utils.scan.records import Batch

CHANNELS = [8, 8, 16, 32, 64, 64, 32, 24, 24]  # cr = 0.25
BACKENDS = {backend.name: backend for backend in (torch_backend.BACKEND, native_backend.BACKEND)}
NETWORKS = {"minkowskinet": MinkowskiNet, "spvcnn": SPVCNN}


def load_golden(name: str, scan: int) -> dict[str, np.ndarray]:
    return dict(np.load(GOLDEN / f"{name}_semantickitti_scan{scan}.npz"))


def released_network(name: str, backend: SparseBackend = torch_backend.BACKEND) -> VoxelNetwork:
    counts = golden_config().dataset_params.seg_labelweights
    assert counts is not None
    network = NETWORKS[name](CHANNELS, 20, 0.05, backend, SegmentationLoss(class_weights(counts)))
    load_weights(network, {"state_dict": released_state(f"{name}_semantickitti")}, "golden")
    return network


def batch_of(*goldens: dict[str, np.ndarray]) -> Batch:
    lengths = tuple(len(golden["points"]) for golden in goldens)
    return Batch(
        points=torch.from_numpy(np.concatenate([golden["points"] for golden in goldens])),
        scan_ids=torch.repeat_interleave(torch.arange(len(goldens)), torch.tensor(lengths)),
        labels=torch.from_numpy(np.concatenate([golden["labels"] for golden in goldens]).astype(np.int64)),
        pixels=torch.full((sum(lengths), 2), -1),
        visible=torch.zeros(0, dtype=torch.long),
        images=None,
        lengths=lengths,
    )


@pytest.fixture(params=itertools.product(NETWORKS, (0, 1), BACKENDS), ids="{0[0]}-{0[1]}-{0[2]}".format)
def case(request):
    name, scan, backend = request.param
    return released_network(name, BACKENDS[backend]), load_golden(name, scan)


def test_voxels(case) -> None:
    network, golden = case
    voxels = network.voxelize(batch_of(golden))
    assert sorted(voxels.first.tolist()) == sorted(golden["voxel_index"].tolist())
    # Voxels may be numbered in any order: a point's voxel must be represented by the same point.
    assert torch.equal(voxels.first[voxels.inverse], torch.from_numpy(golden["voxel_index"][golden["inverse_map"]]))


def test_evaluation(case) -> None:
    network, golden = case
    batch = batch_of(golden)
    network.eval()
    with torch.no_grad():
        logits = network.predict(batch)
        losses = network.training_losses(batch)
    expected = torch.from_numpy(golden["out_eval_logits"][golden["inverse_map"]])
    assert relative_error(logits, expected) < 1e-4
    for ours, theirs in (("loss", "loss"), ("loss_ce", "ce"), ("loss_lovasz", "lovasz")):
        assert float(losses[ours]) == pytest.approx(float(golden[f"out_eval_{theirs}"]), rel=1e-4)


def test_training_loss_without_dropout(case) -> None:
    network, golden = case
    network.train()
    for module in network.modules():
        if isinstance(module, torch.nn.Dropout):
            module.eval()
    loss = network.training_losses(batch_of(golden))["loss"]
    assert float(loss.detach()) == pytest.approx(float(golden["out_train_loss_no_dropout"]), rel=1e-4)


@pytest.mark.parametrize("name", list(NETWORKS))
def test_a_batch_is_its_scans_one_by_one(name) -> None:
    goldens = [load_golden(name, 0), load_golden(name, 1)]
    network = released_network(name).eval()
    with torch.no_grad():
        together = network.predict(batch_of(*goldens))
        alone = torch.cat([network.predict(batch_of(golden)) for golden in goldens])
    assert relative_error(together, alone) < 1e-5
