"""MinkowskiNet and SPVCNN as networks: size, gradients, precision, dropout and checkpoints."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from network.assemble import parameter_count
from network.models import losses as losses_module
from network.models.losses import SegmentationLoss
from network.models.minkowskinet import MinkowskiNet
from network.models.spvcnn import SPVCNN
from network.models.voxel_network import VoxelNetwork
from network.sparse import torch_backend
from network.weights.loading import load_weights
from network.weights.released import our_layout, our_name
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
TWO = (2, 2, 2, 2, 2, 2, 2, 2)
MINKUNET34 = (2, 3, 4, 6, 2, 2, 2, 2)
UNEVEN = (1, 3, 2, 1, 3, 1, 2, 4)
BOTH = pytest.mark.parametrize("kind", [MinkowskiNet, SPVCNN])


def make_network(
    kind: type[VoxelNetwork], seed: int = 0, input_dims: int = 4, blocks: Sequence[int] = TWO, lovasz: float = 1.0
) -> VoxelNetwork:
    torch.manual_seed(seed)
    criterion = SegmentationLoss(None)
    network = kind(NARROW, CLASSES, 0.05, torch_backend.BACKEND, criterion, lovasz, input_dims, blocks)
    randomize_norms(network)
    return network


@pytest.mark.parametrize(
    ("kind", "blocks", "millions"),
    [(MinkowskiNet, TWO, 21.7), (SPVCNN, TWO, 21.8), (MinkowskiNet, MINKUNET34, 37.9), (SPVCNN, MINKUNET34, 37.9)],
)
def test_size_of_the_published_models(kind, blocks, millions) -> None:
    with torch.device("meta"):
        network = kind(PUBLISHED, 20, 0.05, torch_backend.BACKEND, SegmentationLoss(None), layer_blocks=blocks)
    assert round(parameter_count(network) / 1e6, 1) == millions


def published_shapes(
    kind: type[VoxelNetwork], widths: Sequence[int], blocks: Sequence[int], classes: int
) -> dict[str, tuple[int, ...]]:
    """Writes down the weights of a U-Net as the published code names and shapes them, one after the other."""
    shapes: dict[str, tuple[int, ...]] = {}

    def conv(name: str, norm: str, size: int, c_in: int, c_out: int) -> None:
        shapes[f"{name}.kernel"] = (c_in, c_out) if size == 1 else (size**3, c_in, c_out)
        for entry in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{norm}.{entry}"] = (c_out,)

    def residual(name: str, c_in: int, c_out: int) -> None:
        conv(f"{name}.net.0", f"{name}.net.1", 3, c_in, c_out)
        conv(f"{name}.net.3", f"{name}.net.4", 3, c_out, c_out)
        if c_in != c_out:
            conv(f"{name}.downsample.0", f"{name}.downsample.1", 1, c_in, c_out)

    def linear(name: str, c_in: int, c_out: int) -> None:
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = (c_out, c_in), (c_out,)

    conv("stem.0", "stem.1", 3, 4, widths[0])
    conv("stem.3", "stem.4", 3, widths[0], widths[0])
    for stage in range(1, 5):
        c_in, c_out = widths[stage - 1], widths[stage]
        conv(f"stage{stage}.0.net.0", f"stage{stage}.0.net.1", 2, c_in, c_in)
        for number in range(1, 1 + blocks[stage - 1]):
            residual(f"stage{stage}.{number}", c_in if number == 1 else c_out, c_out)
    for up in range(1, 5):
        c_out = widths[4 + up]
        conv(f"up{up}.0.net.0", f"up{up}.0.net.1", 2, widths[3 + up], c_out)
        for number in range(blocks[3 + up]):
            residual(f"up{up}.1.{number}", c_out + widths[4 - up] if number == 0 else c_out, c_out)
    linear("classifier.0", widths[8], classes)
    if kind is SPVCNN:
        for number, (c_in, c_out) in enumerate(((0, 4), (4, 6), (6, 8))):
            linear(f"point_transforms.{number}.0", widths[c_in], widths[c_out])
            for entry in ("weight", "bias", "running_mean", "running_var"):
                shapes[f"point_transforms.{number}.1.{entry}"] = (widths[c_out],)
    return shapes


def without_counts(names: Iterable[str]) -> set[str]:
    """Leaves out what BatchNorm counts, and the weights of the loss, which a published file may hold."""
    return {name for name in names if not name.endswith("num_batches_tracked") and "criterion" not in name}


@BOTH
@pytest.mark.parametrize("blocks", [TWO, MINKUNET34, UNEVEN], ids=str)
def test_weights_by_name_and_shape(kind, blocks) -> None:
    """Whatever the numbers of blocks: a checkpoint with the names of the published code fits."""
    if blocks == TWO:  # what is written down here is the published network
        golden = released_state("minkowskinet_semantickitti" if kind is MinkowskiNet else "spvcnn_semantickitti")
        written = published_shapes(kind, [width // 4 for width in PUBLISHED], TWO, 20)
        assert written == {name: tuple(golden[name].shape) for name in without_counts(golden)}
    own = make_network(kind, blocks=blocks).state_dict()
    expected = {
        our_name(name): tuple(our_layout(name, torch.empty(shape, device="meta")).shape)
        for name, shape in published_shapes(kind, NARROW, blocks, CLASSES).items()
    }
    assert expected == {name: tuple(own[name].shape) for name in without_counts(own)}


@BOTH
@pytest.mark.parametrize("blocks", [TWO, UNEVEN], ids=str)
def test_every_weight_learns_and_the_loss_falls(kind, blocks) -> None:
    network, batch = make_network(kind, blocks=blocks).train(), make_batch(spread=0.3)
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
def test_without_lovasz_the_loss_is_the_cross_entropy(kind, monkeypatch) -> None:
    network, batch = make_network(kind, lovasz=0.0).eval(), make_batch(spread=0.3)
    with torch.no_grad():
        labels = batch.labels[network.voxelize(batch).first]
        logits = network(network.voxelize(batch))
    monkeypatch.setattr(losses_module, "lovasz_softmax", lambda *_: pytest.fail("computed for nothing"))
    found = network.training_losses(batch)
    expected = F.cross_entropy(logits, labels, ignore_index=0)
    assert float(found["loss"].detach()) == pytest.approx(float(expected), rel=1e-5)
    assert float(found["loss_lovasz"]) == 0
    found["loss"].backward()


@BOTH
def test_the_kernels_of_every_block_are_warmed_up(kind) -> None:
    asked: list[tuple[int, int, int]] = []
    network = make_network(kind, blocks=UNEVEN)
    network.backend = replace(network.backend, warm_up=lambda _, __, layers, ___: asked.extend(layers))
    network.warm_up(torch.device("cpu"), torch.float32, training=True)
    shapes = published_shapes(kind, NARROW, UNEVEN, CLASSES)
    kernels = [shape if len(shape) == 3 else (1, *shape) for name, shape in shapes.items() if name.endswith("kernel")]
    assert sorted(asked) == sorted(kernels)


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
    deeper = {"state_dict": make_network(MinkowskiNet, blocks=MINKUNET34).state_dict()}
    assert "stage2.blocks.2.conv1.weight is only" in refusal(load_weights, make_network(MinkowskiNet), deeper, "a")
    baseline = {"state_dict": make_network_3d().state_dict()}
    assert "checkpoint of another model" in refusal(load_weights, make_network(SPVCNN), baseline, "a")
    assert "checkpoint of another model" in refusal(load_weights, make_network_3d(), minkowski, "a")
    released = {"state_dict": released_state("minkowskinet_semantickitti")}
    assert "stem.conv1.weight is [27, 4, 8] in the file" in refusal(load_weights, make_network(SPVCNN), released, "a")
    odd = {"state_dict": {**released["state_dict"], "stem.9.kernel": torch.zeros(3)}}
    assert "'stem.9.kernel' is not of a published" in refusal(load_weights, make_network(MinkowskiNet), odd, "a")
