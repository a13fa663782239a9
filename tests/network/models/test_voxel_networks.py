"""MinkowskiNet and SPVCNN as networks: size, gradients, precision, dropout and checkpoints."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from network.assemble import parameter_count
from network.models.losses import SegmentationLoss
from network.models.minkowskinet import MinkowskiNet
from network.models.spvcnn import SPVCNN
from network.models.voxel_network import VoxelNetwork
from network.sparse import torch_backend
from network.weights.loading import load_weights
from tests.support.golden import released_state
from tests.support.networks import (
    CLASSES,
    make_batch,
    make_network_3d,
    randomize_norms,
    refusal,
    relative_error,
    with_ages,
)

NARROW = (4, 4, 6, 6, 8, 8, 6, 5, 5)
PUBLISHED = (32, 32, 64, 128, 256, 256, 128, 96, 96)
BOTH = pytest.mark.parametrize("kind", [MinkowskiNet, SPVCNN])


def make_network(kind: type[VoxelNetwork], seed: int = 0, input_dims: int = 4) -> VoxelNetwork:
    torch.manual_seed(seed)
    network = kind(NARROW, CLASSES, 0.05, torch_backend.BACKEND, SegmentationLoss(None), input_dims=input_dims)
    randomize_norms(network)
    return network


@pytest.mark.parametrize(("kind", "millions"), [(MinkowskiNet, 21.7), (SPVCNN, 21.8)])
def test_size_of_the_published_models(kind, millions) -> None:
    network = kind(PUBLISHED, 20, 0.05, torch_backend.BACKEND, SegmentationLoss(None))
    assert round(parameter_count(network) / 1e6, 1) == millions


@BOTH
def test_every_weight_learns_and_the_loss_falls(kind) -> None:
    network, batch = make_network(kind).train(), make_batch(spread=0.3)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    losses = []
    for _ in range(30):
        loss = network.training_losses(batch)["loss"]
        optimizer.zero_grad()
        loss.backward()
        if not losses:
            assert [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()] == []
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.7 * losses[0]


@BOTH
def test_gradients_are_those_of_finite_differences(kind) -> None:
    network, batch = make_network(kind).double().eval(), make_batch((30, 20), spread=0.15)
    batch = replace(batch, points=batch.points.double())
    generator = torch.Generator().manual_seed(1)
    loss = network.training_losses(batch)["loss_ce"]
    gradients = torch.autograd.grad(loss, list(network.parameters()))
    directions = [torch.randn(g.shape, generator=generator, dtype=torch.float64) for g in gradients]
    expected = sum(float((g * d).sum()) for g, d in zip(gradients, directions, strict=True))
    step, values = 1e-6, []
    for sign in (1, -1):
        with torch.no_grad():
            for parameter, direction in zip(network.parameters(), directions, strict=True):
                parameter += sign * step * direction
            values.append(float(network.training_losses(batch)["loss_ce"]))
            for parameter, direction in zip(network.parameters(), directions, strict=True):
                parameter -= sign * step * direction
    assert (values[0] - values[1]) / (2 * step) == pytest.approx(expected, rel=1e-4)


@BOTH
def test_bf16_autocast_stays_near(kind) -> None:
    network, batch = make_network(kind), make_batch(spread=0.3)
    network.eval()
    with torch.no_grad():
        exact = network.predict(batch)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rough = network.predict(batch)
    assert relative_error(rough.float(), exact) < 0.1
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = network.train().training_losses(batch)
    losses["loss"].backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in network.parameters())


@BOTH
def test_points_of_a_voxel_share_its_prediction(kind) -> None:
    network, batch = make_network(kind).eval(), make_batch((400,), spread=0.1)
    voxels = network.voxelize(batch)
    assert len(voxels.levels[0]) < 400
    with torch.no_grad():
        logits, of_voxels = network.predict(batch), network(voxels)
    assert torch.equal(logits, of_voxels[voxels.inverse])


@BOTH
def test_a_voxel_has_the_age_and_the_label_of_its_first_point(kind) -> None:
    """Points of the scan itself come first: a past point counts where there are none of them."""
    network, batch = make_network(kind, input_dims=5).eval(), with_ages(make_batch((400, 300), spread=0.15))
    voxels = network.voxelize(batch)
    own = batch.points[voxels.first, 4] == 0
    youngest = torch.full((len(own),), 9.0).scatter_reduce_(0, voxels.inverse, batch.points[:, 4], "amin")
    assert torch.equal(own, youngest == 0) and 50 < own.sum() < len(own) - 50
    loss = network.training_losses(batch)["loss"]
    past = batch.points[:, 4] > 0
    for rows, same in ((past & own[voxels.inverse], True), (past & ~own[voxels.inverse], False)):
        assert rows.any()
        labels = torch.where(rows, 1 + batch.labels % (CLASSES - 1), batch.labels)
        assert (network.training_losses(replace(batch, labels=labels))["loss"] == loss) == same


def test_dropout_is_on_in_training_alone() -> None:
    network, batch = make_network(SPVCNN), make_batch(spread=0.3)
    voxels = network.voxelize(batch)
    with torch.no_grad():
        assert not torch.equal(network.train()(voxels), network(voxels))
        assert torch.equal(network.eval()(voxels), network(voxels))


@BOTH
def test_a_checkpoint_of_ours_comes_back(kind) -> None:
    saved, fresh = make_network(kind, seed=0), make_network(kind, seed=1)
    content = {"state_dict": {f"network.{name}": tensor for name, tensor in saved.state_dict().items()}}
    load_weights(fresh, content, "x.ckpt")
    assert all(torch.equal(fresh.state_dict()[name], tensor) for name, tensor in saved.state_dict().items())


def test_a_checkpoint_of_another_model_is_refused() -> None:
    spvcnn = {"state_dict": make_network(SPVCNN).state_dict()}
    assert "point_mlp1.0.weight is only in the file" in refusal(load_weights, make_network(MinkowskiNet), spvcnn, "a")
    minkowski = {"state_dict": make_network(MinkowskiNet).state_dict()}
    assert "point_mlp1.0.weight is missing" in refusal(load_weights, make_network(SPVCNN), minkowski, "a")
    baseline = {"state_dict": make_network_3d().state_dict()}
    assert "checkpoint of another model" in refusal(load_weights, make_network(SPVCNN), baseline, "a")
    assert "checkpoint of another model" in refusal(load_weights, make_network_3d(), minkowski, "a")
    released = {"state_dict": released_state("minkowskinet_semantickitti")}
    assert "stem.conv1.weight is [27, 4, 8] in the file" in refusal(load_weights, make_network(SPVCNN), released, "a")
    odd = {"state_dict": {**released["state_dict"], "stem.9.kernel": torch.zeros(3)}}
    assert "'stem.9.kernel' is not of a published" in refusal(load_weights, make_network(MinkowskiNet), odd, "a")
