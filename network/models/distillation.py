"""Multi-Scale Fusion-to-Single Knowledge Distillation (MSFSKD; 2DPASS, section 3.3) is used in training only.

At each scale the 2D and 3D features of the M points in the image are fused. The fused prediction is the teacher of the
prediction from 3D features alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from network.models.losses import SegmentationLoss, distillation_loss
from network.ops.linear import Linear
from network.ops.sums import RowSum
from network.voxels.voxelize import Voxels
from utils.scan.records import Batch

_LAST = 2  # number of the last layer of a head


def _prediction_head(c_in: int, num_classes: int) -> nn.Sequential:
    return nn.Sequential(Linear(c_in, 128), nn.ReLU(inplace=True), Linear(128, num_classes))


class FusionBlock(nn.Module):
    """The fusion of 2D and 3D features at one scale, with the two prediction heads of that scale."""

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__()
        self.learner = Linear(channels, channels)
        self.fuse = Linear(2 * channels, channels)
        self.gate = Linear(channels, channels)
        self.predict_3d = _prediction_head(channels, num_classes)
        self.predict_fused = _prediction_head(channels, num_classes)

    def forward(self, g: Tensor, h: Tensor) -> Tensor:
        """Fuses 3D features g and image features h of M points, both (M, C), into features (M, C).

        The paper's figure adds a residual after the gate. The published weights were trained without it.
        """
        a = F.relu(self.learner(g))
        z = self.fuse(torch.cat([h, a], dim=1))
        return F.relu(z * torch.sigmoid(self.gate(z)))


class MSFSKD(nn.Module):
    """The fusion blocks of all scales and the classifier of their concatenated features.

    Args:
        scale_list: scale of the voxels after each encoder block.
        channels: C of the 3D and of the image features.
        num_classes: K.
        criterion: the segmentation loss, used for both predictions of a scale.
        lambda_seg2d: weight of the loss of the fused predictions.
        lambda_xm: weight of the distillation loss.
    """

    def __init__(
        self,
        scale_list: Sequence[int],
        channels: int,
        num_classes: int,
        criterion: SegmentationLoss,
        lambda_seg2d: float,
        lambda_xm: float,
    ) -> None:
        super().__init__()
        self.scale_list, self.num_classes = tuple(scale_list), num_classes
        self.lambda_seg2d, self.lambda_xm = lambda_seg2d, lambda_xm
        self.blocks = nn.ModuleList([FusionBlock(channels, num_classes) for _ in scale_list])
        self.classifier = _prediction_head(len(scale_list) * channels, num_classes)
        self.criterion = criterion

    def output_weights(self) -> list[str]:
        """Returns the names of the weights that have an entry for each class, on their first axis."""
        heads = [f"blocks.{i}.{head}" for i in range(len(self.blocks)) for head in ("predict_3d", "predict_fused")]
        return [f"{head}.{_LAST}.{name}" for head in (*heads, "classifier") for name in ("weight", "bias")]

    def forward(
        self, voxel_features: list[Tensor], voxels: Voxels, image_features: dict[int, Tensor], batch: Batch
    ) -> dict[str, Tensor]:
        """Computes named scalar losses: "loss_scale{s}_{i}" of block i at scale s, and "loss_fusion".

        Args:
            voxel_features: for each block (V_l, C), the features on the voxels `voxels.finer(block)`.
            voxels: the voxels of the batch.
            image_features: scale -> (M, C) features of the image branch at the pixels of the visible points.
            batch: its labels are used, and which points are visible.
        """
        visible = batch.visible
        labels = batch.labels[visible]
        num_scales = len(self.scale_list)
        losses, fused_features = {}, []
        for i, (block, scale) in enumerate(zip(self.blocks, self.scale_list, strict=True)):
            assert isinstance(block, FusionBlock)
            grid = voxels.finer(i)
            in_view = RowSum.gathering(grid.inverse[visible], len(grid))  # to the points in the image
            pure_3d = block.predict_3d(voxel_features[i])
            u = block(in_view(voxel_features[i]), image_features[scale])
            fused = block.predict_fused(u)
            losses[f"loss_scale{scale}_{i}"] = (
                self.criterion(pure_3d, grid.majority_label(batch.labels, self.num_classes, batch.counted))
                + self.criterion(fused, labels) * self.lambda_seg2d / num_scales
                + distillation_loss(in_view(pure_3d), fused) * self.lambda_xm / num_scales
            )
            fused_features.append(u)
        losses["loss_fusion"] = self.criterion(self.classifier(torch.cat(fused_features, dim=1)), labels)
        return losses
