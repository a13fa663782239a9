"""The 2D branch: names and shapes of ResNet-34, resolutions, and features looked up before the upsampling."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from network.teachers.grid_convolution import convolve_at
from network.teachers.resnet34 import Decoder, ImageBranch, sample
from tests.support.golden import released_state

DEPTHS = {1: 3, 2: 4, 3: 6, 4: 3}


def resnet34_shapes() -> dict[str, tuple[int, ...]]:
    """Lists the names and shapes of torchvision's resnet34 without its classifier (He et al., CVPR 2016, table 1)."""

    def norm(name: str, c: int) -> dict[str, tuple[int, ...]]:
        rows = dict.fromkeys(("weight", "bias", "running_mean", "running_var"), (c,))
        return {f"{name}.{key}": shape for key, shape in rows.items()} | {f"{name}.num_batches_tracked": ()}

    shapes = {"conv1.weight": (64, 3, 7, 7), **norm("bn1", 64)}
    for stage, depth in DEPTHS.items():
        width = 64 * 2 ** (stage - 1)
        for block in range(depth):
            name, c_in = f"layer{stage}.{block}", width // 2 if stage > 1 and block == 0 else width
            shapes |= {f"{name}.conv1.weight": (width, c_in, 3, 3), f"{name}.conv2.weight": (width, width, 3, 3)}
            shapes |= norm(f"{name}.bn1", width) | norm(f"{name}.bn2", width)
            if c_in != width:
                shapes |= {f"{name}.downsample.0.weight": (width, c_in, 1, 1)} | norm(f"{name}.downsample.1", width)
    return shapes


def shapes_of(state: dict[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


def test_backbone_has_torchvisions_names_and_shapes() -> None:
    own = shapes_of(ImageBranch(8, (2, 4, 8, 16)).state_dict())
    assert {name: shape for name, shape in own.items() if not name.startswith("decoders.")} == resnet34_shapes()


def test_released_backbone_has_the_same_names_and_shapes() -> None:
    """The names that this project takes from torchvision are those in a published checkpoint."""
    released = shapes_of(released_state("arch_2dpass_semkitti"))
    of_2d = {name: shape for name, shape in released.items() if name.startswith("model_2d.") and "deconv" not in name}
    assert of_2d == {f"model_2d.{name}": shape for name, shape in resnet34_shapes().items()}


def test_the_random_start_is_torchvisions() -> None:
    """The convolutions of the ResNet: normal, variance 2 / (output channels x kernel area) (He et al., ICCV 2015, as
    torchvision's ResNet: fan_out, ReLU). BatchNorm: 1 and 0. The decoders: torch's default, uniform of
    +-1 / sqrt(inputs of an output)."""
    torch.manual_seed(0)
    branch = ImageBranch(16, (2, 4, 8, 16))
    seen = 0
    for name, module in branch.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            assert (module.weight == 1).all() and (module.bias == 0).all()
        if not isinstance(module, nn.Conv2d):
            continue
        weight, area = module.weight.detach(), module.kernel_size[0] * module.kernel_size[1]
        few = 5 / (2 * weight.numel()) ** 0.5  # five standard errors of a standard deviation
        if name.startswith("decoders."):
            largest = (module.in_channels * area) ** -0.5
            assert weight.abs().max() <= largest and weight.std().item() == pytest.approx(largest / 3**0.5, rel=few)
        else:
            seen += 1
            wanted = (2 / (module.out_channels * area)) ** 0.5
            assert weight.std().item() == pytest.approx(wanted, rel=few), name
            assert weight.mean().abs() < 5 * wanted / weight.numel() ** 0.5
            assert weight.abs().max() > 2.5 * wanted, name  # a uniform one would end at 1.73
            assert weight.is_contiguous(memory_format=torch.channels_last)
    assert seen == 1 + 2 * sum(DEPTHS.values()) + 3


def every_pixel(images: int, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Returns the image number and the (row, column) of every pixel."""
    row, col = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.arange(images).repeat_interleave(height * width), torch.stack([row, col], -1).view(-1, 2).repeat(
        images, 1
    )


@pytest.mark.parametrize("scale_list", [(2, 4, 8, 16), (2, 4, 8, 16, 16, 16), (16,), (2, 8)], ids=str)
def test_scales_width_and_resolution_of_the_features(scale_list) -> None:
    rows, pixels = every_pixel(2, 32, 48)
    features = ImageBranch(5, scale_list).eval()(torch.randn(2, 3, 32, 48), rows, pixels)
    assert list(features) == sorted(set(scale_list))
    for scale, of_pixels in features.items():
        assert of_pixels.shape == (2 * 32 * 48, 5)
        assert (of_pixels >= 0).all(), "each decoder ends in a ReLU"
        stride = 2 if scale == 2 else 4
        blocks = of_pixels.view(2, 32 // stride, stride, 48 // stride, stride, 5)
        assert (blocks == blocks[:, :, :1, :, :1]).all(), "one feature per cell"
        assert len(of_pixels.unique(dim=0)) > 32 * 48 // stride**2


@pytest.mark.parametrize("scale", [2, 4, 8, 16])
@pytest.mark.parametrize("count", [1, 9, 40])
def test_features_at_a_few_pixels_are_those_of_the_whole_map(scale, count) -> None:
    """Results and gradients are the same, also at borders and corners, and if a pixel occurs twice."""
    torch.manual_seed(count)
    decoder = Decoder(scale, 6).double()
    stride = 2 if scale == 2 else 4
    c_in = {2: 64, 4: 128, 8: 256, 16: 512}[scale]
    x = torch.randn(2, c_in, 32 // scale, 48 // scale, dtype=torch.float64, requires_grad=True)
    rows, pixels = every_pixel(2, 32, 48)
    chosen = torch.cat([torch.randperm(len(rows))[: count - 1], torch.tensor([47])]).repeat(2)
    rows, pixels = rows[chosen], pixels[chosen]
    found = decoder.at(x, 32, rows, pixels)
    whole = nn.Upsample(scale_factor=stride, mode="nearest")(decoder(x))
    expected = whole[rows, :, pixels[:, 0], pixels[:, 1]]
    assert torch.allclose(found, expected)
    leaves, upstream = [x, *decoder.parameters()], torch.randn_like(found)
    for got, want in zip(*(torch.autograd.grad(t, leaves, upstream) for t in (found, expected)), strict=True):
        assert torch.allclose(got, want)


@pytest.mark.parametrize("k", [1, 3, 7])
def test_convolution_at_cells_against_conv2d(k) -> None:
    features = torch.randn(3, 4, 9, 5, dtype=torch.float64)
    weight = torch.randn(6, 4, k, k, dtype=torch.float64)
    everywhere = F.conv2d(features, weight, padding=k // 2).permute(0, 2, 3, 1).reshape(-1, 6)
    for cells in (torch.arange(135), torch.tensor([0, 4, 44, 45, 89, 134]), torch.tensor([7]), torch.zeros(0).long()):
        assert torch.allclose(convolve_at(features, weight, cells), everywhere[cells])


def test_bytes_are_normalised_and_numbers_are_not() -> None:
    images = torch.randint(256, (2, 3, 32, 48), dtype=torch.uint8)
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.25, 0.5)
    branch = ImageBranch(4, (2,), (mean, std)).eval()
    found = branch.normalize(images)
    assert found.dtype == torch.float32
    for channel in range(3):
        expected = (images[:, channel].double() / 255 - mean[channel]) / std[channel]
        assert torch.allclose(found[:, channel].double(), expected, atol=1e-6)
    assert torch.equal(branch.normalize(found), found)
    everywhere = every_pixel(2, 32, 48)
    assert torch.equal(branch(images, *everywhere)[2], branch(found, *everywhere)[2])
    assert torch.equal(ImageBranch(4, (2,)).normalize(images), images.float() / 255)


@pytest.mark.parametrize("size", [(40, 48), (32, 50), (15, 16)])
def test_sizes_that_are_no_multiple_of_16_are_refused(size) -> None:
    with pytest.raises(ValueError, match="multiples of 16, got"):
        ImageBranch(4, (2,))(torch.zeros(1, 3, *size), torch.zeros(1).long(), torch.zeros(1, 2).long())


@pytest.mark.parametrize("stride", [1, 2, 4])
def test_sampling_equals_looking_up_after_nearest_upsampling(stride) -> None:
    height, width = 32, 48
    feature_map = torch.randn(3, 5, height // stride, width // stride, requires_grad=True)
    rows, pixels = every_pixel(3, height, width)
    upsampled = nn.Upsample(scale_factor=stride, mode="nearest")(feature_map)
    expected = upsampled[rows, :, pixels[:, 0], pixels[:, 1]]
    found = sample(feature_map, height, rows, pixels)
    assert torch.equal(found, expected)
    upstream = torch.randn_like(found)
    (gradient,), (wanted,) = (torch.autograd.grad(t, feature_map, upstream) for t in (found, expected))
    assert torch.allclose(gradient, wanted, atol=1e-5)


def test_an_image_that_ends_as_one_pixel_trains() -> None:
    """With one image of 16 x 16 pixels, the last feature maps have a single value for each channel."""
    branch = ImageBranch(4, (2, 4, 8, 16)).train()
    rows, pixels = torch.zeros(5, dtype=torch.int64), torch.randint(16, (5, 2))
    features = branch(torch.rand(1, 3, 16, 16), rows, pixels)
    torch.stack([feature.square().sum() for feature in features.values()]).sum().backward()
    gradients = [parameter.grad for parameter in branch.parameters() if parameter.grad is not None]
    assert len(gradients) > 50 and all(gradient.isfinite().all() for gradient in gradients)


def test_sampling_no_point() -> None:
    none = torch.zeros(0, dtype=torch.int64)
    assert sample(torch.randn(2, 5, 8, 12), 32, none, none.view(0, 2)).shape == (0, 5)


def test_sampling_does_not_depend_on_the_memory_format() -> None:
    feature_map = torch.randn(2, 5, 8, 12)
    rows, pixels = torch.tensor([0, 1, 1]), torch.tensor([[0, 0], [31, 47], [17, 5]])
    channels_last = feature_map.contiguous(memory_format=torch.channels_last)
    assert torch.equal(sample(feature_map, 32, rows, pixels), sample(channels_last, 32, rows, pixels))


@pytest.mark.parametrize("height", [1, 2, 3])
def test_bfloat16_gradients_on_maps_of_few_rows(height) -> None:
    """On some processors oneDNN gives wrong gradients for one or two rows."""
    torch.manual_seed(height)
    decoder = Decoder(4, 16)
    x = torch.randn(2, 128, height, 5)
    gradients = []
    for half in (True, False):
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            out = decoder(x)
        assert out.shape == (2, 16, height, 5)
        gradients.append(torch.autograd.grad(out, list(decoder.parameters()), torch.ones_like(out))[0])
    found, expected = gradients
    # Rounding turns some of the ReLUs on or off; rubbish is as large as the gradient or infinite.
    assert (found - expected).norm() < 0.3 * expected.norm()
