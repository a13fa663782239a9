"""A frozen vision foundation model as a teacher: DINOv2 or DINOv3, with one small trained head per scale.

image -> (frozen) vision transformer -> one feature per patch -> bilinear at the pixel of a point -> head of a scale

B is the number of images, M the number of points that have a pixel, D the features of a patch, (h, w) the number of
patches along an image.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from network.ops.linear import Linear
from network.teachers.teacher import Encoder, Teacher
from utils.scan.records import Batch

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet; DINOv2 and DINOv3 were trained with them

Sizes = Sequence[tuple[int, int]]
"""(height, width) of each of the images of a batch."""


class FoundationEncoder:
    """A frozen vision transformer.

    Args:
        model: a `Dinov2Model` or `DINOv3ViTModel` of transformers, in fp32: (1, 3, H, W) images go in,
            `last_hidden_state` (1, 1 + registers + patches, D) comes out.
        patch_size: edge of a patch, pixels.
        num_registers: tokens between the class token and those of the patches.
        identity: see `Encoder`.
    """

    def __init__(self, model: nn.Module, patch_size: int, num_registers: int, identity: str) -> None:
        self.model = model.eval().requires_grad_(False)
        self.patch_size = patch_size
        self._first_patch = 1 + num_registers  # after the class token
        self._identity = identity

    @property
    def dimensions(self) -> int:
        """The number D of features of a patch."""
        return int(self.model.config.hidden_size)  # type: ignore[union-attr]

    @property
    def identity(self) -> str:
        """The name of its weights."""
        return self._identity

    def __deepcopy__(self, memo: dict[int, object]) -> FoundationEncoder:
        """Returns the encoder itself: copies of a network, as for averages of its weights, share what is frozen."""
        return self

    def feature_size(self, height: int, width: int) -> tuple[int, int]:
        """Computes the number of patches along a picture (h, w): that which is nearest to its size, at least one."""
        rows, columns = ((size + self.patch_size // 2) // self.patch_size for size in (height, width))
        return max(rows, 1), max(columns, 1)

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """Computes the features of the patches of pictures of one size; autocast applies.

        A picture whose size is no multiple of the patch is resized to `feature_size` patches. Each picture goes through
        the model on its own: numbers would differ in their last bits with the number of pictures in a batch.

        Args:
            images: (B, 3, H, W) uint8 RGB.

        Returns:
            (B, h, w, D) float16, on the device of the images.
        """
        if images.dtype != torch.uint8:
            raise ValueError(f"a frozen teacher wants uint8 images, got {images.dtype}")
        if next(self.model.parameters()).device != images.device:
            self.model.to(images.device)
        size = self.feature_size(images.shape[2], images.shape[3])
        maps = torch.empty((len(images), *size, self.dimensions), dtype=torch.float16, device=images.device)
        for part, image in zip(maps, images, strict=True):
            part.copy_(self._patches(image[None], *size))
        return maps

    def _patches(self, image: Tensor, h: int, w: int) -> Tensor:
        """Computes the (h, w, D) features of the patches of an image (1, 3, H, W)."""
        pixels = image.float() / 255
        whole = (h * self.patch_size, w * self.patch_size)
        if pixels.shape[2:] != whole:
            pixels = F.interpolate(pixels, whole, mode="bilinear", antialias=True)
        mean, std = (pixels.new_tensor(values).view(3, 1, 1) for values in (_MEAN, _STD))
        tokens = self.model((pixels - mean) / std).last_hidden_state
        return tokens[0, self._first_patch :].unflatten(0, (h, w))


class FoundationTeacher(Teacher):
    """A frozen encoder and one trained linear layer per scale on its features.

    Args:
        encoder: computes the features of a picture; it is no part of the parameters nor of the state.
        channels: C of the result.
        scale_list: the scales that have a head.
    """

    def __init__(self, encoder: Encoder, channels: int, scale_list: Sequence[int]) -> None:
        super().__init__()
        self.encoder = encoder
        self.heads = nn.ModuleDict({str(s): Linear(encoder.dimensions, channels) for s in sorted(set(scale_list))})

    @property
    def dimensions(self) -> int:
        """The number D of features of a point before the heads."""
        return self.encoder.dimensions

    @property
    def frozen_weights(self) -> str | None:
        """The name of the encoder's weights."""
        return self.encoder.identity

    def at_points(self, batch: Batch) -> dict[int, Tensor]:
        """Computes scale -> (M, C) features of the points that have a pixel."""
        features = self.point_features(batch)
        return {int(scale): head(features) for scale, head in self.heads.items()}

    @torch.no_grad()
    def point_features(self, batch: Batch) -> Tensor:
        """Computes the (M, D) float32 features of the encoder at the points that have a pixel."""
        sizes, maps = batch.image_sizes, batch.image_features
        if maps is None:
            if batch.images is None:
                raise ValueError("a frozen teacher wants images; this batch has none")
            height, width = batch.images.shape[2:]
            sizes = sizes or ((height, width),) * batch.num_scans
            maps = encode_each(self.encoder, batch.images, sizes)
        extents = [self.encoder.feature_size(*size) for size in sizes]
        return sample(maps, extents, sizes, batch.scan_ids[batch.visible], batch.pixels[batch.visible])


def encode_each(encoder: Encoder, images: Tensor, sizes: Sizes) -> Tensor:
    """Encodes the pictures of a batch that may differ in size.

    Args:
        encoder: computes the features.
        images: (B, 3, H, W) uint8 RGB; a smaller picture lies in the upper left corner.
        sizes: of the pictures.

    Returns:
        (B, h, w, D) float16; a smaller map lies in the upper left corner, zeros around it.
    """
    extents = [encoder.feature_size(*size) for size in sizes]
    largest = [max(edges) for edges in zip(*extents, strict=True)]
    maps = torch.zeros((len(images), *largest, encoder.dimensions), dtype=torch.float16, device=images.device)
    for part, image, (height, width), (h, w) in zip(maps, images, sizes, extents, strict=True):
        part[:h, :w] = encoder.encode(image[None, :, :height, :width])[0]
    return maps


def sample(maps: Tensor, extents: Sizes, sizes: Sizes, image_ids: Tensor, pixels: Tensor) -> Tensor:
    """Computes the features at pixels, bilinear between the centres of patches, clamped beyond those at the border.

    Of n patches along s pixels, patch p covers s / n of them from p * s / n on, and a pixel lies at its centre: pixel i
    is at (i + 1/2) * n / s - 1/2 patches.

    Args:
        maps: (B, h, w, D) features of patches.
        extents: number of patches of each image; the rest of its map is not looked at.
        sizes: of each image, pixels.
        image_ids: (M,) int64, number of the image of each pixel.
        pixels: (M, 2) int64 (row, column).

    Returns:
        (M, D) float32.
    """
    counts, pixel_counts = (torch.tensor(values, device=maps.device)[image_ids] for values in (extents, sizes))
    at = (pixels + 0.5) * (counts / pixel_counts) - 0.5
    at = torch.minimum(at.clamp(min=0), counts - 1)
    low = at.floor().long()
    high = torch.minimum(low + 1, counts - 1)
    share = at - low
    flat, (h, w) = maps.flatten(0, 2), maps.shape[1:3]
    found = torch.zeros(len(pixels), maps.shape[3], device=maps.device)
    for rows, of_rows in ((low[:, 0], 1 - share[:, 0]), (high[:, 0], share[:, 0])):
        for columns, of_columns in ((low[:, 1], 1 - share[:, 1]), (high[:, 1], share[:, 1])):
            cells = (image_ids * h + rows) * w + columns
            found += (of_rows * of_columns)[:, None] * flat.index_select(0, cells).float()
    return found
