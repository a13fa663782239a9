"""The 3D network, and the training model of 2DPASS."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch

from network.assemble import build_network, parameter_count
from network.models.arch_2dpass import Arch2DPASS
from network.models.distillation import MSFSKD, FusionBlock
from network.models.losses import SegmentationLoss, class_weights
from network.models.network_3d import ConcatLinear, Features3D, Network3D
from network.ops.sums import RowSum
from network.sparse import torch_backend
from network.sparse.layers import BatchNorm, ResidualBlock, SparseConv3d, SparseConvNorm
from network.teachers.resnet34 import ImageBranch
from tests.support.networks import (
    CLASSES,
    CONFIG,
    VOLUME,
    golden_config,
    make_batch,
    make_network_3d,
    randomize_norms,
    relative_error,
    with_ages,
)
from tools.benchmarking.plain import network as plain_network
from tools.benchmarking.plain.versions import Geometry
from utils.config.loading import load_config
from utils.scan.records import Batch

SCALES = [(2, 4, 8), (2, 2, 16), (16,)]


def in_float64(network: Network3D, batch: Batch) -> Features3D:
    """Runs the network's forward pass in float64, on the voxels of the float32 coordinates."""
    voxels = network.voxelize(batch)
    return network.double()(replace(voxels, features=voxels.features.double()))


def make_2dpass(scale_list=(2, 4, 8, 16), channels: int = 4, input_dims: int = 4) -> Arch2DPASS:
    """Builds a narrow 2DPASS (its ResNet keeps its size)."""
    torch.manual_seed(0)
    criterion = SegmentationLoss(class_weights([0, 5, 1, 3, 2]))
    network = Arch2DPASS(
        Network3D(VOLUME, scale_list, channels, CLASSES, torch_backend.BACKEND, criterion, 0.1, input_dims),
        ImageBranch(channels, scale_list),
        MSFSKD(scale_list, channels, CLASSES, criterion, 1.0, 0.05),
    )
    randomize_norms(network)
    return network


@pytest.mark.parametrize(
    ("scale_list", "training", "input_dims"),
    [*((scales, training, 4) for scales in SCALES for training in (False, True)), ((2, 4, 8), True, 5)],
    ids=str,
)
def test_computing_on_voxels_equals_computing_on_points(scale_list, training, input_dims) -> None:
    network = make_network_3d(scale_list, input_dims=input_dims).train(training)
    batch = make_batch((70, 50)) if input_dims == 4 else with_ages(make_batch((70, 50)))
    batch.points[::2, :3] *= 0.07  # crowded voxels in the middle, lonely ones and points outside around
    assert (network.voxelize(batch).base.counts > 2).sum() > 5
    plain = copy.deepcopy(network).double()  # it updates its own running statistics
    geometry = Geometry(batch.points.double(), batch.scan_ids, VOLUME, scale_list)
    expected, expected_features = plain_network.forward(plain, geometry)
    # The features and the weights of the means are float32 in the network: hence 1e-5, not 1e-12.
    found = in_float64(network, batch)
    assert relative_error(found.logits, expected) < 1e-5
    voxels = network.voxelize(batch)
    for i, (v, wanted) in enumerate(zip(found.voxel_features, expected_features, strict=True)):
        of_point = geometry.grids[scale_list[i - 1] if i else 1].inverse
        assert relative_error(v[voxels.finer(i).inverse], wanted[of_point]) < 1e-5
    statistics = {name: buffer for name, buffer in plain.named_buffers() if "running" in name}
    assert len(statistics) == 16 * len(scale_list)
    for name, statistic in statistics.items():
        assert relative_error(network.get_buffer(name), statistic) < 1e-5, name

    upstream = torch.randn_like(expected)
    parameters = list(network.parameters())
    wanted_gradients = torch.autograd.grad(expected, list(plain.parameters()), upstream)
    largest = max(gradient.abs().max().item() for gradient in wanted_gradients)
    gradients = torch.autograd.grad(found.logits, parameters, upstream)
    for (name, _), gradient, wanted in zip(network.named_parameters(), gradients, wanted_gradients, strict=True):
        assert (gradient - wanted).abs().max() < 1e-4 * wanted.abs().max() + 1e-8 * largest, name


def test_a_scan_is_predicted_alike_alone_and_in_a_batch() -> None:
    network = make_network_3d((2, 4, 8, 16)).eval()
    batch = make_batch((50, 1, 30))
    with torch.no_grad():
        together = network.predict(batch).split(batch.lengths)
        for scan, expected in enumerate(together):
            rows = batch.scan_ids == scan
            count = len(expected)
            alone = replace(batch, points=batch.points[rows], scan_ids=torch.zeros(count).long(), lengths=(count,))
            assert relative_error(network.predict(alone), expected) < 1e-5


def test_order_of_points_does_not_matter() -> None:
    network = make_network_3d().eval()
    batch = make_batch((50,))
    order = torch.randperm(50)
    with torch.no_grad():
        shuffled = network.predict(replace(batch, points=batch.points[order], scan_ids=batch.scan_ids[order]))
        assert relative_error(shuffled, network.predict(batch)[order]) < 1e-5


def test_training_with_a_single_point() -> None:
    """With one row in every BatchNorm, the running statistics are used and do not change."""
    network = make_network_3d().train()
    before = {name: buffer.clone() for name, buffer in network.named_buffers()}
    losses = network.training_losses(replace(make_batch((1,)), labels=torch.tensor([2])))
    losses["loss"].backward()
    assert losses["loss"].isfinite()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
    for name, buffer in network.named_buffers():
        assert torch.equal(buffer, before[name]), name


@pytest.mark.parametrize("count", [0, 1])
def test_batch_norm_of_too_few_rows_uses_running_statistics(count) -> None:
    norm = BatchNorm(3)
    randomize_norms(norm)
    x = torch.randn(count, 3)
    trained = norm.train()(x)
    assert torch.equal(trained, norm.eval()(x))
    assert norm.eps == 1e-5 and norm.momentum == 0.1


def test_folding_the_norm_into_the_convolution_changes_nothing() -> None:
    layer = SparseConvNorm(4, 6, 3).eval()
    randomize_norms(layer)
    voxels = make_network_3d().voxelize(make_batch()).base
    features = torch.randn(len(voxels), 4)
    plain = SparseConv3d(4, 6, 3)
    plain.weight = layer.weight
    expected = layer.norm(plain(features, voxels.kernel_map))
    assert relative_error(layer(features, voxels.kernel_map), expected) < 1e-5
    bias = torch.randn(6)
    expected = layer.norm(plain(features, voxels.kernel_map) + bias)
    assert relative_error(layer(features, voxels.kernel_map, bias), expected) < 1e-5


def test_sparse_weights_are_drawn_within_the_kaiming_bound() -> None:
    weight = SparseConv3d(8, 16, 3).weight
    bound = 1 / (27 * 8) ** 0.5
    assert weight.shape == (27, 8, 16)
    assert 0.99 * bound < weight.abs().max() <= bound
    assert weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.05)


def test_layers_without_map() -> None:
    layer = SparseConv3d(3, 5, 1)
    features = torch.randn(7, 3)
    assert torch.allclose(layer(features, None), features @ layer.weight[0])
    with pytest.raises(ValueError, match="kernel size 3 needs a kernel map"):
        SparseConv3d(3, 5, 3)(features, None)
    block = ResidualBlock(3, 3)
    before = features.clone()
    block(features, torch_backend.submanifold_map(torch.arange(7), 3))
    assert torch.equal(features, before), "activations work in place, but not on the input"


def test_concat_linear() -> None:
    layer = ConcatLinear(5, 4)
    a, b = torch.randn(6, 2), torch.randn(3, 3)
    rows = torch.tensor([0, 2, 2, 1, 0, 1])
    expected = torch.cat([a, b[rows]], dim=1) @ layer.weight.T + layer.bias
    assert torch.allclose(layer((a, None), (b, RowSum.gathering(rows, 3))), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("overrides", "millions"),
    [
        ([], 1.93),
        (["model_params.hiden_size=128", "model_params.scale_list=[2,4,8,16,16,16]"], 11.5),
        (["model_params.hiden_size=256", "model_params.scale_list=[2,4,8,16,16,16]"], 45.6),
    ],
)
def test_published_parameter_counts_of_the_3d_network(overrides, millions) -> None:
    with torch.device("meta"):
        network = build_network(load_config(CONFIG, overrides), baseline_only=True)
    decimals = len(str(millions).partition(".")[2])
    assert round(parameter_count(network) / 1e6, decimals) == millions


def test_published_parameter_counts_of_2dpass() -> None:
    with torch.device("meta"):
        network = build_network(load_config(CONFIG))
    assert isinstance(network, Arch2DPASS)
    parts = (network.network_3d, network.image_branch, network.distillation, network)
    assert [round(parameter_count(part) / 1e6, 2) for part in parts] == [1.93, 24.41, 0.19, 26.53]


def test_built_network_follows_the_config() -> None:
    config = golden_config("train_params.lambda_xm=0.7", "train_params.lambda_seg2d=2")
    network = build_network(config)
    assert isinstance(network, Arch2DPASS)
    assert network.network_3d.lambda_lovasz == config.train_params.lambda_lovasz
    assert (network.distillation.lambda_xm, network.distillation.lambda_seg2d) == (0.7, 2)
    assert network.network_3d.volume.grid == (1000, 1000, 60)
    weights = network.network_3d.criterion.weights
    assert config.dataset_params.seg_labelweights is not None and weights is not None
    assert torch.equal(weights, class_weights(config.dataset_params.seg_labelweights))


def test_prediction_never_looks_at_images(monkeypatch) -> None:
    network = make_2dpass().eval()
    batch = make_batch(image=(32, 48))
    expected = network.predict(replace(batch, images=None, pixels=torch.zeros(0, 2), visible=torch.zeros(0)))

    def refuse(*_):
        raise AssertionError("the 2D side was used")

    monkeypatch.setattr(network.image_branch, "forward", refuse)
    monkeypatch.setattr(network.distillation, "forward", refuse)
    assert torch.equal(network.predict(batch), expected)
    with pytest.raises(ValueError, match="trains with images"):
        network.training_losses(replace(batch, images=None))


@pytest.mark.parametrize("seen", ["some", "none", "one"])
def test_every_parameter_gets_a_finite_gradient(seen) -> None:
    """Distributed training waits for the gradient of every parameter, in every batch."""
    network = make_2dpass((2, 4, 8, 16, 16))
    batch = make_batch(image=(32, 48))
    if seen != "some":
        pixels = torch.full_like(batch.pixels, -1)
        pixels[: int(seen == "one")] = 3
        batch = replace(batch, pixels=pixels, visible=torch.nonzero(pixels[:, 0] >= 0)[:, 0])
    losses = network.training_losses(batch)
    losses["loss"].backward()
    assert all(value.isfinite() for value in losses.values())
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
    of_2d = [p.grad.abs().max() for p in network.image_branch.parameters() if p.grad is not None]
    assert (max(of_2d) > 0) == (seen != "none")


def test_total_loss_is_the_sum_of_its_parts() -> None:
    losses = make_2dpass().training_losses(make_batch(image=(32, 48)))
    parts = ["loss_3d", "loss_scale2_0", "loss_scale4_1", "loss_scale8_2", "loss_scale16_3", "loss_fusion"]
    assert losses.keys() == {"loss", "loss_ce", "loss_lovasz", *parts}
    assert losses["loss"].item() == pytest.approx(sum(losses[name].item() for name in parts), rel=1e-6)
    assert losses["loss_3d"].item() == pytest.approx((losses["loss_ce"] + losses["loss_lovasz"]).item(), rel=1e-6)


@pytest.mark.parametrize("input_dims", [4, 5])
def test_losses_are_those_of_the_plain_version(input_dims) -> None:
    """With the age, a past point without a label has no vote in its voxel, and none of them is in the image."""
    network, batch = make_2dpass(input_dims=input_dims), make_batch((70, 50), spread=0.2, image=(32, 48))
    batch = batch if input_dims == 4 else with_ages(batch)
    expected = plain_network.training_losses(plain_network.standard_layout(network), batch)
    found = network.training_losses(batch)
    assert found.keys() == expected.keys()
    for name, loss in found.items():
        assert loss.item() == pytest.approx(expected[name].item(), rel=1e-4), name


def test_the_teacher_is_not_taught() -> None:
    """The gradient of the distillation loss reaches the 3D side only, not the fused prediction or the 2D branch."""
    weak, strong = (make_2dpass((2, 4)) for _ in range(2))
    weak.distillation.lambda_xm, strong.distillation.lambda_xm = 0.0, 100.0
    batch = make_batch(image=(32, 48))
    for network in (weak, strong):
        network.training_losses(batch)["loss"].backward()
    pairs = zip(weak.named_parameters(), strong.parameters(), strict=True)
    gradients = {name: (a.grad, b.grad) for (name, a), b in pairs}
    changed = {n for n, (a, b) in gradients.items() if a is None or b is None or not torch.allclose(a, b, rtol=1e-4)}
    assert changed
    assert all(name.startswith("network_3d.") or ".predict_3d." in name for name in changed)


def test_fusion_gate() -> None:
    """The fusion is u = ReLU(z * sigmoid(gate(z))), z = Linear([h, ReLU(Linear(g))]), row by row."""
    block = FusionBlock(3, CLASSES).double()
    g, h = torch.randn(6, 3).double(), torch.randn(6, 3).double()
    for row in range(6):
        a = (block.learner.weight @ g[row] + block.learner.bias).clamp(min=0)
        z = block.fuse.weight @ torch.cat([h[row], a]) + block.fuse.bias
        gate = 1 / (1 + torch.exp(-(block.gate.weight @ z + block.gate.bias)))
        torch.testing.assert_close(block(g, h)[row], (z * gate).clamp(min=0))
