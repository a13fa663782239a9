"""A teacher: the camera images and pixels of a batch go in, one feature per point and scale comes out.

There are two kinds. ResNet-34 is trained along, as published. A frozen teacher is an encoder whose weights never change
and small heads on its features, which are trained; its encoder is no part of the network: not of its parameters, nor of
its checkpoints, and it computes what depends on the picture alone.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Protocol

from torch import Tensor, nn

from utils.scan.records import Batch


class Teacher(nn.Module, ABC):
    """A network that computes image features at the points of a batch, for each scale of the 3D network."""

    @property
    def frozen_weights(self) -> str | None:
        """The name of those of its weights that are never trained; None: all are trained."""
        return None

    @abstractmethod
    def at_points(self, batch: Batch) -> dict[int, Tensor]:
        """Computes the features of the M points of a batch that have a pixel.

        Returns:
            Scale -> (M, C) features, in the order of `batch.visible`.

        Raises:
            ValueError: the batch has no images.
        """


class Encoder(Protocol):
    """A frozen image encoder: a picture goes in, a map of features comes out, the same for the same picture.

    It is no torch module, so that a network that holds it does not count it as a part of itself.
    """

    @property
    def dimensions(self) -> int:
        """The number D of features of a cell of the map."""
        ...

    @property
    def identity(self) -> str:
        """The name of its weights: that of the model and the digest of the file, in one line."""
        ...

    def feature_size(self, height: int, width: int) -> tuple[int, int]:
        """Computes the height and width (h, w) of the map of a picture of `height` x `width` pixels."""
        ...

    def encode(self, images: Tensor) -> Tensor:
        """Computes the maps of pictures of one size, (B, 3, H, W) uint8 RGB, as (B, h, w, D) float16."""
        ...
