"""2DPASS trains a 3D network with the help of a 2D branch that sees a crop of the camera image (ECCV 2022, figure 2).

points -> voxels -> 3D network -> logits                                        (all that runs at test time)
                        | features per scale
image  -> 2D branch ----+-> MSFSKD: fuse, predict, distil into the 3D network   (training only)
"""

from __future__ import annotations

from torch import Tensor

from network.models.distillation import MSFSKD
from network.models.network_3d import Network3D
from network.models.segmentation_network import SegmentationNetwork
from network.teachers.teacher import Teacher
from utils.scan.records import Batch


class Arch2DPASS(SegmentationNetwork):
    """The training model of 2DPASS: 3D network, image branch and distillation.

    `predict` calls the 3D network alone and never reads an image.
    """

    def __init__(self, network_3d: Network3D, image_branch: Teacher, distillation: MSFSKD) -> None:
        super().__init__()
        self.network_3d, self.backend, self.takes_age = network_3d, network_3d.backend, network_3d.takes_age
        self.image_branch = image_branch
        self.distillation = distillation

    def geometry(self) -> dict[str, list[float]]:
        """Returns the geometry of the 3D network."""
        return self.network_3d.geometry()

    def input_weights(self) -> dict[str, int]:
        """Returns the weights of the first layer of the 3D network."""
        return {f"network_3d.{name}": axis for name, axis in self.network_3d.input_weights().items()}

    def output_weights(self) -> list[str]:
        """Returns the weights of the last layers of the 3D network and of all heads of the distillation."""
        of_heads = [f"distillation.{name}" for name in self.distillation.output_weights()]
        return [f"network_3d.{name}" for name in self.network_3d.output_weights()] + of_heads

    def teacher_weights(self) -> str | None:
        """Returns which weights of the image branch are frozen."""
        return self.image_branch.frozen_weights

    def evaluated(self) -> SegmentationNetwork:
        """Returns the 3D network."""
        return self.network_3d

    def predict(self, batch: Batch) -> Tensor:
        """Computes the (P, K) logits of the 3D network."""
        return self.network_3d.predict(batch)

    def training_losses(self, batch: Batch) -> dict[str, Tensor]:
        """Computes named scalar losses; "loss" is the total: 3D loss + the loss of every scale + the fusion loss.

        Raises:
            ValueError: the batch has no images.
        """
        voxels = self.network_3d.voxelize(batch)
        features = self.network_3d(voxels)
        image_features = self.image_branch.at_points(batch)
        point_losses = self.network_3d.point_losses(features.logits, batch)
        distilled = self.distillation(features.voxel_features, voxels, image_features, batch)
        total = point_losses["loss"] + sum(distilled.values())
        return {**point_losses, **distilled, "loss_3d": point_losses["loss"], "loss": total}
