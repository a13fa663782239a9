"""MSFSKD, Multi-Scale Fusion-to-Single Knowledge Distillation (paper, section 3.3). Used in training only.

At each scale the 2D and 3D features of the points in the image are fused; the fused prediction teaches the pure 3D one.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from network.models.losses import SegmentationLoss, distillation_loss
from network.ops.sums import RowSum
from network.voxels.voxelize import Voxels
from utils.scan.records import Batch


def _prediction_head(c_in: int, num_classes: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(c_in, 128), nn.ReLU(inplace=True), nn.Linear(128, num_classes))


class FusionBlock(nn.Module):
    """Fusion and the two predictions of one scale."""

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__()
        self.learner = nn.Linear(channels, channels)
        self.fuse = nn.Linear(2 * channels, channels)
        self.gate = nn.Linear(channels, channels)
        self.predict_3d = _prediction_head(channels, num_classes)
        self.predict_fused = _prediction_head(channels, num_classes)

    def forward(self, g: Tensor, h: Tensor) -> Tensor:
        """3D features g and image features h of M points, both (M, C) -> fused features (M, C).

        The paper's figure adds a residual behind the gate; the published weights are without it.
        """
        a = F.relu(self.learner(g))
        z = self.fuse(torch.cat([h, a], dim=1))
        return F.relu(z * torch.sigmoid(self.gate(z)))


class MSFSKD(nn.Module):
    """The fusion and distillation heads over all scales."""

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

    def forward(
        self, voxel_features: list[Tensor], voxels: Voxels, image_features: dict[int, Tensor], batch: Batch
    ) -> dict[str, Tensor]:
        """Named scalar losses: "loss_scale{s}_{i}" per block and "loss_fusion".

        Args:
            voxel_features: per block (V_l, C), on `voxels.finer(block)`.
            voxels: the batch's voxels.
            image_features: scale -> (M, C) of the image branch, under the visible points.
            batch: labels, and which points are visible.
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
                self.criterion(pure_3d, grid.majority_label(batch.labels, self.num_classes))
                + self.criterion(fused, labels) * self.lambda_seg2d / num_scales
                + distillation_loss(in_view(pure_3d), fused) * self.lambda_xm / num_scales
            )
            fused_features.append(u)
        losses["loss_fusion"] = self.criterion(self.classifier(torch.cat(fused_features, dim=1)), labels)
        return losses
