"""Pre-training by distillation: what is learned, and what is not touched."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from network.models.pretraining import DistillationPretraining, StageTeacher, feature_distance
from network.training.optimizers import trained_parameters
from tests.support.networks import make_batch, make_network_3d, randomize_norms

BATCH = make_batch((60, 40), image=(32, 48))


def make_pretraining() -> DistillationPretraining:
    network_3d = make_network_3d((2, 4))
    teacher = StageTeacher(6, (2, 4))
    randomize_norms(teacher)
    return DistillationPretraining(network_3d, teacher)


def test_the_loss_is_the_distance_of_directions() -> None:
    learned, taught = torch.randn(7, 5), torch.rand(7, 5)
    expected = sum(float(torch.dist(a / a.norm(), b / b.norm())) for a, b in zip(learned, taught, strict=True)) / 7
    assert float(feature_distance(learned, taught)) == pytest.approx(expected, rel=1e-5)
    assert float(feature_distance(3 * taught, taught)) == pytest.approx(0, abs=1e-6)
    assert float(feature_distance(learned[:0], taught[:0])) == 0


def test_the_teacher_gives_the_features_of_its_stages_at_the_pixels() -> None:
    teacher = make_pretraining().image_branch
    assert isinstance(teacher, StageTeacher) and BATCH.images is not None
    maps = [x for _, x in teacher._stages(BATCH.images)]
    found = teacher.point_features(BATCH)
    assert found.shape == (len(BATCH.visible), 64 + 128) == (len(BATCH.visible), teacher.dimensions)
    for row, point in enumerate(BATCH.visible[:20].tolist()):
        scan, (y, x) = BATCH.scan_ids[point], BATCH.pixels[point].tolist()
        cells = [stage[scan, :, y // stride, x // stride] for stage, stride in zip(maps, (2, 4), strict=True)]
        expected = torch.cat([cell / cell.norm().clamp(min=1e-12) for cell in cells])
        torch.testing.assert_close(found[row], expected)


def test_only_the_3d_network_learns() -> None:
    network = make_pretraining().train()
    before = {name: tensor.clone() for name, tensor in network.image_branch.state_dict().items()}
    assert not any("classifier" in name for name in network.state_dict())
    optimizer, losses = torch.optim.Adam(trained_parameters(network), 0.01), []
    for _ in range(15):
        optimizer.zero_grad()
        loss = network.training_losses(BATCH)["loss"]
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0]
    after = network.image_branch.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)  # statistics of its BatchNorms, too
    assert all(parameter.grad is None for parameter in network.image_branch.parameters())
    learning = {*network.network_3d.parameters(), *network.pretraining_head.parameters()}
    assert set(trained_parameters(network)) == learning
    assert all(parameter.grad is not None for parameter in learning)


def test_labels_do_not_count_and_a_batch_without_a_pixel_teaches_nothing() -> None:
    network = make_pretraining()
    network.eval()
    loss = network.training_losses(BATCH)["loss"]
    assert torch.equal(loss, network.training_losses(replace(BATCH, labels=torch.full_like(BATCH.labels, 3)))["loss"])
    blind = replace(BATCH, pixels=torch.full_like(BATCH.pixels, -1), visible=BATCH.visible[:0])
    nothing = network.training_losses(blind)["loss"]
    nothing.backward()
    assert nothing.item() == 0
    gradients = [parameter.grad for parameter in trained_parameters(network)]  # of all: several processes wait for them
    assert all(gradient is not None and float(gradient.norm()) == 0 for gradient in gradients)
