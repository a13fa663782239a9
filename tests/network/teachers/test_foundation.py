"""A frozen vision transformer as a teacher: from the patches of a picture to the points, and what is trained."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from network.models.arch_2dpass import Arch2DPASS
from network.models.distillation import MSFSKD
from network.models.losses import SegmentationLoss
from network.teachers.foundation import FoundationEncoder, FoundationTeacher, encode_each, sample
from network.training.gradient_guard import GradientGuard
from tests.support.foundations import make_model
from tests.support.networks import CLASSES, make_batch, make_network_3d
from utils.scan.records import Batch

KINDS = {"dinov2-small": (14, 0), "dinov3-vits16": (16, 4)}  # patch size, registers
SCALES, CHANNELS = (2, 4, 8), 6


def make_encoder(name: str = "dinov2-small") -> FoundationEncoder:
    return FoundationEncoder(make_model(name), *KINDS[name], f"tiny {name}")


def picture_batch(sizes: list[tuple[int, int]], seed: int = 0) -> Batch:
    """Makes a batch with uint8 pictures of several sizes; about half of the points have a pixel of their picture."""
    generator = torch.Generator().manual_seed(seed)
    batch = make_batch((60, 40)[: len(sizes)], image=(8, 8), seed=seed)
    height, width = (max(edges) for edges in zip(*sizes, strict=True))
    images = torch.zeros(len(sizes), 3, height, width, dtype=torch.uint8)
    for image, (h, w) in zip(images, sizes, strict=True):
        image[:, :h, :w] = torch.randint(256, (3, h, w), generator=generator)
    limits = torch.tensor(sizes)[batch.scan_ids]
    pixels = (torch.rand(len(limits), 2, generator=generator) * limits).long()
    pixels[batch.pixels[:, 0] < 0] = -1
    return replace(batch, images=images, image_sizes=tuple(sizes), pixels=pixels)


def make_2dpass(encoder: FoundationEncoder | None = None, seed: int = 0) -> Arch2DPASS:
    network_3d = make_network_3d(SCALES, CHANNELS, seed)
    teacher = FoundationTeacher(encoder or make_encoder(), CHANNELS, SCALES)
    return Arch2DPASS(network_3d, teacher, MSFSKD(SCALES, CHANNELS, CLASSES, SegmentationLoss(None), 1.0, 0.05))


def slow_bilinear(patches: Tensor, size: tuple[int, int], row: int, column: int) -> Tensor:
    """Looks a pixel up by hand: the (h, w, D) patches cover the picture evenly, each has its feature in its centre."""
    edge = [pixels / count for pixels, count in zip(size, patches.shape[:2], strict=True)]
    centres = [[(p + 0.5) * e for p in range(count)] for e, count in zip(edge, patches.shape[:2], strict=True)]
    total = torch.zeros(patches.shape[2])
    for p, y in enumerate(centres[0]):
        for q, x in enumerate(centres[1]):
            at = [
                min(max(pixel + 0.5, line[0]), line[-1])  # the middle of the pixel, no farther out than a centre
                for pixel, line in zip((row, column), centres, strict=True)
            ]
            near = [max(0.0, 1 - abs(a - c) / e) for a, c, e in zip(at, (y, x), edge, strict=True)]
            total += near[0] * near[1] * patches[p, q].float()
    return total


@pytest.mark.parametrize("size", [(28, 42), (30, 50), (5, 100)])
def test_a_pixel_has_the_bilinear_feature_of_the_patches_around_it(size) -> None:
    extent = make_encoder().feature_size(*size)
    maps = torch.randn(2, 9, 9, 5, generator=torch.Generator().manual_seed(0)).half()  # larger than what counts of it
    pixels = torch.tensor([[r, c] for r in range(size[0]) for c in range(0, size[1], 3)])
    ids = torch.arange(len(pixels)) % 2
    found = sample(maps, [extent] * 2, [size] * 2, ids, pixels)
    assert found.dtype == torch.float32
    for number, (row, column), feature in zip(ids.tolist(), pixels.tolist(), found, strict=True):
        patches = maps[number, : extent[0], : extent[1]]
        torch.testing.assert_close(feature, slow_bilinear(patches, size, row, column), rtol=1e-4, atol=1e-4)


def test_the_middle_of_a_patch_has_its_feature_alone() -> None:
    """Of 16 pixels there is no middle one: half a pixel on either side. Of 15 there is."""
    maps = torch.arange(6.0).view(1, 2, 3, 1).half()
    middles = torch.tensor([[p * 15 + 7, q * 15 + 7] for p in range(2) for q in range(3)])
    found = sample(maps, [(2, 3)], [(30, 45)], torch.zeros(6, dtype=torch.int64), middles)
    torch.testing.assert_close(found[:, 0], torch.arange(6.0))
    sides = sample(maps, [(2, 3)], [(32, 48)], torch.zeros(2, dtype=torch.int64), torch.tensor([[7, 23], [7, 24]]))
    torch.testing.assert_close(sides.mean(), torch.tensor(1.0))


@pytest.mark.parametrize("name", KINDS)
def test_features_are_those_of_the_patches_in_their_order(name) -> None:
    """By the model's own output for a picture of whole patches, without its class token and registers."""
    encoder, (patch, registers) = make_encoder(name), KINDS[name]
    image = torch.randint(256, (1, 3, 2 * patch, 3 * patch), dtype=torch.uint8)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    with torch.no_grad():
        tokens = encoder.model((image / 255 - mean.view(3, 1, 1)) / std.view(3, 1, 1)).last_hidden_state
    assert tokens.shape[1] == 1 + registers + 6
    found = encoder.encode(image)
    assert found.shape == (1, 2, 3, 16) and found.dtype == torch.float16
    wanted = tokens[0, -6:].view(2, 3, 16)
    torch.testing.assert_close(found[0].float(), wanted, rtol=2e-3, atol=2e-3)
    # The order of the patches, by one that is changed in the picture.
    changed = image.clone()
    changed[..., :patch, 2 * patch :] = 255 - changed[..., :patch, 2 * patch :]
    difference = (encoder.encode(changed) - found).abs().sum(-1)[0]
    assert difference.flatten().argmax() == 2


@pytest.mark.parametrize("name", KINDS)
def test_features_depend_on_the_picture_alone(name) -> None:
    """To the last bit: whatever else is in the batch, and in whichever mode the network is."""
    encoder, sizes = make_encoder(name), [(37, 50), (45, 64)]
    batch = picture_batch(sizes)
    assert batch.images is not None
    together = encode_each(encoder, batch.images, sizes)
    for number, (height, width) in enumerate(sizes):
        h, w = encoder.feature_size(height, width)
        alone = encoder.encode(batch.images[number : number + 1, :, :height, :width])[0]
        assert alone.shape == (h, w, 16) and torch.equal(together[number, :h, :w], alone)
    make_2dpass(encoder).train()
    assert not encoder.model.training and torch.equal(encode_each(encoder, batch.images, sizes), together)
    teacher = FoundationTeacher(encoder, CHANNELS, SCALES)
    features = teacher.point_features(batch)
    ids, pixels = batch.scan_ids[batch.visible], batch.pixels[batch.visible]
    for number, size in enumerate(sizes):  # the first picture is smaller than what it lies in
        h, w = encoder.feature_size(*size)
        wanted = [slow_bilinear(together[number, :h, :w], size, *pixel) for pixel in pixels[ids == number].tolist()]
        torch.testing.assert_close(features[ids == number], torch.stack(wanted), rtol=1e-4, atol=1e-4)


def test_sizes_are_rounded_to_the_patch() -> None:
    encoder = make_encoder()
    assert encoder.feature_size(376, 1241) == (27, 89) and encoder.feature_size(370, 1226) == (26, 88)
    assert encoder.feature_size(1, 20) == (1, 1) and encoder.feature_size(6, 21) == (1, 2)
    assert encoder.encode(torch.zeros(1, 3, 1, 20, dtype=torch.uint8)).shape == (1, 1, 1, 16)
    assert make_encoder("dinov3-vits16").feature_size(376, 1241) == (24, 78)


def test_the_encoder_is_no_part_of_the_network() -> None:
    encoder = make_encoder()
    network = make_2dpass(encoder)
    frozen = {id(tensor) for tensor in (*encoder.model.parameters(), *encoder.model.buffers())}
    assert not any(parameter.requires_grad for parameter in encoder.model.parameters())
    assert not frozen & {id(tensor) for tensor in (*network.parameters(), *network.buffers())}
    of_teacher = {name for name in network.state_dict() if name.startswith("image_branch.")}
    assert of_teacher == {f"image_branch.heads.{s}.{kind}" for s in SCALES for kind in ("weight", "bias")}
    assert not frozen & {id(b) for buffers in GradientGuard(network)._buffers().values() for b in buffers}
    assert copy.deepcopy(network).image_branch.encoder is encoder  # an average of weights does not copy it
    assert network.teacher_weights() == "tiny dinov2-small"


def test_a_training_lowers_the_loss_and_leaves_the_encoder_as_it_was() -> None:
    encoder = make_encoder()
    network, batch = make_2dpass(encoder), picture_batch([(37, 50), (45, 64)])
    before = copy.deepcopy(encoder.model.state_dict())
    optimizer = torch.optim.Adam(network.parameters(), 0.003)
    losses = []
    for _ in range(8):
        optimizer.zero_grad()
        loss = network.training_losses(batch)["loss"]
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0] and all(map(math.isfinite, losses))
    assert all(parameter.grad is None for parameter in encoder.model.parameters())
    assert all(parameter.grad is not None for parameter in network.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in encoder.model.state_dict().items())


@pytest.mark.parametrize("seen", ["none", "some"])
def test_losses_in_bf16_are_near_those_in_fp32(seen) -> None:
    network, batch = make_2dpass(), picture_batch([(37, 50)])
    if seen == "none":
        batch = replace(batch, pixels=torch.full_like(batch.pixels, -1), visible=batch.visible[:0])
    exact = network.training_losses(batch)["loss"]
    with torch.autocast("cpu", torch.bfloat16):
        rounded = network.training_losses(batch)["loss"]
    rounded.backward()
    torch.testing.assert_close(rounded.float(), exact, rtol=0.03, atol=0.03)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.image_branch.parameters())


def test_the_network_at_test_is_that_without_a_teacher() -> None:
    batch = picture_batch([(37, 50), (45, 64)])
    network, alone = make_2dpass(seed=3).eval(), make_network_3d(SCALES, CHANNELS, 3).eval()
    without = replace(batch, images=None, image_sizes=())
    assert torch.equal(network.predict(without), alone.predict(batch))
    assert network.evaluated().state_dict().keys() == alone.state_dict().keys()
    with pytest.raises(ValueError, match="has none"):
        network.training_losses(without)
    with pytest.raises(ValueError, match="uint8"):
        network.training_losses(make_batch(image=(28, 28)))
