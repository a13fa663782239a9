"""The 2D branch is a ResNet-34 with one small decoder per scale; it is used in training only.

B is the number of images, M the number of points that have a pixel.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from network.ops.distinct import Ranking, collect
from network.ops.sums import RowSum
from network.sparse.layers import NormOfFew
from network.teachers.grid_convolution import convolve_at
from network.teachers.teacher import Teacher
from utils.scan.records import Batch

Normalizer = tuple[Sequence[float], Sequence[float]]
"""Mean and standard deviation of R, G and B, for values 0..1."""

_FEWEST_ROWS = 3  # of a feature map that oneDNN computes the bf16 gradient of a 7x7 kernel on
_FEW = 0.4  # up to this share of the cells of a feature map it is faster to compute only the cells that are needed
# Scale -> name of the stage, channels, number of blocks, stride of the first block.
_STAGES = {2: ("layer1", 64, 3, 1), 4: ("layer2", 128, 4, 2), 8: ("layer3", 256, 6, 2), 16: ("layer4", 512, 3, 2)}


class ImageNorm(NormOfFew, nn.BatchNorm2d):
    """A BatchNorm over pixels that accepts a single one: the last feature map of a 16 x 16 image has one pixel."""


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with a shortcut (He et al., CVPR 2016); its parameters are named as in torchvision."""

    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, c_out, 3, stride, padding=1, bias=False)
        self.bn1 = ImageNorm(c_out)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, padding=1, bias=False)
        self.bn2 = ImageNorm(c_out)
        self.downsample = None
        if stride != 1 or c_in != c_out:
            self.downsample = nn.Sequential(nn.Conv2d(c_in, c_out, 1, stride, bias=False), ImageNorm(c_out))

    def forward(self, x: Tensor) -> Tensor:
        """Computes (B, C_out, h / stride, w / stride) features from (B, C_in, h, w)."""
        identity = x if self.downsample is None else self.downsample(x)
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        return F.relu(self.bn2(self.conv2(out)) + identity, inplace=True)


class Decoder(nn.Sequential):
    """A 7x7 convolution, then upsampling by transposed convolutions to 1/2 or 1/4 of the image's resolution.

    The published decoders end in a nearest-neighbour upsampling to the resolution of the image, where points look
    features up. Here the points look up the feature map before that upsampling, at pixel // stride: the values are the
    same, without the large maps.

    Args:
        scale: which stage of the ResNet it decodes: 2, 4, 8 or 16.
        channels: C of the result.
    """

    def __init__(self, scale: int, channels: int) -> None:
        c_in = _STAGES[scale][1]
        widths = {2: [channels], 4: [channels], 8: [64, channels], 16: [64, 64, channels]}[scale]
        self.is_convolution = len(widths) == 1
        layers: list[nn.Module] = [nn.Conv2d(c_in, widths[0], 7, padding=3, bias=False), nn.ReLU(inplace=True)]
        for narrow, wide in itertools.pairwise(widths):
            upsample = nn.ConvTranspose2d(narrow, wide, 3, stride=2, padding=1, output_padding=1)
            layers += [upsample, nn.ReLU(inplace=True)]
        super().__init__(*layers)

    def forward(self, input: Tensor) -> Tensor:
        """Computes the decoded feature map from that of the ResNet (B, c, h, w).

        Returns:
            (B, C, u h, u w); the upsampling factor u is 1 at scales 2 and 4, 2 at scale 8 and 4 at scale 16.
        """
        height = input.shape[2]
        if input.device.type == "cpu" and height < _FEWEST_ROWS:
            # For the bf16 gradient of a 7x7 kernel on one or two rows, oneDNN reads beyond the tensor's memory. More
            # rows of zeros do not change the result.
            features = self[0](F.pad(input, (0, 0, 0, _FEWEST_ROWS - height)))[:, :, :height]
        else:
            features = self[0](input)
        for layer in itertools.islice(self, 1, None):
            features = layer(features)
        return features

    def at(self, x: Tensor, image_height: int, image_ids: Tensor, pixels: Tensor) -> Tensor:
        """Computes the decoded features at some pixels of the images.

        Args:
            x: (B, c, h, w) features of the stage of the ResNet that this decodes.
            image_height: height of the images that the pixels refer to.
            image_ids: (M,) int64, number of the image of each pixel.
            pixels: (M, 2) int64 (row, column).

        Returns:
            (M, C) in the type of the feature map.
        """
        if self.is_convolution and x.device.type == "cpu":
            (needed,) = collect([Ranking(_cells(x, image_height, image_ids, pixels))])
            if len(needed) < _FEW * x[:, 0].numel():
                weight = self[0].weight
                assert isinstance(weight, Tensor)
                at_cells = F.relu(convolve_at(x, weight, needed.values), inplace=True)
                return RowSum.spreading(needed)(at_cells)
        return sample(self(x), image_height, image_ids, pixels)


def sample(feature_map: Tensor, image_height: int, image_ids: Tensor, pixels: Tensor) -> Tensor:
    """Looks up the (M, C) features of a map (B, C, h, w) at pixels of the images; arguments: see `Decoder.at`."""
    flat = feature_map.permute(0, 2, 3, 1).reshape(-1, feature_map.shape[1])
    cells = _cells(feature_map, image_height, image_ids, pixels)
    if flat.device.type == "cpu":
        return flat.index_select(0, cells)
    # A GPU would add up the gradients of pixels in one cell in no fixed order: results would differ from run to run.
    return RowSum.gathering(cells, len(flat))(flat)


def _cells(feature_map: Tensor, image_height: int, image_ids: Tensor, pixels: Tensor) -> Tensor:
    """Computes the (M,) cell of each pixel in a map (B, c, h, w): (image * h + row) * w + column."""
    h, w = feature_map.shape[2:]
    cell = torch.div(pixels, image_height // h, rounding_mode="floor")
    return (image_ids * h + cell[:, 0]) * w + cell[:, 1]


class ImageBranch(Teacher):
    """A ResNet-34 with the first convolution at stride 1, and a decoder to C channels at each scale.

    Args:
        channels: C.
        scale_list: the scales that have a decoder.
        normalizer: mean and standard deviation for uint8 images; None only divides them by 255.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, channels: int, scale_list: Sequence[int], normalizer: Normalizer | None = None) -> None:
        super().__init__()
        for name, values in zip(("mean", "std"), normalizer or ((0.0,) * 3, (1.0,) * 3), strict=True):
            # Not persistent: they follow from the config, and published checkpoints do not have them.
            self.register_buffer(name, torch.tensor(values, dtype=torch.float32).view(3, 1, 1), persistent=False)
        self.conv1 = nn.Conv2d(3, 64, 7, stride=1, padding=3, bias=False)
        self.bn1 = ImageNorm(64)
        self.scales = [scale for scale in _STAGES if scale <= max(scale_list)]
        c_in = 64
        self.stage_channels = [_STAGES[scale][1] for scale in self.scales]
        for scale in self.scales:
            name, c_out, depth, stride = _STAGES[scale]
            blocks = [BasicBlock(c_in if i == 0 else c_out, c_out, stride if i == 0 else 1) for i in range(depth)]
            self.add_module(name, nn.Sequential(*blocks))
            c_in = c_out
        self._start_as_torchvision()
        self.decoders = nn.ModuleDict({str(s): Decoder(s, channels) for s in sorted(set(scale_list))})
        for parameter in self.parameters():
            if parameter.dim() == 4:
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)

    def _start_as_torchvision(self) -> None:
        """Initialises the convolutions as torchvision's ResNet does; it is to be called before the decoders are made.

        He et al. (ICCV 2015): normal distribution of variance 2 / fan-out. Torch's default is another distribution.
        (BatchNorm starts at 1 and 0 in both.)
        """
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def normalize(self, images: Tensor) -> Tensor:
        """Converts (B, 3, H, W) uint8 to (value / 255 - mean) / std; other dtypes count as normalised already."""
        if images.dtype != torch.uint8:
            return images
        return images.to(self.mean.dtype).div_(255).sub_(self.mean).div_(self.std)

    def at_points(self, batch: Batch) -> dict[int, Tensor]:
        """Computes scale -> (M, C) features of the points that have a pixel.

        Raises:
            ValueError: the batch has no images, or they differ in size.
        """
        if batch.images is None:
            raise ValueError("2DPASS trains with images; this batch has none")
        if any(size != tuple(batch.images.shape[2:]) for size in batch.image_sizes):
            raise ValueError("images of one batch differ in size; crop them with dataset_params.bottom_crop")
        return self(batch.images, batch.scan_ids[batch.visible], batch.pixels[batch.visible])

    def forward(self, images: Tensor, image_ids: Tensor, pixels: Tensor) -> dict[int, Tensor]:
        """Computes the features at some pixels of the images, for each scale.

        Args:
            images: (B, 3, H, W) uint8 RGB, or float32 if normalised already; H and W are multiples of 16.
            image_ids: (M,) int64, number of the image of each pixel.
            pixels: (M, 2) int64 (row, column).

        Returns:
            Scale -> (M, C) features.

        Raises:
            ValueError: H or W is not a multiple of 16.
        """
        height = images.shape[2]
        features = {}
        for scale, x in self._stages(images):
            if str(scale) in self.decoders:
                decoder = self.decoders[str(scale)]
                assert isinstance(decoder, Decoder)
                features[scale] = decoder.at(x, height, image_ids, pixels)
        return features

    def stages_at(self, images: Tensor, image_ids: Tensor, pixels: Tensor) -> list[Tensor]:
        """Computes the features of the ResNet's stages, before any decoder, at some pixels of the images.

        Arguments and errors are those of `forward`.

        Returns:
            For each stage (M, c): `stage_channels`.
        """
        return [sample(x, images.shape[2], image_ids, pixels) for _, x in self._stages(images)]

    def _stages(self, images: Tensor) -> Iterator[tuple[int, Tensor]]:
        """Computes the (B, c, h, w) feature map of each stage, with its scale, one after the other."""
        if images.shape[2] % 16 or images.shape[3] % 16:
            raise ValueError(f"image height and width must be multiples of 16, got {tuple(images.shape[2:])}")
        images = self.normalize(images.contiguous(memory_format=torch.channels_last))
        x = F.relu(self.bn1(self.conv1(images)), inplace=True)
        x = F.max_pool2d(x, 3, stride=2, padding=1)
        for scale in self.scales:
            x = self.get_submodule(_STAGES[scale][0])(x)
            yield scale, x
