"""Pre-training by distillation: the 3D network learns the features of a frozen image network, without any label.

points -> voxels -> 3D network -> features of the points -> linear head -+
                                                                         +-> distance of the directions
image  -> frozen teacher -> features at the pixels of the points --------+

The loss is that of ScaLR (Puy et al., "Three Pillars improving Vision Foundation Model Distillation for Lidar", CVPR
2024): the L2 distance between the two features, each scaled to length 1. A fine-tuning takes the 3D network; the head
has done its duty then.
"""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from network.models.network_3d import HIDDEN, Network3D
from network.models.segmentation_network import SegmentationNetwork
from network.ops.linear import Linear
from network.teachers.resnet34 import ImageBranch
from network.teachers.teacher import Teacher
from utils.scan.records import Batch


class FrozenTeacher(Protocol):
    """A `Teacher` that gives one feature for each point in the image, without anything that is trained."""

    @property
    def dimensions(self) -> int:
        """The number D of its features."""
        ...

    @property
    def frozen_weights(self) -> str | None:
        """The weights that it has, in one line, where they are no part of its state; else None."""
        ...

    def point_features(self, batch: Batch) -> Tensor:
        """Computes the (M, D) float32 features at the pixels of the visible points, without gradients."""
        ...


class StageTeacher(ImageBranch):
    """A frozen ResNet-34 whose stages teach: the features of all stages at a pixel, each scaled to length 1.

    What the decoders of the image branch make of the stages is not used: they know nothing where the weights are those
    of ImageNet.
    """

    @property
    def dimensions(self) -> int:
        """The number D of its features: the channels of all stages."""
        return sum(self.stage_channels)

    def point_features(self, batch: Batch) -> Tensor:
        """Computes the (M, D) float32 features at the pixels of the visible points, without gradients.

        Raises:
            ValueError: the batch has no images.
        """
        if batch.images is None:
            raise ValueError("a pre-training by distillation needs images; this batch has none")
        with torch.no_grad():
            image_ids, pixels = batch.scan_ids[batch.visible], batch.pixels[batch.visible]
            stages = self.stages_at(batch.images, image_ids, pixels)
            return torch.cat([F.normalize(features.float(), dim=1) for features in stages], dim=1)


class DistillationPretraining(SegmentationNetwork):
    """The training model of --pretrain_distill: 3D network, frozen teacher, and a linear head between their features.

    Its tensors are called as those of `Arch2DPASS`, so that a fine-tuning takes them by their names.

    Args:
        network_3d: the network that learns. Its classifier is taken out: no label says what it should learn, and a
            fine-tuning starts it new.
        image_branch: the teacher.
    """

    def __init__(self, network_3d: Network3D, image_branch: FrozenTeacher) -> None:
        super().__init__()
        network_3d.classifier = nn.Identity()
        self.network_3d, self.backend, self.takes_age = network_3d, network_3d.backend, network_3d.takes_age
        assert isinstance(image_branch, Teacher)
        self.image_branch = image_branch.requires_grad_(False)
        self.pretraining_head = Linear(HIDDEN, image_branch.dimensions)

    def train(self, mode: bool = True) -> DistillationPretraining:
        """Sets the mode of all but the teacher, whose BatchNorms keep the statistics of its own training."""
        super().train(mode)
        self.image_branch.eval()
        return self

    def teacher_weights(self) -> str | None:
        """Returns which weights the teacher has, where they are no part of checkpoints."""
        return self.image_branch.frozen_weights

    def geometry(self) -> dict[str, list[float]]:
        """Returns the geometry of the 3D network."""
        return self.network_3d.geometry()

    def input_weights(self) -> dict[str, int]:
        """Returns the weights of the first layer of the 3D network."""
        return {f"network_3d.{name}": axis for name, axis in self.network_3d.input_weights().items()}

    def output_weights(self) -> list[str]:
        """Returns no names: nothing here has an entry for each class."""
        return []

    def training_losses(self, batch: Batch) -> dict[str, Tensor]:
        """Computes the distance between the features of the visible points and those of the teacher, as "loss".

        Raises:
            ValueError: the batch has no images.
        """
        points = self.network_3d(self.network_3d.voxelize(batch)).logits  # without a classifier: what it would get
        learned = self.pretraining_head(points.index_select(0, batch.visible))
        return {"loss": feature_distance(learned, self.image_branch.point_features(batch))}


def feature_distance(learned: Tensor, taught: Tensor) -> Tensor:
    """Computes the mean L2 distance between (M, D) features of length 1 (the loss of ScaLR), a scalar in 0..2.

    Without a point, the distance is 0.
    """
    difference = F.normalize(learned.float(), dim=1) - F.normalize(taught.float(), dim=1)
    return torch.linalg.vector_norm(difference, dim=1).sum() / max(len(difference), 1)
